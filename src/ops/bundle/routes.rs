//! `/api/logs/export`: the support bundle as a download.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Bundle, asked};
use crate::ops::listener::{Content, Module, Request, Response};

/// Answers with a bundle. Access is for [`crate::ops::listener::Guarded`] to decide.
pub struct BundleRoutes(Arc<Bundle>);

impl BundleRoutes {
    /// Answers with what `bundle` makes.
    pub fn new(bundle: Arc<Bundle>) -> BundleRoutes {
        BundleRoutes(bundle)
    }
}

impl Module for BundleRoutes {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        if request.path != "/api/logs/export" {
            return None;
        }
        if !request.is_read() {
            return Some(Response::method_not_allowed("GET, HEAD"));
        }
        let (window, format) = asked(&request.query);
        let archive = match self.0.export(format, window) {
            Ok(archive) => archive,
            Err(error) => return Some(Response::error(500, &error.to_string())),
        };
        let disposition = format!("attachment; filename=\"{}\"", archive.file_name);
        let headers = vec![
            ("Content-Type", archive.media_type.into()),
            ("Content-Disposition", disposition.into()),
            ("Cache-Control", "no-store, max-age=0".into()),
        ];
        Some(Response { status: 200, headers, content: Content::Bytes(Cow::Owned(archive.bytes)) })
    }
}
