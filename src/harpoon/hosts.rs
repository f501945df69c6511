//! Which hosts count as private, as the operator says.
//!
//! Judged by the name alone: no name is looked up. Invariant: the answer is the same whoever asks and
//! whenever, so that a name service cannot change it.

use std::net::IpAddr;

use regex_lite::{Regex, RegexBuilder};

/// The operator's rules.
#[derive(Debug, Default)]
pub struct PrivateHosts {
    /// `localhost`, 127.0.0.0/8 and ::1 are private.
    pub loopback: bool,
    /// 10/8, 172.16/12, 192.168/16 and fc00::/7 are private.
    pub private: bool,
    /// Lower case, each with its leading dot.
    suffixes: Vec<String>,
    patterns: Vec<(String, Regex)>,
}

impl PrivateHosts {
    /// Rules with `suffixes` and `patterns`; a pattern that does not compile is left out.
    pub fn new(loopback: bool, private: bool, suffixes: &[String], patterns: &[String]) -> PrivateHosts {
        let dotted = |suffix: &String| format!(".{}", suffix.trim().trim_start_matches('.').to_lowercase());
        let compiled = |pattern: &String| {
            let regex = RegexBuilder::new(pattern).case_insensitive(true).build();
            regex.ok().map(|regex| (pattern.clone(), regex))
        };
        PrivateHosts {
            loopback,
            private,
            suffixes: suffixes.iter().map(dotted).filter(|suffix| suffix.len() > 1).collect(),
            patterns: patterns.iter().filter_map(compiled).collect(),
        }
    }

    /// Why `host` is private; `None` if it is not. Brackets of an IPv6 literal and one trailing dot do not
    /// matter.
    pub fn reason(&self, host: &str) -> Option<String> {
        let host = host.trim().trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        if self.loopback && (host == "localhost" || address.is_some_and(|address| address.is_loopback())) {
            return Some("loopback".to_owned());
        }
        if self.private && address.is_some_and(is_private) {
            return Some("private-ip".to_owned());
        }
        if let Some(suffix) =
            self.suffixes.iter().find(|suffix| host == &suffix[1..] || host.ends_with(*suffix))
        {
            return Some(format!("suffix:{suffix}"));
        }
        let (pattern, _) = self.patterns.iter().find(|(_, regex)| regex.is_match(host))?;
        Some(format!("regex:(?i:{pattern})"))
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_private_by_the_first_rule_that_says_so() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let hosts = PrivateHosts::new(
            true,
            true,
            &texts(&["internal", ".Corp.example"]),
            &texts(&["^idp-[0-9]+\\.", "["]),
        );
        for (host, reason) in [
            ("localhost", Some("loopback")),
            ("LOCALHOST.", Some("loopback")),
            ("127.9.9.9", Some("loopback")),
            ("[::1]", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("10.0.0.1", Some("private-ip")),
            ("172.31.255.255", Some("private-ip")),
            ("192.168.0.1", Some("private-ip")),
            ("fd00::1", Some("private-ip")),
            ("::ffff:10.0.0.1", Some("private-ip")),
            ("internal", Some("suffix:.internal")),
            ("api.internal", Some("suffix:.internal")),
            ("a.corp.EXAMPLE.", Some("suffix:.corp.example")),
            ("IDP-7.example", Some("regex:(?i:^idp-[0-9]+\\.)")),
            ("notinternal", None),
            ("foo.localhost", None),
            ("notlocalhost", None),
            ("172.32.0.1", None),
            ("169.254.169.254", None),
            ("fe80::1", None),
            ("100.64.0.1", None),
            ("0x7f.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(hosts.reason(host).as_deref(), reason, "{host}");
        }
        let none = PrivateHosts::new(false, false, &[], &[]);
        for host in ["localhost", "127.0.0.1", "10.0.0.1"] {
            assert_eq!(none.reason(host), None, "{host}");
        }
    }
}
