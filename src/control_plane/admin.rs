//! Administration of tunnels: create, get, list, update, delete.
//!
//! Sent with an administrator's key, never with a tunnel's organization or extra headers.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::client::SetupError;
use super::endpoints::{Base, encode};
use super::errors::ErrorDetail;
use super::identity::Identity;
use crate::net::{
    Cancel, Deadline, Error, HeaderMap, HeaderValue, HttpClient, Method, Request, Route, header,
};
use crate::secret::Secret;

/// Bounds every request.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Longest reply.
const BODY_BYTES: usize = 1024 * 1024;
/// Most bytes of an error body that are looked at.
const ERROR_BYTES: usize = 4096;
const TUNNELS: &str = "/v1/tunnels";

/// Plain values an administrative client is made of.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Scheme, host and port; the rest is ignored.
    pub base_url: Url,
    /// Decoded path before `/v1/…`; may be empty.
    pub url_path: String,
    /// Sent as bearer token.
    pub api_key: Secret<String>,
    /// 32 hexadecimal digits, made once per process.
    pub instance_id: String,
    /// This package's version.
    pub client_version: String,
}

/// Administers tunnels. One attempt per call, at most 30 s.
pub struct AdminClient {
    base: Base,
    headers: HeaderMap,
    http: HttpClient,
}

/// A tunnel as the control plane tells it; parts may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tunnel {
    /// Its id.
    #[serde(deserialize_with = "null_is_default")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Its description.
    #[serde(deserialize_with = "null_is_default")]
    pub description: String,
    /// Who created it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub creator: String,
    /// Tenants that may use it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub tenant_ids: Vec<String>,
    /// Workspaces that may use it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub workspace_ids: Vec<String>,
    /// Organizations that may use it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub organization_ids: Vec<String>,
    /// The control plane's id of the request.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// The tunnels that match a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelList {
    /// In the control plane's order.
    #[serde(deserialize_with = "null_is_default")]
    pub tunnels: Vec<Tunnel>,
    /// The control plane's id of the request.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// A tunnel to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "as in Tunnel")]
pub struct NewTunnel {
    pub name: String,
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenant_ids: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workspace_ids: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organization_ids: Vec<String>,
}

/// Changes to a tunnel: `None` keeps, an empty list clears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "as in Tunnel")]
pub struct TunnelUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_ids: Option<Vec<String>>,
}

/// Which tunnels to list; empty parts do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TunnelFilter {
    pub organization_id: String,
    pub workspace_id: String,
    pub tenant_id: String,
}

/// An administrative request failed.
#[derive(Debug)]
pub enum AdminError {
    /// No id was given.
    MissingId,
    /// The id is `.` or `..`, which would name another path.
    InvalidId(String),
    /// No usable reply.
    Request {
        /// Method.
        method: Method,
        /// Path of the URL.
        path: String,
        /// What happened.
        error: Error,
    },
    /// A status other than 2xx.
    Status(Box<AdminRefusal>),
    /// A 2xx reply that is not the JSON expected; why.
    Decode(String),
}

/// A reply with a status other than 2xx.
#[derive(Clone, Debug)]
pub struct AdminRefusal {
    /// Method.
    pub method: Method,
    /// Path of the URL.
    pub path: String,
    /// HTTP status.
    pub status: u16,
    /// The control plane's id of the request; may be empty.
    pub request_id: String,
    /// The body's first 4096 bytes, trimmed.
    pub body: String,
    /// What the body says.
    pub detail: ErrorDetail,
    /// Whether the control plane does not know this operation at all.
    not_exposed: bool,
}

impl AdminClient {
    /// A client that sends along `route` until `cancel` fires.
    pub fn new(settings: &AdminSettings, route: &Route, cancel: &Cancel) -> Result<AdminClient, SetupError> {
        let identity = Identity {
            api_key: &settings.api_key,
            instance_id: &settings.instance_id,
            version: &settings.client_version,
        };
        Ok(AdminClient {
            base: Base::new(&settings.base_url, &settings.url_path)?,
            headers: identity.headers()?,
            http: HttpClient::new(route, cancel),
        })
    }

    /// Creates a tunnel.
    pub fn create(&self, tunnel: &NewTunnel) -> Result<Tunnel, AdminError> {
        self.tunnel(Method::POST, self.base.path(TUNNELS), Some(to_json(tunnel)?))
    }

    /// Fetches one tunnel.
    pub fn get(&self, id: &str) -> Result<Tunnel, AdminError> {
        self.tunnel(Method::GET, self.path_of(id)?, None)
    }

    /// Changes one tunnel.
    pub fn update(&self, id: &str, update: &TunnelUpdate) -> Result<Tunnel, AdminError> {
        self.tunnel(Method::POST, self.path_of(id)?, Some(to_json(update)?))
    }

    /// Deletes one tunnel.
    pub fn delete(&self, id: &str) -> Result<Tunnel, AdminError> {
        self.tunnel(Method::DELETE, self.path_of(id)?, None)
    }

    /// Lists the tunnels that match `filter`.
    pub fn list(&self, filter: &TunnelFilter) -> Result<TunnelList, AdminError> {
        let query: Vec<String> = [
            ("organization_id", &filter.organization_id),
            ("tenant_id", &filter.tenant_id),
            ("workspace_id", &filter.workspace_id),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", encode(value, b"")))
        .collect();
        let (body, request_id) = self.call(Method::GET, &self.base.path(TUNNELS), &query.join("&"), None)?;
        let mut list: TunnelList = from_json(&body)?;
        if !body.is_empty() && !request_id.is_empty() {
            list.request_id = request_id;
        }
        Ok(list)
    }

    fn tunnel(&self, method: Method, path: String, body: Option<Vec<u8>>) -> Result<Tunnel, AdminError> {
        let (body, request_id) = self.call(method, &path, "", body.as_deref())?;
        let mut tunnel: Tunnel = from_json(&body)?;
        if !body.is_empty() && !request_id.is_empty() {
            tunnel.request_id = request_id;
        }
        Ok(tunnel)
    }

    fn path_of(&self, id: &str) -> Result<String, AdminError> {
        match id {
            "" => Err(AdminError::MissingId),
            "." | ".." => Err(AdminError::InvalidId(id.to_owned())),
            id => Ok(format!("{}/{}", self.base.path(TUNNELS), encode(id, b"$&+=:@"))),
        }
    }

    /// The trimmed body of a 2xx reply, and its request id.
    fn call(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<&[u8]>,
    ) -> Result<(Vec<u8>, String), AdminError> {
        let failed = |error| AdminError::Request { method: method.clone(), path: path.to_owned(), error };
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let invalid = |error: super::InvalidBaseUrl| {
            Error::before_writing(crate::net::Cause::InvalidRequest, error.to_string())
        };
        let uri = self.base.uri(&target).map_err(|error| failed(invalid(error)))?;
        let mut headers = self.headers.clone();
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let deadline = Deadline::after(REQUEST_TIME);
        let request = Request { method: method.clone(), uri: &uri, headers, body, deadline };
        let mut response = self.http.send(request).map_err(failed)?;
        let request_id = response.headers.get("x-request-id").and_then(|value| value.to_str().ok());
        let request_id = request_id.unwrap_or_default().trim().to_owned();
        if (200..=299).contains(&response.status) {
            let body = response.body.read_to_limit(BODY_BYTES).map_err(failed)?;
            return Ok((body.trim_ascii().to_vec(), request_id));
        }
        let (detail, body) = super::client::read_error_body(&mut response.body, ERROR_BYTES);
        let body = String::from_utf8_lossy(&body).trim().to_owned();
        let not_exposed = method == Method::DELETE && response.status == 404 && body.contains("Invalid URL");
        let (path, status) = (path.to_owned(), response.status);
        Err(AdminError::Status(Box::new(AdminRefusal {
            method,
            path,
            status,
            request_id,
            body,
            detail,
            not_exposed,
        })))
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, AdminError> {
    serde_json::to_vec(value).map_err(|error| AdminError::Decode(error.to_string()))
}

/// An empty body reads as an empty object.
fn from_json<'a, T: Default + Deserialize<'a>>(body: &'a [u8]) -> Result<T, AdminError> {
    match body.first() {
        None => return Ok(T::default()),
        // A derived visitor would take an array for a list of members.
        Some(b'[') => return Err(AdminError::Decode("not a JSON object".to_owned())),
        Some(_) => {}
    }
    serde_json::from_slice(body).map_err(|error| AdminError::Decode(error.to_string()))
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::MissingId => f.write_str("tunnel id is required"),
            AdminError::InvalidId(id) => write!(f, "{id:?} is no tunnel id"),
            AdminError::Request { method, path, error } => {
                write!(f, "request {method} {path} failed: {error}")
            }
            AdminError::Status(refusal) => refusal.fmt(f),
            AdminError::Decode(reason) => write!(f, "decode response: {reason}"),
        }
    }
}

impl fmt::Display for AdminRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} {} failed: {}", self.method, self.path, self.status)?;
        if self.not_exposed {
            f.write_str(
                " delete is not exposed on this control-plane base URL yet (other operations may still work): ",
            )?;
            f.write_str(&self.body)?;
        } else {
            let detail = self.detail.describe(&self.body);
            if !detail.is_empty() {
                write!(f, " {detail}")?;
            }
        }
        if self.request_id.is_empty() { Ok(()) } else { write!(f, " (x-request-id: {})", self.request_id) }
    }
}

impl std::error::Error for AdminError {}
