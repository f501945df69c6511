//! Which events are written, and the component they carry.

use log::{Level, Record};

/// The components, that is the log targets, of our own events.
pub const COMPONENTS: &[&str] = &[
    "adminui",
    "cloudflared",
    "controlplane",
    "dispatcher",
    "harpoon",
    "health",
    "mcpclient",
    "oauth",
    "process",
    "proxyhealth",
    "server",
];

/// Events without a component: their target is the path of one of our own modules.
const OWN_CRATE: &str = "tunnel_client";

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission<'a> {
    /// Written, with this component.
    Component(&'a str),
    /// Written, without a component.
    Plain,
    /// Dropped.
    Dropped,
}

/// Decides by target and level.
pub(super) fn admit<'a>(record: &Record<'a>) -> Admission<'a> {
    let target = record.target();
    let krate = target.split("::").next().unwrap_or(target);
    if COMPONENTS.contains(&target) {
        Admission::Component(target)
    } else if krate == OWN_CRATE {
        Admission::Plain
    } else if record.level() <= Level::Warn {
        Admission::Component(target)
    } else {
        Admission::Dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_other_crates_is_dropped() {
        let cases = [
            ("health", Level::Debug, Admission::Component("health")),
            ("tunnel_client::daemon", Level::Info, Admission::Plain),
            ("tunnel_client", Level::Debug, Admission::Plain),
            ("tunnel_client_other", Level::Info, Admission::Dropped),
            ("ureq::run", Level::Debug, Admission::Dropped),
            ("rustls::conn", Level::Info, Admission::Dropped),
            ("rustls::conn", Level::Warn, Admission::Component("rustls::conn")),
        ];
        for (target, level, expected) in cases {
            let record = Record::builder().target(target).level(level).build();
            assert_eq!(admit(&record), expected, "{target} {level}");
        }
    }
}
