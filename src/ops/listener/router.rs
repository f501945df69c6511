//! Which module answers a request.

use super::request::Request;
use super::response::Response;

/// A group of paths. Modules are asked in the order of [`Router::with`].
pub trait Module: Send + Sync {
    /// The answer, or `None` when the path is not one of this module's.
    fn answer(&self, request: &mut Request<'_>) -> Option<Response>;
}

/// All modules of a listener.
#[derive(Default)]
pub struct Router {
    modules: Vec<Box<dyn Module>>,
}

impl Router {
    /// Answers 404 to everything.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a module behind the others.
    pub fn with(mut self, module: impl Module + 'static) -> Router {
        self.modules.push(Box::new(module));
        self
    }

    pub(super) fn answer(&self, request: &mut Request<'_>) -> Response {
        let answered = self.modules.iter().find_map(|module| module.answer(request));
        answered.unwrap_or_else(|| Response::error(404, "404 page not found"))
    }
}
