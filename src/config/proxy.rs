//! Proxy settings and their fallbacks.

use url::Url;

use super::error::ErrorKind;
use super::loader::{Loader, Lookup, Source};
use super::reference::{self, Origin};
use super::settings::Setting;
use super::{ProxySetting, urls};
use crate::secret::Secret;

/// Parses a proxy URL: `http` or `https` and a host.
pub(crate) fn proxy_url(text: &str) -> Result<Url, String> {
    urls::absolute_http(text).map_err(|_| "it must be an http or https URL with a host".to_owned())
}

impl Loader<'_> {
    /// The proxy of one setting; nothing set is `None`.
    pub(crate) fn proxy(&mut self, setting: &'static Setting) -> Option<ProxySetting> {
        let Lookup::Found(found) = self.text(setting) else { return None };
        if found.text.trim().is_empty() {
            // Only a flag that says nothing is a mistake; a blank variable is as good as none.
            if matches!(found.source, Source::Flag(_)) {
                let message = format!("--{}: a value is required when the flag is set", setting.flag);
                self.findings.error(ErrorKind::Other, message);
            }
            return None;
        }
        let literal = match found.source {
            Source::Flag(flag) => flag,
            _ => setting.variable,
        };
        let proxy = self.proxy_of(&found.text, literal, &found.source, setting.yaml);
        let named = proxy.map_err(|reason| format!("invalid {}: {reason} ({})", setting.flag, found.source));
        self.findings.check(ErrorKind::Other, named)
    }

    /// The proxy that `text` of `key` means; `literal` names the source if it is no reference.
    pub(crate) fn proxy_of(
        &mut self,
        text: &str,
        literal: &str,
        source: &Source,
        key: &str,
    ) -> Result<ProxySetting, String> {
        let resolved = reference::proxy(text, self.environment)?;
        let url = proxy_url(&resolved.text)?;
        if urls::has_user_info(&url) {
            match &resolved.origin {
                Origin::Literal => self.secret_was_written_in(source, key),
                referenced => self.secret_came_from(referenced),
            }
        }
        let source = match resolved.origin {
            Origin::Variable(name) => format!("env:{name}"),
            Origin::Literal | Origin::File(_) => literal.to_owned(),
        };
        Ok(ProxySetting::Fixed { url: Secret::new(url), source })
    }
}

/// The first setting that says something, or the process's variables.
pub(crate) fn effective(candidates: [Option<&ProxySetting>; 3]) -> ProxySetting {
    candidates.into_iter().flatten().next().cloned().unwrap_or(ProxySetting::Environment)
}
