use std::collections::BTreeSet;

use crate::common::connector::Connector;
use crate::common::mcp_server::McpServer;
use crate::common::process::{Client, stdio_fixture};
use crate::common::{engine, wait_polled};
use crate::get;

const DASHBOARD: &str = include_str!("../../packaging/grafana/tunnel-client.json");
const RULES: &str = include_str!("../../packaging/prometheus/tunnel-client.rules.yml");
/// Every family, whether something has been observed of it or not.
const CATALOGUE: &str = include_str!("../../src/ops/metrics/exposition.rs");
/// What stands in queries and is no family of ours.
const WORDS: &[&str] =
    &["sum", "by", "rate", "increase", "histogram_quantile", "time", "and", "up", "label_values"];
/// Families that need a failure, or something that this test does not run.
const RARE: &[&str] = &[
    "command_unsupported_channel_total",
    "commands_poll_errors_total",
    "commands_queue_drops_total",
    "controlplane_commands_refused_total",
    "harpoon_call_latency_milliseconds",
    "harpoon_call_total",
    "mcp_server_requests_refused_total",
    "mcp_stdio_child_restarts_total",
    "proxy_check_failures_total",
    "proxy_check_phase_duration_seconds",
    "proxy_health_state",
];

/// The families that a query names: what is left without strings, matchers and lists of labels.
fn families(query: &str) -> BTreeSet<String> {
    let (mut depth, mut plain, mut after_by) = (0, String::new(), false);
    let mut rest = query;
    while let Some(letter) = rest.chars().next() {
        after_by = match letter {
            '(' if plain.trim_end().ends_with(" by") || plain.trim_end() == "by" => true,
            ')' if after_by => false,
            _ => after_by,
        };
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 && !after_by => plain.push(letter),
            _ => {}
        }
        rest = &rest[letter.len_utf8()..];
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names =
        plain.split(|c| !is_name(c)).filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    names.filter(|word| !WORDS.contains(word)).map(base).collect()
}

/// The family of a series' name.
fn base(name: &str) -> String {
    let ends = ["_bucket", "_count", "_sum"];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
}

fn queries() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut queries: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let rules = tunnel_client::config::document_as_json(RULES.as_bytes()).unwrap();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        queries.push(rule["expr"].as_str().unwrap().to_owned());
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].is_string(), "{rule}");
        }
    }
    queries
}

#[test]
fn queries_are_taken_apart() {
    let query = "histogram_quantile(0.95, sum by (le, channel) (rate(a_milliseconds_bucket{x=\"rate\"}[$__rate_interval]))) / b_total > 5";
    assert_eq!(families(query), ["a_milliseconds", "b_total"].map(str::to_owned).into());
}

#[test]
fn dashboard_and_alerts_ask_only_for_what_a_running_client_exposes() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let tools = format!("channel=tools,command={}", stdio_fixture().display());
    let arguments = ["--mcp.server-url", &server.url(), "--mcp.command", &tools];
    let client = Client::start(&engine.client_base_url(), &arguments);
    wait_polled(&engine);
    let connector = Connector::new(&engine.mcp_url());
    assert_eq!(connector.call(1, "echo", "{}").status, 200);
    let exposed = |text: &str| -> BTreeSet<String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let mut scraped = BTreeSet::new();
    crate::common::eventually("the call is counted", || {
        scraped = exposed(&get(&client, "/metrics").text());
        scraped.contains("command_end_to_end_latency_milliseconds")
    });
    let asked: BTreeSet<String> = queries().iter().flat_map(|query| families(query)).collect();
    assert!(asked.len() > 20, "{asked:?}");
    for family in &asked {
        let known = CATALOGUE.contains(&format!("\"{family}\""));
        let rare = RARE.contains(&family.as_str());
        assert!(scraped.contains(family) || (rare && known), "no family {family}");
    }
}
