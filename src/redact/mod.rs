//! Redaction of text and of key/value pairs before anyone sees them.
//!
//! Invariant: redaction knows no context; it errs on the side of hiding.
