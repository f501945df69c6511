//! What every exporter tells about its process: `process_*` (Linux) and `target_info`.

use crate::order;
use std::collections::BTreeMap;
use std::fs;

use super::text::{Exposition, Meta};
use crate::net::percent_decoded_text;

/// Clock ticks a second in `/proc`; the same on every Linux we build for.
const USER_HZ: f64 = 100.0;

/// Adds what `/proc` tells; what it does not tell is left out.
pub(super) fn add_process(text: &mut Exposition) {
    if let Some(stat) = read("/proc/self/stat") {
        // The command's name, in parentheses, may hold anything; fields count from after it.
        let fields: Vec<f64> = stat
            .rsplit_once(") ")
            .map(|(_, rest)| {
                rest.split(' ').skip(1).map(|field| field.trim().parse().unwrap_or(0.0)).collect()
            })
            .unwrap_or_default();
        if let (Some(user), Some(system)) = (fields.get(10), fields.get(11)) {
            let help = "Total user and system CPU time spent in seconds.";
            text.counter(meta("process_cpu_seconds_total", help), &[], (user + system) / USER_HZ);
        }
        let boot = read("/proc/stat").and_then(|stat| value_after(&stat, "btime "));
        if let (Some(started), Some(boot)) = (fields.get(18), boot) {
            let help = "Start time of the process since unix epoch in seconds.";
            text.gauge(meta("process_start_time_seconds", help), &[], boot + started / USER_HZ);
        }
    }
    if let Some(status) = read("/proc/self/status") {
        for (key, name, help) in [
            ("VmSize:", "process_virtual_memory_bytes", "Virtual memory size in bytes."),
            ("VmRSS:", "process_resident_memory_bytes", "Resident memory size in bytes."),
        ] {
            if let Some(kib) = value_after(&status, key) {
                text.gauge(meta(name, help), &[], kib * 1024.0);
            }
        }
    }
    if let Some(limits) = read("/proc/self/limits") {
        for (key, name, help) in [
            ("Max open files ", "process_max_fds", "Maximum number of open file descriptors."),
            (
                "Max address space ",
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
            ),
        ] {
            let unlimited = limits.lines().any(|line| {
                line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with("unlimited"))
            });
            let value = if unlimited { Some(u64::MAX as f64) } else { value_after(&limits, key) };
            if let Some(value) = value {
                text.gauge(meta(name, help), &[], value);
            }
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        text.gauge(meta("process_open_fds", "Number of open file descriptors."), &[], entries.count() as f64);
    }
    if let Some(netstat) = read("/proc/self/net/netstat") {
        for (column, name, help) in [
            (
                "InOctets",
                "process_network_receive_bytes_total",
                "Number of bytes received by the process over the network.",
            ),
            (
                "OutOctets",
                "process_network_transmit_bytes_total",
                "Number of bytes sent by the process over the network.",
            ),
        ] {
            if let Some(bytes) = ip_octets(&netstat, column) {
                text.counter(meta(name, help), &[], bytes);
            }
        }
    }
}

fn meta(name: &'static str, help: &'static str) -> Meta {
    Meta { scope: None, name, help }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The number after `key` at the start of a line.
fn value_after(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A column of the two `IpExt:` lines, of which the first holds the names.
fn ip_octets(netstat: &str, column: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let index = names.split(' ').position(|name| name == column)?;
    values.split(' ').nth(index)?.parse().ok()
}

/// The labels of `target_info`, from `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`, of which the
/// latter wins.
pub(super) fn target_labels(
    executable: &str,
    resource_attributes: &str,
    service_name: &str,
) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = order::gathered([
        ("service_name".to_owned(), format!("unknown_service:{executable}")),
        ("telemetry_sdk_language".to_owned(), "rust".to_owned()),
        ("telemetry_sdk_name".to_owned(), crate::CLIENT_NAME.to_owned()),
        ("telemetry_sdk_version".to_owned(), crate::VERSION.to_owned()),
    ]);
    for pair in resource_attributes.split(',') {
        if let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.trim().is_empty()) {
            labels.insert(label_name(key.trim()), percent_decoded_text(value.trim()));
        }
    }
    if !service_name.trim().is_empty() {
        labels.insert("service_name".to_owned(), service_name.trim().to_owned());
    }
    labels
}

/// Dots and other marks become underscores.
fn label_name(key: &str) -> String {
    let mut name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_service() {
        let default = target_labels("tunnel-client", "", "");
        assert_eq!(default["service_name"], "unknown_service:tunnel-client");
        assert_eq!(default.len(), 4);
        let named = target_labels("x", "service.name=a%20b, deployment.environment=x+y&z,=bad,bad", "");
        assert_eq!(named["service_name"], "a b");
        assert_eq!(named["deployment_environment"], "x+y&z");
        assert_eq!(target_labels("x", "service.name=a", "b")["service_name"], "b");
    }

    #[test]
    fn columns_of_netstat_are_found_by_name() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 123 456\n";
        assert_eq!(ip_octets(text, "InOctets"), Some(123.0));
        assert_eq!(ip_octets(text, "OutOctets"), Some(456.0));
        assert_eq!(ip_octets(text, "Missing"), None);
    }
}
