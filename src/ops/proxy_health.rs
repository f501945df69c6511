//! What checks of proxies have found, route by route.
//!
//! Invariant: a route keeps its last [`HISTORY`] checks, its state is that of the last one, and nothing
//! in here shows more of a proxy than scheme, host and port.

use crate::order;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::net::{ProxyIdentity, RouteDescription, proxy_identities};

use super::metrics::{Metrics, ProxyCheck};

/// Checks kept of each route.
pub const HISTORY: usize = 10;

/// How a route is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// No proxy is involved: nothing is checked.
    Direct,
    /// The last check succeeded.
    Healthy,
    /// The last check failed, or there was none yet.
    Unhealthy,
}

/// One check of the proxy of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRecord {
    /// When it ended.
    pub at: SystemTime,
    /// Time to connect, if it came to that.
    pub tcp: Option<Duration>,
    /// Time of TLS and `CONNECT`, if it came to that.
    pub connect: Option<Duration>,
    /// Phase (`tcp` or `connect`) and reason (`timeout`, `dial_error`, `connect_error`, `bad_status`).
    pub failure: Option<(&'static str, &'static str)>,
    /// Status of the reply to `CONNECT`, if there was one.
    pub status: Option<u16>,
}

/// A route and what is known about its proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHealth {
    /// The route.
    pub route: RouteDescription,
    /// How it is doing.
    pub state: RouteState,
    /// The last check.
    pub last_check: Option<SystemTime>,
    /// The last check that succeeded.
    pub last_success: Option<SystemTime>,
    /// The last checks, newest last; at most [`HISTORY`].
    pub history: Vec<CheckRecord>,
}

/// All routes; shared by the checks and whoever asks.
pub struct ProxyHealth {
    metrics: Arc<Metrics>,
    identities: Vec<ProxyIdentity>,
    routes: Mutex<Vec<RouteHealth>>,
}

impl RouteState {
    /// `direct`, `healthy` or `unhealthy`.
    pub fn label(self) -> &'static str {
        match self {
            RouteState::Direct => "direct",
            RouteState::Healthy => "healthy",
            RouteState::Unhealthy => "unhealthy",
        }
    }
}

impl CheckRecord {
    /// Whether the proxy is of use.
    pub fn success(&self) -> bool {
        self.failure.is_none()
    }

    /// `2xx`, `4xx`, …; `None` if no status was read.
    pub fn http_status_category(&self) -> Option<String> {
        self.status.map(|status| format!("{}xx", status / 100))
    }
}

impl ProxyHealth {
    /// Nothing checked yet. The gauges of all proxies appear at once.
    pub fn new(routes: &[RouteDescription], metrics: Arc<Metrics>) -> ProxyHealth {
        let mut sorted: Vec<RouteHealth> = routes.iter().cloned().map(RouteHealth::new).collect();
        order::sort_by(&mut sorted, |a, b| order(&a.route).cmp(&order(&b.route)));
        let health =
            ProxyHealth { metrics, identities: proxy_identities(routes), routes: Mutex::new(sorted) };
        health.show_states(&health.lock());
        health
    }

    /// Notes a check of `route`.
    pub fn record(&self, route: &RouteDescription, check: CheckRecord) {
        self.metrics.proxy_checked(&ProxyCheck {
            proxy_id: &route.proxy_id,
            tcp: check.tcp,
            connect: check.connect,
            failure: check.failure,
        });
        let mut routes = self.lock();
        if let Some(known) = routes.iter_mut().find(|known| known.route == *route) {
            known.add(check);
        }
        self.show_states(&routes);
    }

    /// All routes, sorted by kind, name, mode, proxy and target.
    pub fn routes(&self) -> Vec<RouteHealth> {
        self.lock().clone()
    }

    /// Each proxy once, in the order of the configuration.
    pub fn identities(&self) -> &[ProxyIdentity] {
        &self.identities
    }

    /// A proxy is healthy when it is for each route that uses it.
    fn show_states(&self, routes: &[RouteHealth]) {
        let mut proxies = BTreeMap::new();
        for known in routes.iter().filter(|known| known.state != RouteState::Direct) {
            let healthy = known.state == RouteState::Healthy;
            *proxies.entry(known.route.proxy_id.as_str()).or_insert(true) &= healthy;
        }
        proxies.into_iter().for_each(|(proxy_id, healthy)| self.metrics.proxy_state(proxy_id, healthy));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RouteHealth>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RouteHealth {
    fn new(route: RouteDescription) -> RouteHealth {
        let state = if route.proxy_id.is_empty() { RouteState::Direct } else { RouteState::Unhealthy };
        RouteHealth { route, state, last_check: None, last_success: None, history: Vec::new() }
    }

    fn add(&mut self, check: CheckRecord) {
        self.last_check = Some(check.at);
        self.state = RouteState::Unhealthy;
        if check.success() {
            self.state = RouteState::Healthy;
            self.last_success = Some(check.at);
        }
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(check);
    }
}

fn order(route: &RouteDescription) -> impl Ord + '_ {
    (route.kind.label(), &route.name, route.route_mode, &route.proxy_url, &route.target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Origin, ProxyPolicy, ProxyUrl, RouteKind, Via};

    fn route(name: &str, proxy: Option<&str>) -> RouteDescription {
        let via = match proxy {
            None => Via::Direct,
            Some(url) => Via::Proxies(ProxyPolicy::Fixed {
                proxy: ProxyUrl::parse(url).unwrap(),
                source: "http-proxy".into(),
            }),
        };
        let target = Origin::of(&"https://target".parse().unwrap()).unwrap();
        RouteDescription::of(RouteKind::McpChannel, name, &target, &via)
    }

    fn check(second: u64, failure: Option<(&'static str, &'static str)>) -> CheckRecord {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        CheckRecord { at, tcp: Some(Duration::from_millis(2)), connect: None, failure, status: Some(407) }
    }

    #[test]
    fn ten_of_twelve_checks_are_kept_and_the_state_is_the_last_ones() {
        let metrics = Arc::new(Metrics::new());
        let routes = [route("tools", Some("http://p:1")), route("main", None)];
        let health = ProxyHealth::new(&routes, Arc::clone(&metrics));
        assert_eq!(
            health.routes().iter().map(|r| (r.route.name.as_str(), r.state.label())).collect::<Vec<_>>(),
            [("main", "direct"), ("tools", "unhealthy")]
        );
        for second in 1..=12 {
            health.record(&routes[0], check(second, (second == 12).then_some(("connect", "bad_status"))));
        }
        let tools = health.routes().remove(1);
        assert_eq!(tools.history.len(), 10);
        assert_eq!((&tools.history[0], &tools.history[9].at), (&check(3, None), &check(12, None).at));
        assert_eq!(tools.state, RouteState::Unhealthy);
        assert_eq!(tools.last_check, Some(check(12, None).at));
        assert_eq!(tools.last_success, Some(check(11, None).at));
        assert_eq!(tools.history[9].http_status_category().as_deref(), Some("4xx"));
        assert!(!tools.history[9].success());
    }

    #[test]
    fn a_proxy_is_healthy_when_it_is_for_all_its_routes() {
        let metrics = Arc::new(Metrics::new());
        let routes = [route("a", Some("http://p:1")), route("b", Some("http://user:pw@p:1/"))];
        let health = ProxyHealth::new(&routes, Arc::clone(&metrics));
        let gauge = || {
            let text = metrics.scrape(true);
            let line = text.lines().find(|line| line.starts_with("proxy_health_state{")).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!((gauge().as_str(), health.identities().len()), ("0", 1));
        health.record(&routes[0], check(1, None));
        assert_eq!(gauge(), "0");
        health.record(&routes[1], check(1, None));
        assert_eq!(gauge(), "1");
        health.record(&routes[0], check(2, Some(("tcp", "timeout"))));
        assert_eq!(gauge(), "0");
    }
}
