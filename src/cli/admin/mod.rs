//! `admin`: what an administrator does at the control plane.
//!
//! Invariant: nothing is sent before the whole command was checked, and no configuration document is
//! read.

mod output;
mod scope;
mod tunnels;

use crate::config::{Environment, FlagValues, admin_endpoint, settings};
use crate::control_plane::{AdminClient, AdminError, AdminSettings};
use crate::ids::random_hex;
use crate::net::{Cancel, ProxyPolicy, Route, Trust, Via};
use crate::secret::Secret;

use super::Failure;
use super::tree::{Call, Node, Shape};

pub(super) static GROUP: Node = Node {
    name: "admin",
    summary: "Administer tunnels at the control plane",
    about: "\
For people and scripts that manage tunnels; the daemon needs none of this. The admin key is read from
OPENAI_ADMIN_KEY or --admin-key, the other settings from CONTROL_PLANE_BASE_URL, CONTROL_PLANE_URL_PATH
and CA_BUNDLE where their flags are not given. Profiles and configuration files are not read.",
    settings: settings::ADMIN,
    flags: settings::ADMIN_FLAGS,
    kind: Shape::Group(&[&tunnels::GROUP]),
    ..Node::BLANK
};

/// Where a key comes from.
type KeySource = fn(&FlagValues, &Environment) -> Result<Secret<String>, crate::config::ConfigError>;

/// A client for the control plane of `call`, with the key that `key` finds.
fn client(call: &Call, key: KeySource) -> Result<AdminClient, Failure> {
    let environment = Environment::of_process();
    let endpoint = admin_endpoint(&call.flags, &environment).map_err(Failure::new)?;
    let trust = Trust::load(endpoint.ca_bundle.as_deref())
        .map_err(|error| Failure::new(format!("invalid ca-bundle: {error}")))?;
    let settings = AdminSettings {
        base_url: endpoint.base_url,
        url_path: endpoint.url_path,
        api_key: key(&call.flags, &environment).map_err(Failure::new)?,
        instance_id: random_hex().map_err(Failure::new)?,
        client_version: crate::VERSION.to_owned(),
    };
    let route = Route::new(Via::Proxies(ProxyPolicy::environment()), trust);
    AdminClient::new(&settings, &route, &Cancel::new()).map_err(Failure::new)
}

/// The failure of a request, with what the control plane said about it.
fn failed(error: AdminError) -> Failure {
    let failure = Failure::new(&error);
    match error {
        AdminError::Status(refusal) => {
            let document = output::refusal(&failure.to_string(), &refusal);
            failure.with_json_document(document)
        }
        _ => failure,
    }
}
