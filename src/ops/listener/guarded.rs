//! Everything behind the access rules: local peers, known hosts, own origin, and headers that keep
//! browsers from helping anyone else.
//!
//! Invariant: a module in here is not even asked about a request that breaks a rule.

use super::guard;
use super::request::Request;
use super::response::Response;
use super::router::{Module, Router};

/// Header fields of every answer that has none of that name.
const SECURITY: [(&str, &str); 5] = [
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
];

/// The rest of a listener's paths. Answers every request: with 403, as one of its modules does, or 404.
pub struct Guarded {
    allow_remote: bool,
    own_host: String,
    router: Router,
}

impl Guarded {
    /// Guards nothing yet. `own_host` is the host of the listen address, as configured.
    pub fn new(allow_remote: bool, own_host: impl Into<String>) -> Guarded {
        Guarded { allow_remote, own_host: own_host.into(), router: Router::new() }
    }

    /// Adds a module behind the others.
    pub fn with(self, module: impl Module + 'static) -> Guarded {
        Guarded { router: self.router.with(module), ..self }
    }
}

impl Module for Guarded {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        let mut response = match guard::check(request, self.allow_remote, &self.own_host) {
            Ok(()) => self.router.answer(request),
            Err(refused) => refused.response(),
        };
        for (name, value) in SECURITY {
            if !response.headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name)) {
                response = response.with(name, value);
            }
        }
        Some(response)
    }
}
