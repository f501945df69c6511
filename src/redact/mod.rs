//! Redaction of text and of key/value pairs before anyone sees them.
//!
//! Pure functions: free [`text`], sensitive key names, URLs, command lines, environment, documents.
//! Invariant: redaction knows no context; it errs on the side of hiding.

mod keys;
mod known;
mod members;
mod message;
mod process;
mod text;
mod tokens;
mod urls;
mod values;

pub use keys::{is_header_list_key, is_sensitive_key, is_sensitive_setting, setting_value};
pub use known::KnownSecrets;
pub use message::{http_message, payload};
pub use process::{arguments, environment};
pub use text::{known_values, text};
pub use urls::{origin, snapshot, urls_to_origins, without_credentials};
pub use values::{admin_json, calls_json, document};

/// What stands where something was hidden.
pub const REDACTED: &str = "[REDACTED]";
