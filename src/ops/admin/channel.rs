//! The channels as `/api/status` shows them.

use crate::order;
use serde_json::{Value, json};

use super::document::Members;
use crate::ops::{Probe, ProbeFailure};

/// One configured channel.
#[derive(Clone, Debug)]
pub struct ChannelReport {
    /// Its name.
    pub name: String,
    /// How its server is reached.
    pub target: ChannelTarget,
    /// Why nothing is routed to it, if so.
    pub disabled: Option<&'static str>,
    /// Commands that run now.
    pub in_flight: Option<usize>,
    /// What is known of the protocol spoken with it.
    pub protocol: Option<Value>,
}

/// How a channel's server is reached.
#[derive(Clone, Debug)]
pub enum ChannelTarget {
    /// Streamable HTTP.
    Http {
        /// The URL.
        address: String,
    },
    /// A child process.
    Stdio {
        /// Of the child that runs; none while none does.
        pid: Option<u32>,
        /// The command line.
        command: String,
    },
}

/// The state of the probe of `main`, as every document names it.
pub(super) fn probe_status(probe: &Probe) -> (&'static str, &str) {
    match probe {
        Probe::Pending => ("pending", ""),
        Probe::Ok => ("ok", ""),
        Probe::Failed { kind: ProbeFailure::Unauthorized, error } => ("auth-required", error.trim()),
        Probe::Failed { kind: ProbeFailure::TimedOut, error } => ("timeout", error.trim()),
        Probe::Failed { error, .. } => ("failed", error.trim()),
    }
}

/// All channels: the configured ones by name, then `harpoon`.
pub(super) fn all(mut channels: Vec<ChannelReport>, probe: &Probe, harpoon: Value) -> Value {
    order::sort_by(&mut channels, |a, b| a.name.cmp(&b.name));
    let mut shown: Vec<Value> = channels.iter().map(|channel| channel.document(probe)).collect();
    if shown.is_empty() {
        shown.push(json!({
            "name": "main", "enabled": false, "server_kind": "external", "transport_kind": "unknown",
            "reason": "mcp config missing",
        }));
    }
    shown.push(harpoon);
    shown.into()
}

/// The channel of the embedded caller; `status` is its own document.
pub(super) fn harpoon(status: Option<&Value>, polled: bool) -> Value {
    let enabled = status.is_some_and(|status| status["enabled"] == true);
    let reason = match (status, enabled, polled) {
        (None, ..) => "harpoon registry missing",
        (_, false, _) => "no harpoon targets registered",
        (_, true, false) => NOT_POLLED,
        (_, true, true) => "",
    };
    let channel = Members::new()
        .with("name", "harpoon")
        .with("enabled", enabled && polled)
        .with("server_kind", "builtin")
        .with("transport_kind", "in-memory")
        .with_some("reason", reason);
    channel.into()
}

/// Why a channel that is configured gets no commands.
pub(crate) const NOT_POLLED: &str = "not in control_plane.poll_channels";

impl ChannelReport {
    fn document(&self, probe: &Probe) -> Value {
        let (transport, details) = match &self.target {
            ChannelTarget::Http { address } => ("http-streamable", vec![("address", address.clone())]),
            ChannelTarget::Stdio { pid, command } => {
                let pid = pid.map_or_else(|| "—".to_owned(), |pid| pid.to_string());
                ("stdio", vec![("pid", pid), ("command", command.clone())])
            }
        };
        let (mut enabled, mut reason) = (self.disabled.is_none(), self.disabled.unwrap_or_default());
        let (mut status, mut error) = ("", "");
        if self.name == "main" && enabled {
            (status, error) = probe_status(probe);
            reason = match status {
                "auth-required" => "mcp initialize requires auth",
                "timeout" => "initial mcp probe timed out",
                "failed" => "initial mcp probe failed",
                _ => "",
            };
            enabled = status != "failed";
        }
        let details: Vec<Value> =
            details.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let channel = Members::new()
            .with("name", self.name.as_str())
            .with("enabled", enabled)
            .with("server_kind", "external")
            .with("transport_kind", transport)
            .with_some("probe_status", status)
            .with_some("probe_error", error)
            .with_some("reason", reason)
            .with_some("details", details)
            .with_some("protocol", self.protocol.clone().unwrap_or_default());
        // Nothing in flight says something.
        match self.in_flight {
            Some(running) => channel.with("in_flight", running).into(),
            None => channel.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn main() -> ChannelReport {
        ChannelReport {
            name: "main".into(),
            target: ChannelTarget::Http { address: "http://h/mcp".into() },
            disabled: None,
            in_flight: None,
            protocol: None,
        }
    }

    #[test]
    fn the_probe_concerns_main_only() {
        let failed = |kind| Probe::Failed { kind, error: " boom ".into() };
        for (probe, enabled, status, error, reason) in [
            (Probe::Pending, true, "pending", Value::Null, Value::Null),
            (Probe::Ok, true, "ok", Value::Null, Value::Null),
            (
                failed(ProbeFailure::Unauthorized),
                true,
                "auth-required",
                "boom".into(),
                "mcp initialize requires auth".into(),
            ),
            (
                failed(ProbeFailure::TimedOut),
                true,
                "timeout",
                "boom".into(),
                "initial mcp probe timed out".into(),
            ),
            (failed(ProbeFailure::Other), false, "failed", "boom".into(), "initial mcp probe failed".into()),
            (
                failed(ProbeFailure::WaitExhausted),
                false,
                "failed",
                "boom".into(),
                "initial mcp probe failed".into(),
            ),
        ] {
            let tools = ChannelReport {
                name: "a-tools".into(),
                target: ChannelTarget::Stdio { pid: None, command: "run me".into() },
                disabled: Some(NOT_POLLED),
                ..main()
            };
            let all = all(vec![main(), tools], &probe, harpoon(None, true));
            assert_eq!(all[0]["name"], "a-tools");
            assert_eq!(all[0]["details"][0], json!({"key": "pid", "value": "—"}));
            assert_eq!((&all[0]["enabled"], &all[0]["reason"]), (&false.into(), &NOT_POLLED.into()));
            assert!(all[0].get("probe_status").is_none());
            let main = &all[1];
            assert_eq!(main["enabled"], enabled);
            assert_eq!(main["probe_status"], status);
            assert_eq!((&main["probe_error"], &main["reason"]), (&error, &reason), "{probe:?}");
            assert_eq!(main["details"], json!([{"key": "address", "value": "http://h/mcp"}]));
            assert_eq!(all[2]["reason"], "harpoon registry missing");
        }
    }

    #[test]
    fn a_client_without_channels_shows_what_is_missing() {
        let status = json!({"enabled": true});
        let all = all(Vec::new(), &Probe::Ok, harpoon(Some(&status), true));
        assert_eq!((&all[0]["name"], &all[0]["reason"]), (&"main".into(), &"mcp config missing".into()));
        assert_eq!((&all[1]["enabled"], all[1].get("reason")), (&true.into(), None));
        let off = harpoon(Some(&json!({"enabled": false})), true);
        assert_eq!(off["reason"], "no harpoon targets registered");
        assert_eq!(harpoon(Some(&status), false)["reason"], NOT_POLLED);
    }
}
