//! The network, without any idea of tunnels or MCP.
//!
//! One way to build an HTTP client for a route ([`HttpClient`]), cancellation that reaches into
//! blocked calls ([`Cancel`]), deadlines, back-off. Invariant: every wait in here ends at its
//! deadline or when its [`Cancel`] fires, whichever comes first.

mod address;
mod backoff;
mod basic_auth;
mod cancel;
mod connection;
mod deadline;
mod digest;
mod encoding;
mod error;
mod fields;
pub(crate) mod front;
mod headers;
mod http;
mod http_date;
pub(crate) mod long;
mod origin;
mod proxy;
mod reason;
mod route;
pub(crate) mod service_manager;
mod tls;
mod waker;

pub use self::address::is_no_server_address;
pub use self::backoff::{Backoff, retry_after};
pub(crate) use self::basic_auth::basic_of_user_info;
pub use self::cancel::{Cancel, CancelGuard};
pub use self::connection::{ProxyCheck, ProxyFailure, check_proxy};
pub use self::deadline::Deadline;
pub(crate) use self::digest::{hex_sha256, sha256};
pub(crate) use self::encoding::{base64, base64_decoded, percent_decoded, percent_decoded_text};
pub use self::error::{Cause, Error};
pub(crate) use self::fields::{NEVER_FORWARDED, canonical, is_name, is_value};
pub use self::headers::HeaderList;
pub use self::http::{Body, Cut, HttpClient, HttpExchange, Request, Response};
pub(crate) use self::http_date::days_from_epoch;
pub use self::origin::Origin;
pub use self::proxy::{
    Decision, EnvironmentProxies, ProxyIdentity, ProxyKind, ProxyPolicy, ProxyUrl, ProxyUrlError,
    RouteDescription, RouteKind, proxy_identities,
};
pub(crate) use self::reason::{reason_phrase, status_line};
pub use self::route::{Limits, Route, Via};
pub use self::tls::{
    BundleReport, CertificateReport, ClientCertificate, ClientCertificateError, OriginCertificate,
    SystemTrust, Trust, TrustError, TrustReport,
};
pub(crate) use self::waker::Waker;
pub use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
