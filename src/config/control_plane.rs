//! `control_plane.*`: who we are, whom we poll, and how.

use crate::order;
use std::time::Duration;

use super::certificate::INVALID_CONTROL_PLANE_CERTIFICATE;
use super::error::{ConfigError, ErrorKind};
use super::loader::{Loader, Located, Lookup, Source};
use super::reference::{self, Origin};
use super::{ControlPlane, ProxySetting, duration, proxy, settings, urls};
use crate::ids::{Channel, TunnelId};
use crate::secret::Secret;

/// The default control plane, and the host it answers client certificates on.
const DEFAULT_BASE_URL: &str = "https://api.openai.com";
const MTLS_BASE_URL: &str = "https://mtls.api.openai.com";
/// Variable that is looked at last for the API key.
const LAST_KEY_VARIABLE: &str = "OPENAI_API_KEY";
const MAX_INFLIGHT: i64 = 10_000;
/// Poll timeout and guardrail together.
const MAX_REQUEST: Duration = Duration::from_secs(600);
const MAX_GUARDRAIL: Duration = Duration::from_secs(60);

const TUNNEL_ID_GUIDANCE: &str = "create one with `tunnel-client admin tunnels create --help` or find it with `tunnel-client admin tunnels list --help`; `tunnel-client init` writes a profile, `tunnel-client help quickstart` explains the steps";
const API_KEY_GUIDANCE: &str =
    "see `tunnel-client help quickstart`, or let `tunnel-client init` write a profile that refers to the key";

impl Loader<'_> {
    /// Loads the section; `None` means that something was reported.
    pub(crate) fn control_plane(&mut self, global_proxy: Option<&ProxySetting>) -> Option<ControlPlane> {
        let client_certificate = self.certificate_pair(
            &settings::CONTROL_PLANE_CLIENT_CERT,
            &settings::CONTROL_PLANE_CLIENT_KEY,
            INVALID_CONTROL_PLANE_CERTIFICATE,
        );
        let base_url = self.base_url(client_certificate.is_some());
        let url_path = self.url_path();
        let tunnel_id = self.tunnel_id();
        let organization_id = self.organization_id();
        let max_inflight = self.integer(
            &settings::CONTROL_PLANE_MAX_INFLIGHT,
            (1, "must be greater than zero"),
            (MAX_INFLIGHT, "must be less than or equal to 10000"),
        );
        let poll_timeout =
            self.duration(&settings::CONTROL_PLANE_POLL_TIMEOUT, "must be greater than zero", |value| {
                !value.is_zero()
            });
        let guardrail = self.duration(
            &settings::CONTROL_PLANE_POLL_DEADLINE_GUARDRAIL,
            "must be greater than zero and less than 1m0s",
            |value| !value.is_zero() && value < MAX_GUARDRAIL,
        );
        if let (Some(timeout), Some(guardrail)) = (poll_timeout, guardrail)
            && timeout.saturating_add(guardrail) > MAX_REQUEST
        {
            let message = format!(
                "control-plane.poll-timeout plus control-plane.poll-deadline-guardrail must be at most 10m0s ({} is {}, {} is {})",
                self.source(&settings::CONTROL_PLANE_POLL_TIMEOUT),
                duration::format_duration(timeout),
                self.source(&settings::CONTROL_PLANE_POLL_DEADLINE_GUARDRAIL),
                duration::format_duration(guardrail)
            );
            self.findings.error(ErrorKind::Other, message);
        }
        let poll_channels = self.poll_channels();
        let key = self.api_key();
        let proxy = self.proxy(&settings::CONTROL_PLANE_HTTP_PROXY);
        let extra_headers = self.headers(&settings::CONTROL_PLANE_EXTRA_HEADERS);
        let (api_key, api_key_source) = key?;
        Some(ControlPlane {
            base_url: base_url?,
            url_path: url_path?,
            tunnel_id: tunnel_id?,
            organization_id: organization_id?,
            api_key,
            api_key_source,
            client_certificate,
            proxy: proxy::effective([proxy.as_ref(), global_proxy, None]),
            max_inflight: usize::try_from(max_inflight?).ok()?,
            poll_timeout: poll_timeout?,
            poll_deadline_guardrail: guardrail?,
            poll_channels: poll_channels?,
            extra_headers,
        })
    }

    pub(crate) fn base_url(&mut self, with_certificate: bool) -> Option<url::Url> {
        let mut found = self.text_or_default(&settings::CONTROL_PLANE_BASE_URL)?;
        if with_certificate && found.text.trim().trim_end_matches('/') == DEFAULT_BASE_URL {
            found.text = MTLS_BASE_URL.to_owned();
        }
        let parsed = urls::absolute_http(&found.text).map(|mut url| {
            url.set_path("");
            url.set_query(None);
            url.set_fragment(None);
            // The key authenticates; user info here would only leak into logs. Neither call fails for a
            // URL with a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url
        });
        let named =
            parsed.map_err(|reason| format!("invalid control-plane.base-url: {reason} ({})", found.source));
        let url = self.findings.check(ErrorKind::BaseUrl, named)?;
        if url.scheme() == "http" && !urls::is_loopback(&url) {
            self.findings.warn(format!(
                "control-plane.base-url ({}) is plain http: the API key travels unencrypted to {}",
                found.source,
                url.host_str().unwrap_or_default()
            ));
        }
        Some(url)
    }

    pub(crate) fn url_path(&mut self) -> Option<String> {
        let found = self.text_or_default(&settings::CONTROL_PLANE_URL_PATH)?;
        let named = urls::url_path(&found.text)
            .map_err(|reason| format!("invalid control-plane.url-path: {reason} ({})", found.source));
        self.findings.check(ErrorKind::Other, named)
    }

    fn tunnel_id(&mut self) -> Option<TunnelId> {
        let (text, source) = match self.text(&settings::CONTROL_PLANE_TUNNEL_ID) {
            Lookup::Broken => return None,
            Lookup::Absent => (String::new(), None),
            Lookup::Found(found) => (found.text.trim().to_owned(), Some(found.source)),
        };
        if text.is_empty() {
            let empty = source.map(|source| format!(" ({source} is empty)")).unwrap_or_default();
            let message = format!(
                "tunnel ID is required{empty}: set --control-plane.tunnel-id, CONTROL_PLANE_TUNNEL_ID or control_plane.tunnel_id"
            );
            self.findings
                .push(ConfigError::new(ErrorKind::TunnelId, message).with_guidance(TUNNEL_ID_GUIDANCE));
            return None;
        }
        let named = TunnelId::parse(&text)
            .map_err(|error| format!("{error} (from {})", source.unwrap_or(Source::Default)));
        self.findings.check(ErrorKind::TunnelId, named)
    }

    fn organization_id(&mut self) -> Option<Option<String>> {
        match self.text(&settings::CONTROL_PLANE_ORGANIZATION_ID) {
            Lookup::Broken => None,
            Lookup::Absent => Some(None),
            Lookup::Found(found) => {
                let text = found.text.trim();
                if text.contains(char::is_control) {
                    let message = format!(
                        "invalid control-plane.organization-id: it contains a line break or control character ({})",
                        found.source
                    );
                    self.findings.error(ErrorKind::Other, message);
                    return None;
                }
                Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
            }
        }
    }

    /// The key and the reference that it came from, as shown by diagnostics.
    fn api_key(&mut self) -> Option<(Secret<String>, String)> {
        let setting = &settings::CONTROL_PLANE_API_KEY;
        // The document stands before the last variable, so that one is not a layer of the table.
        let found = match self.text(setting) {
            Lookup::Broken => return None,
            Lookup::Found(found) => Some(found),
            Lookup::Absent => self
                .environment
                .get(LAST_KEY_VARIABLE)
                .map(|text| Located { text: text.to_owned(), source: Source::Variable(LAST_KEY_VARIABLE) }),
        };
        let Some(Located { mut text, source }) = found else {
            return self.api_key_is_required(String::new());
        };
        let shown = match &source {
            Source::Flag(flag) => {
                let named = reference::key_flag(&text, self.environment)
                    .map_err(|reason| format!("invalid --{flag}: {reason}"));
                let names_key = text.ends_with(setting.variable) || text.ends_with(LAST_KEY_VARIABLE);
                let kind = if names_key { ErrorKind::ApiKey } else { ErrorKind::Other };
                let resolved = self.findings.check(kind, named)?;
                self.secret_came_from(&resolved.origin);
                std::mem::replace(&mut text, resolved.text)
            }
            Source::Variable(name) => {
                self.secret_came_from(&Origin::Variable((*name).to_owned()));
                format!("env:{name}")
            }
            Source::Document(_) | Source::Default => {
                self.document.references.get(setting.yaml).cloned().unwrap_or_else(|| "configured".to_owned())
            }
        };
        // White space around it is what files, shells and copying leave behind.
        let key = text.trim();
        if key.is_empty() {
            return self.api_key_is_required(format!(" ({source} is empty)"));
        }
        if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            let message = format!(
                "control plane API key is malformed ({source}): only letters, digits, '-' and '_' may occur in it"
            );
            self.findings.error(ErrorKind::ApiKey, message);
            return None;
        }
        Some((Secret::new(key.to_owned()), shown))
    }

    fn api_key_is_required<T>(&mut self, detail: String) -> Option<T> {
        let message = format!(
            "control plane API key is required{detail}: set CONTROL_PLANE_API_KEY, --control-plane.api-key env:NAME or control_plane.api_key"
        );
        self.findings.push(ConfigError::new(ErrorKind::ApiKey, message).with_guidance(API_KEY_GUIDANCE));
        None
    }

    /// `Some(None)` polls all channels.
    fn poll_channels(&mut self) -> Option<Option<Vec<Channel>>> {
        let setting = &settings::CONTROL_PLANE_POLL_CHANNELS;
        let (items, source) = match self.list(setting) {
            Lookup::Broken => return None,
            Lookup::Absent => return Some(None),
            Lookup::Found(found) => found,
        };
        let items: Vec<&str> = match source {
            // No channel name holds a comma, so an element of the document may be a list itself.
            Source::Document(_) => items.iter().flat_map(|item| item.split(',')).collect(),
            _ => items.iter().map(String::as_str).collect(),
        };
        let mut channels: Vec<Channel> = Vec::with_capacity(items.len());
        let mut wrong = items.is_empty().then(|| "it contains an empty channel list".to_owned());
        for item in items {
            wrong = wrong.or_else(|| match canonical_channel(item) {
                Err(reason) => Some(reason),
                Ok(channel) if channels.contains(&channel) => {
                    Some(format!("channel {item:?} is a duplicate"))
                }
                Ok(channel) => {
                    channels.push(channel);
                    None
                }
            });
        }
        if let Some(reason) = wrong {
            let message = format!("invalid control-plane.poll-channel: {reason} ({source})");
            self.findings.error(ErrorKind::Other, message);
            return None;
        }
        order::sort(&mut channels);
        Some(Some(channels))
    }
}

fn canonical_channel(text: &str) -> Result<Channel, String> {
    if text.trim().is_empty() {
        return Err("it contains an empty channel".to_owned());
    }
    let channel = Channel::parse(text).map_err(|error| error.to_string())?;
    if channel.as_str() != text {
        return Err(format!("channel {text:?} is not canonical; write {:?}", channel.as_str()));
    }
    Ok(channel)
}
