//! From discovered URLs to targets of the embedded caller.

use crate::oauth::{Entry, PrivateHosts, Registration};
use crate::redact;

/// Adds an entry to the targets, with the reason why it may be one; the error says why it is none.
pub(super) type Allow = dyn Fn(&Entry, &str) -> Result<(), String> + Send + Sync;

/// Hands every entry that may be trusted to `allow`.
pub(super) fn register(entries: &[Entry], hosts: &PrivateHosts, allow: &Allow) -> Registration {
    let mut done = Registration::default();
    for entry in entries {
        let origin = redact::origin(&entry.url);
        let refusal = match entry.admission(hosts) {
            Ok(reason) => match allow(entry, &reason) {
                Ok(()) => {
                    done.admitted += 1;
                    continue;
                }
                Err(refusal) => refusal,
            },
            Err(reason) => {
                log::info!(target: "harpoon", url = origin.as_str(), source = "oauth", role = entry.role,
                    group = entry.group.as_deref().unwrap_or_default(), exclusion_reason = reason;
                    "discovered URL skipped");
                "it is not on the origin of the MCP server".to_owned()
            }
        };
        done.refusals.push(format!("{} {origin}: {refusal}", entry.role));
    }
    done
}
