//! Header settings: `Name: value`, one list per setting.
//!
//! Invariant: no message shows a header's value.

use super::error::{ErrorKind, Findings};
use super::loader::{Loader, Source};
use super::reference::{self, Origin};
use super::settings::{self, Setting};
use crate::net::{HeaderList, canonical, is_name, is_value};

/// Headers of control-plane requests that only the client sets.
const RESERVED: &[&str] = &[
    "Authorization",
    "Accept",
    "User-Agent",
    "X-Tunnel-Client-Name",
    "X-Tunnel-Client-Version",
    "X-Tunnel-Client-Instance-Id",
    "X-Tunnel-MCP-Server-Info",
    "X-Tunnel-Shard-Token",
    "X-Client-Request-Id",
    "Content-Type",
    "Content-Length",
    "Host",
    "Transfer-Encoding",
];

/// Builds the headers of one setting and reports what is wrong with each.
pub(crate) struct Collector {
    setting: &'static Setting,
    /// Name as written, canonical name, value.
    seen: Vec<(String, String, String)>,
}

impl Collector {
    pub(crate) fn new(setting: &'static Setting) -> Collector {
        Collector { setting, seen: Vec::new() }
    }

    /// Adds a header whose value may be a reference.
    pub(crate) fn add(&mut self, name: &str, value: &str, source: &Source, loader: &mut Loader<'_>) {
        let name = name.trim();
        let flag = self.setting.flag;
        let wrong = match self.check(name) {
            Err(wrong) => wrong,
            Ok(()) => match reference::header(value, loader.environment) {
                Err(reason) => format!("invalid HTTP header value of {name:?}: {reason}"),
                Ok(found) => {
                    if found.origin != Origin::Literal {
                        loader.secret_came_from(&found.origin);
                    }
                    match self.insert(name, found.text) {
                        Ok(()) => return,
                        Err(wrong) => wrong,
                    }
                }
            },
        };
        loader.findings.error(ErrorKind::Other, format!("invalid {flag}: {wrong} ({source})"));
    }

    fn check(&self, name: &str) -> Result<(), String> {
        check_name(self.setting, name)
    }

    /// As [`Collector::add`] without resolving a reference.
    pub(crate) fn check_only(&mut self, name: &str, value: &str, source: &Source, findings: &mut Findings) {
        let name = name.trim();
        let checked = self.check(name).and_then(|()| {
            let checked = match value.trim() {
                "" => Err("the value is empty".to_owned()),
                text => reference::check_form(text),
            };
            checked.map_err(|reason| format!("invalid HTTP header value of {name:?}: {reason}"))?;
            self.insert(name, value.trim().to_owned())
        });
        if let Err(wrong) = checked {
            findings.error(ErrorKind::Other, format!("invalid {}: {wrong} ({source})", self.setting.flag));
        }
    }

    fn insert(&mut self, name: &str, value: String) -> Result<(), String> {
        check_value(&value).map_err(|reason| format!("invalid HTTP header value of {name:?}: {reason}"))?;
        let canonical = canonical(name);
        // The same spelling again replaces; another spelling must say the same.
        if let Some(same) = self.seen.iter_mut().find(|(written, _, _)| written == name) {
            same.2 = value;
            return Ok(());
        }
        if self.seen.iter().any(|(_, have, old)| *have == canonical && *old != value) {
            return Err(format!("conflicting values for case-insensitive HTTP header {canonical:?}"));
        }
        self.seen.push((name.to_owned(), canonical, value));
        Ok(())
    }

    /// The headers, each name once.
    pub(crate) fn finish(self) -> HeaderList {
        let mut list = HeaderList::new();
        for (_, name, value) in self.seen {
            list.set(&name, value);
        }
        list
    }
}

/// Checks a header's name for the setting it stands in.
pub(crate) fn check_name(setting: &Setting, name: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("invalid HTTP header name {name:?}"));
    }
    let guarded = setting.flag == settings::CONTROL_PLANE_EXTRA_HEADERS.flag;
    if guarded && RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(format!(
            "extra headers cannot override control-plane authentication and protocol headers: {name:?}; remove it"
        ));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), &'static str> {
    if is_value(value) { Ok(()) } else { Err("it contains a control character") }
}

impl Loader<'_> {
    /// The headers of a setting, from the highest layer that speaks.
    pub(crate) fn headers(&mut self, setting: &'static Setting) -> HeaderList {
        let (items, source) = if self.flags.is_given(setting.flag) {
            let given = self.flags.all(setting.flag);
            let items = if matches!(given, [only] if only.is_empty()) { Vec::new() } else { given.to_vec() };
            (items, Source::Flag(setting.flag))
        } else if let Some(text) = self.environment.get(setting.variable) {
            if text.is_empty() && self.in_document(setting).is_some() {
                self.findings.warn(format!(
                    "{} is set but empty: {} of the document is ignored",
                    setting.variable, setting.yaml
                ));
            }
            if !text.is_empty() {
                // Header values are credentials more often than not.
                self.secret_came_from(&Origin::Variable(setting.variable.to_owned()));
            }
            let pieces = text.split([',', ';']).map(str::trim).filter(|piece| !piece.is_empty());
            (pieces.map(str::to_owned).collect(), Source::Variable(setting.variable))
        } else {
            return self.document.headers.get(setting.yaml).cloned().unwrap_or_default();
        };
        let mut list = Collector::new(setting);
        for item in items {
            match item.split_once(':') {
                Some((name, value)) => list.add(name, value, &source, self),
                None => {
                    let message = format!("invalid {}: expected `Key: Value` ({source})", setting.flag);
                    self.findings.error(ErrorKind::Other, message);
                }
            }
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_refused_for_the_control_plane_only() {
        for name in RESERVED {
            assert!(check_name(&settings::CONTROL_PLANE_EXTRA_HEADERS, &name.to_lowercase()).is_err());
            assert!(check_name(&settings::MCP_EXTRA_HEADERS, name).is_ok());
        }
        assert!(check_name(&settings::CONTROL_PLANE_EXTRA_HEADERS, "OpenAI-Organization").is_ok());
        for bad in ["", "a b", "a:b", "é"] {
            assert!(check_name(&settings::MCP_EXTRA_HEADERS, bad).is_err(), "{bad}");
        }
    }
}
