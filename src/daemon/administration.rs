//! What the admin API is told, and the routes of the local listener.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use crate::config::{Config, Environment, McpTarget};
use crate::harpoon::Server;
use crate::ids::Channel;
use crate::mcp::Binding;
use crate::mcp::http::resource_metadata_urls;
use crate::oauth::Status;
use crate::ops::admin::{Admin, AdminRoutes, ChannelReport, ChannelTarget, Facts, NOT_POLLED, Sources};
use crate::ops::bundle::{self, Bundle, BundleRoutes};
use crate::ops::harpoon::HarpoonRoutes;
use crate::ops::listener::{Guarded, HealthRoutes, Listener, Router};
use crate::ops::log::time_text;

use crate::ops::ui::UiRoutes;

use super::announce::main_url;
use super::callouts;
use super::material::{BuiltBinding, Material};
use super::{Daemon, StartError};

/// Channel of the embedded caller.
const HARPOON: &str = "harpoon";

impl Daemon {
    /// Binds the local listener and answers on it, with every route there will be.
    pub(super) fn open_listener(
        &mut self,
        config: &Config,
        material: &Material,
        built: &[BuiltBinding],
        harpoon: &Arc<Server>,
        oauth: Arc<Status>,
    ) -> Result<(), StartError> {
        let listener = Listener::bind(&config.health).map_err(StartError::new)?;
        let admin = Arc::new(self.admin(config, material, (built, harpoon), oauth, &listener));
        let health = HealthRoutes::new(Arc::clone(&self.state), self.observers.metrics());
        let streams = listener.stream_limit();
        let callers = if config.harpoon.http_streamable { streams / 2 } else { 0 };
        let mut guarded = Guarded::new(config.admin_ui.allow_remote, listener.host())
            .with(AdminRoutes::new(Arc::clone(&admin), streams - callers))
            .with(UiRoutes);
        if let Some(bundle) = self.bundle(config, admin) {
            guarded = guarded.with(BundleRoutes::new(Arc::new(bundle)));
        }
        log::info!(target: "tunnel_client", path = "/"; "admin ui enabled");
        let router = Router::new().with(health);
        let router = match config.harpoon.http_streamable {
            true => router.with(HarpoonRoutes::new(Arc::clone(harpoon), callers)),
            false => router,
        };
        listener.serve(router.with(guarded)).map_err(StartError::new)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// The maker of support bundles; none without a ring.
    fn bundle(&self, config: &Config, admin: Arc<Admin>) -> Option<Bundle> {
        let ring = Arc::clone(admin.log()?.ring()?);
        let (state, metrics) = (Arc::clone(&self.state), self.observers.metrics());
        Some(Bundle::new(bundle::Sources {
            ring,
            metrics: Box::new(move || Some(metrics.scrape(state.readiness().status == 200))),
            admin,
            config: config.clone(),
            arguments: std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
            environment: Environment::of_process(),
        }))
    }

    fn admin(
        &self,
        config: &Config,
        material: &Material,
        (built, harpoon): (&[BuiltBinding], &Arc<Server>),
        oauth: Arc<Status>,
        listener: &Listener,
    ) -> Admin {
        let control_plane = &config.control_plane;
        let polled = |channel: &str| {
            let allowed = control_plane.poll_channels.as_ref();
            allowed.is_none_or(|allowed| allowed.iter().any(|one| one.as_str() == channel))
        };
        let main = main_url(config);
        let facts = Facts {
            version: crate::VERSION.to_owned(),
            client_instance_id: self.options.instance_id.clone(),
            health_listen_addr: listener.address().to_owned(),
            control_plane_base_url: control_plane.base_url.origin().ascii_serialization(),
            tunnel_id: control_plane.tunnel_id.to_string(),
            max_inflight: control_plane.max_inflight,
            poll_timeout: control_plane.poll_timeout,
            poll_deadline_guardrail: control_plane.poll_deadline_guardrail,
            mcp_server_url: main.map(|url| url.to_string()).unwrap_or_default(),
            resource_metadata_urls: main
                .map(|url| resource_metadata_urls(url).iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            raw_http_logging: config.log.http_raw_unsafe,
            harpoon_polled: polled(HARPOON),
        };
        let channels: Vec<_> = config
            .mcp
            .bindings
            .iter()
            .map(|binding| {
                let target = match &binding.target {
                    McpTarget::Http { url, .. } => ChannelTarget::Http { address: url.to_string() },
                    McpTarget::Stdio { command, .. } => {
                        ChannelTarget::Stdio { pid: None, command: command.trim().to_owned() }
                    }
                };
                let name = binding.channel.as_str().to_owned();
                let disabled = (!polled(&name)).then_some(NOT_POLLED);
                let report = ChannelReport { name, target, disabled, in_flight: None, protocol: None };
                (report, self::binding(built, &binding.channel))
            })
            .collect();
        let trust = material.trust().clone();
        let observers = Arc::clone(&self.observers);
        Admin::new(Sources {
            facts,
            state: Arc::clone(&self.state),
            proxy_health: Arc::clone(&self.proxy_health),
            log: self.options.log.clone(),
            secrets: config.known_secrets(&Environment::of_process()),
            channels: Box::new(move || {
                let now = |(report, binding): &(ChannelReport, Option<Arc<Binding>>)| {
                    let mut report = report.clone();
                    report.in_flight = observers.in_flight(&report.name);
                    if let Some(binding) = binding {
                        look_at(binding, &mut report);
                    }
                    report
                };
                channels.iter().map(now).collect()
            }),
            trust: Box::new(move || trust.report()),
            oauth: Box::new(move || oauth.to_json(&|at| time_text(OffsetDateTime::from(at)))),
            harpoon: Some(Arc::new(callouts::Report::new(
                harpoon,
                material.routes().iter().map(|route| &route.description),
            ))),
        })
    }
}

/// The binding of `channel`, if there is one.
fn binding(built: &[BuiltBinding], channel: &Channel) -> Option<Arc<Binding>> {
    built.iter().find(|built| built.channel == *channel).map(|built| Arc::clone(&built.binding))
}

/// Puts what is known about a server into the report of its channel.
fn look_at(binding: &Binding, report: &mut ChannelReport) {
    let mut shown: Value = serde_json::from_str(&binding.protocol().to_json()).unwrap_or_default();
    if let Binding::Stdio(child) = binding {
        let health = child.health();
        if let ChannelTarget::Stdio { pid, .. } = &mut report.target {
            *pid = health.pid.filter(|_| health.running);
        }
        shown["running"] = health.running.into();
        if let Some(wait) = health.next_start_in {
            shown["next_start_in_ms"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
        }
        for (name, value) in [
            ("last_end", health.last_end.map(|reason| reason.label().to_owned())),
            ("last_error", health.last_error.filter(|_| !health.running)),
        ] {
            if let Some(value) = value {
                shown[name] = Value::String(value);
            }
        }
    }
    report.protocol = Some(shown);
}
