//! Tunnels and refusals, for humans and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::control_plane::{AdminRefusal, Tunnel};

/// The lines about one tunnel.
pub(super) fn text(tunnel: &Tunnel) -> String {
    let mut text = format!("Tunnel {}\n", tunnel.id);
    let mut line = |label: &str, value: &str| {
        let space = if value.is_empty() { "" } else { " " };
        let _ = writeln!(text, "  {label}:{space}{value}");
    };
    line("Name", &tunnel.name);
    line("Description", &tunnel.description);
    if !tunnel.creator.is_empty() {
        line("Creator", &tunnel.creator);
    }
    line("Organizations", &tunnel.organization_ids.join(", "));
    line("Workspaces", &tunnel.workspace_ids.join(", "));
    if !tunnel.tenant_ids.is_empty() {
        line("Tenants", &tunnel.tenant_ids.join(", "));
    }
    text
}

/// The JSON document about a refusal that `message` tells.
pub(super) fn refusal(message: &str, refusal: &AdminRefusal) -> Value {
    let mut error = Map::new();
    error.insert("message".into(), message.into());
    error.insert("method".into(), refusal.method.as_str().into());
    error.insert("path".into(), refusal.path.as_str().into());
    error.insert("status_code".into(), refusal.status.into());
    let optional = [
        ("request_id", refusal.request_id.as_str()),
        ("code", refusal.detail.code.as_str()),
        ("type", refusal.detail.kind.as_str()),
        ("mitigation", refusal.detail.mitigation().unwrap_or_default()),
    ];
    for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_empty()) {
        error.insert(name.into(), value.into());
    }
    let mut document = Map::new();
    document.insert("error".into(), error.into());
    document.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_shown_with_what_it_has() {
        let mut tunnel = Tunnel { id: "tunnel_x".into(), name: "Docs".into(), ..Tunnel::default() };
        assert_eq!(
            text(&tunnel),
            "Tunnel tunnel_x\n  Name: Docs\n  Description:\n  Organizations:\n  Workspaces:\n"
        );
        tunnel.organization_ids = vec!["org_1".into(), "org_2".into()];
        tunnel.tenant_ids = vec!["t_1".into()];
        tunnel.creator = "user_1".into();
        let shown = text(&tunnel);
        assert!(shown.contains("\n  Creator: user_1\n  Organizations: org_1, org_2\n"), "{shown}");
        assert!(shown.ends_with("\n  Tenants: t_1\n"), "{shown}");
    }
}
