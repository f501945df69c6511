//! Measures the road of a command; see `CONTRIBUTING.md`.

fn main() {}
