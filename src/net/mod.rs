//! The network, without any idea of tunnels or MCP.
//!
//! One way to build an HTTP client for a route ([`HttpClient`]), cancellation that reaches into
//! blocked calls ([`Cancel`]), deadlines, back-off. Invariant: every wait in here ends at its
//! deadline or when its [`Cancel`] fires, whichever comes first.

mod backoff;
mod cancel;
mod deadline;
mod error;
mod headers;
mod http;
mod http_date;

pub use self::backoff::{Backoff, retry_after};
pub use self::cancel::{Cancel, CancelGuard};
pub use self::deadline::Deadline;
pub use self::error::{Cause, Error};
pub use self::headers::HeaderList;
pub use self::http::{Body, HttpClient, Limits, Request, Response, Route, Via};
pub use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
