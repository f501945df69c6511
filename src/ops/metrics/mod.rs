//! The metrics registry.
/// The registry.
#[derive(Default)]
pub struct Metrics;
impl Metrics {
    /// Text exposition.
    pub fn scrape(&self, _ready: bool) -> String {
        String::new()
    }
}
