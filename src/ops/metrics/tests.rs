use super::*;

const CP: &str = r#"otel_scope_name="controlplane",otel_scope_schema_url="",otel_scope_version="""#;
const DISPATCH: &str = r#"otel_scope_name="dispatcher",otel_scope_schema_url="",otel_scope_version="""#;

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|have| have == line), "missing {line:?} in\n{text}");
}

#[test]
fn before_anything_happened_there_are_gauges_only() {
    let text = Metrics::new().scrape(false);
    for line in [
        r#"liveness{otel_scope_name="health",otel_scope_schema_url="",otel_scope_version=""} 1"#,
        r#"readiness{otel_scope_name="health",otel_scope_schema_url="",otel_scope_version=""} 0"#,
        &format!("commands_poll_last_successful_timestamp_seconds{{{CP}}} 0"),
        &format!("commands_queue_capacity{{{CP}}} 0"),
        &format!("dispatcher_worker_pool_occupancy{{{DISPATCH}}} 0"),
        r#"promhttp_metric_handler_requests_total{code="200"} 0"#,
        r#"promhttp_metric_handler_requests_total{code="503"} 0"#,
        "promhttp_metric_handler_requests_in_flight 1",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        has(&text, line);
    }
    assert!(text.contains("target_info{service_name=\"unknown_service:tunnel_client-"), "{text}");
    for absent in ["commands_polled_total", "commands_poll_latency", "harpoon_", "proxy_", "http_client"] {
        assert!(!text.contains(absent), "{absent}");
    }
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn polls_and_commands_are_counted() {
    let metrics = Metrics::new();
    metrics.watch_queue(20, || 3);
    metrics.set_workers(10);
    metrics.worker_started();
    for end in [PollEnd::Success, PollEnd::TimedOut, PollEnd::Failed, PollEnd::Stopped] {
        metrics.poll_started();
        metrics.poll_finished(Duration::from_millis(20), end);
    }
    metrics.commands_received(2, 2);
    metrics.commands_received(0, 0);
    metrics.commands_dropped("context_canceled", 0);
    metrics.command_age(Duration::from_secs(7));
    metrics.response_posted("jsonrpc_response", "rejected");
    metrics.command_refused("invalid_channel");
    metrics.unsupported_channel("tunnel_1", "nope", "jsonrpc");
    let text = metrics.scrape(true);
    for line in [
        format!("commands_polled_total{{{CP}}} 2"),
        format!("commands_enqueued_total{{{CP}}} 2"),
        format!("commands_poll_cycles_total{{{CP}}} 4"),
        format!("commands_poll_latency_seconds_count{{error=\"false\",{CP}}} 1"),
        format!("commands_poll_latency_seconds_count{{error=\"true\",{CP}}} 3"),
        format!("commands_poll_latency_seconds_bucket{{error=\"false\",{CP},le=\"0.01\"}} 0"),
        format!("commands_poll_latency_seconds_bucket{{error=\"false\",{CP},le=\"0.025\"}} 1"),
        format!("commands_poll_errors_total{{error_kind=\"timeout\",{CP}}} 1"),
        format!("commands_poll_errors_total{{error_kind=\"other\",{CP}}} 1"),
        format!("commands_age_seconds_sum{{{CP}}} 7"),
        format!("commands_queue_capacity{{{CP}}} 20"),
        format!("commands_queue_length{{{CP}}} 3"),
        format!(
            "controlplane_response_posts_total{{{CP},resp_type=\"jsonrpc_response\",result=\"rejected\"}} 1"
        ),
        format!("controlplane_commands_refused_total{{{CP},reason=\"invalid_channel\"}} 1"),
        format!("dispatcher_worker_pool_capacity{{{DISPATCH}}} 10"),
        format!("dispatcher_worker_pool_occupancy{{{DISPATCH}}} 1"),
        format!(
            "command_unsupported_channel_total{{channel=\"nope\",command_type=\"jsonrpc\",{DISPATCH},\
                 tunnel_id=\"tunnel_1\"}} 1"
        ),
    ] {
        has(&text, &line);
    }
    assert!(!text.contains("commands_queue_drops_total"));
    let last = text.lines().find(|line| line.starts_with("commands_poll_last_successful")).unwrap();
    let last: u64 = last.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(last + 60 > unix_seconds() && last <= unix_seconds());
}

#[test]
fn an_answered_command_has_two_latencies_in_whole_milliseconds() {
    let metrics = Metrics::new();
    let mut answered = Answered {
        kind: "call",
        method: Some("tools/call"),
        channel: "main",
        tunnel_id: "tunnel_1",
        status: 200,
        since_created: Some(Duration::from_micros(7_900)),
        since_received: Duration::from_micros(3_999),
    };
    metrics.command_answered(&answered);
    answered.kind = "oauth_discovery";
    answered.method = None;
    answered.since_created = None;
    metrics.command_answered(&answered);
    let text = metrics.scrape(true);
    let name = "command_end_to_end_latency_milliseconds";
    let tail = r#"tunnel_id="tunnel_1",tunnel_service_status="200""#;
    for (latency, sum) in [("enqueue_to_response", 7), ("poll_to_response", 3)] {
        let labels = format!(
            "channel=\"main\",latency_type=\"{latency}\",{DISPATCH},request_kind=\"call\",\
                 request_method=\"tools/call\",{tail}"
        );
        has(&text, &format!("{name}_sum{{{labels}}} {sum}"));
        has(&text, &format!("{name}_bucket{{{labels},le=\"+Inf\"}} 1"));
    }
    let labels = format!(
        "channel=\"main\",latency_type=\"poll_to_response\",{DISPATCH},request_kind=\"oauth_discovery\",{tail}"
    );
    has(&text, &format!("{name}_count{{{labels}}} 1"));
    assert_eq!(text.matches("request_kind=\"oauth_discovery\"").count(), Coarse::BOUNDS.len() + 3);
}

#[test]
fn outbound_requests_carry_what_is_known_of_them() {
    let metrics = Metrics::new();
    let mut request = HttpExchange {
        route: "/v1/tunnels/{tunnel_id}/poll",
        method: "GET",
        scheme: "https",
        host: "api.example",
        port: None,
        status: Some(204),
        duration: Duration::from_millis(30),
        body_bytes: 0,
    };
    metrics.http_request(&request);
    request = HttpExchange { route: "", method: "BREW", port: Some(8443), status: None, ..request };
    metrics.http_request(&request);
    let text = metrics.scrape(true);
    let scope = "otel_scope_name=\"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp\",\
                     otel_scope_schema_url=\"\",otel_scope_version=\"0.63.0\"";
    let protocol = r#"network_protocol_name="http",network_protocol_version="1.1""#;
    has(
        &text,
        &format!(
            "http_client_request_duration_seconds_count{{http_request_method=\"GET\",\
                 http_response_status_code=\"204\",http_route=\"/v1/tunnels/{{tunnel_id}}/poll\",{protocol},\
                 {scope},server_address=\"api.example\",url_scheme=\"https\"}} 1"
        ),
    );
    has(
        &text,
        &format!(
            "http_client_request_body_size_bytes_count{{http_request_method=\"_OTHER\",http_route=\"/\",\
                 {protocol},{scope},server_address=\"api.example\",server_port=\"8443\",url_scheme=\"https\"}} 1"
        ),
    );
}

#[test]
fn targets_proxies_and_children_have_their_families() {
    let metrics = Metrics::new();
    metrics.harpoon_call("crm", Some(404), "success", Duration::from_micros(1500), 10);
    metrics.harpoon_call("__unknown__", None, "invalid_input", Duration::ZERO, 0);
    metrics.proxy_state("p", false);
    metrics.proxy_checked(&ProxyCheck {
        proxy_id: "p",
        tcp: Some(Duration::from_millis(2)),
        connect: Some(Duration::from_micros(900)),
        failure: Some(("connect", "bad_status")),
    });
    metrics
        .watch_child("main", || ChildReport { up: true, restarts: vec![("exit", 1), ("spawn_failed", 0)] });
    metrics.watch_protocol("main", || ProtocolReport {
        legacy: Some(true),
        sessions: Some(2),
        refused: vec![(["sampling", ""], 1)],
        ..ProtocolReport::default()
    });
    let text = metrics.scrape(true);
    for part in [
        "harpoon_call_total{label=\"crm\",otel_scope_name=\"harpoon\"",
        "outcome=\"success\",status_class=\"4xx\"} 1",
        "outcome=\"invalid_input\",status_class=\"none\"} 1",
        "status_class=\"4xx\"} 1.5\n",
        "proxy_health_state{otel_scope_name=\"proxyhealth\",otel_scope_schema_url=\"\",otel_scope_version=\"\",proxy_id=\"p\"} 0",
        "phase=\"connect\",proxy_id=\"p\",reason=\"bad_status\"} 1",
        "phase=\"tcp\",proxy_id=\"p\"} 0.002",
        "proxy_last_check_timestamp{",
        "mcp_stdio_child_up{channel=\"main\",otel_scope_name=\"mcpclient\"",
        "mcp_stdio_child_restarts_total{channel=\"main\"",
        "mcp_server_requests_refused_total{channel=\"main\",method=\"sampling\"",
    ] {
        assert!(text.contains(part), "missing {part:?} in\n{text}");
    }
    assert!(!text.contains("proxy_last_success_timestamp"));
    assert!(!text.contains("phase=\"connect\",proxy_id=\"p\"}"), "0 ms is not recorded");
}

#[test]
fn scrapes_count_themselves_once_they_are_done() {
    let metrics = Metrics::new();
    metrics.scrape(true);
    has(&metrics.scrape(true), r#"promhttp_metric_handler_requests_total{code="200"} 1"#);
}

#[test]
fn numbers_become_text_without_allocating() {
    for (number, text) in [(0, "0"), (7, "7"), (200, "200"), (65535, "65535")] {
        assert_eq!(decimal(number, &mut [0; 5]), text);
    }
}

#[test]
fn ports_that_documents_name_make_no_series_without_end() {
    let metrics = Metrics::new();
    for port in 1..2_000 {
        metrics.http_request(&HttpExchange {
            route: "/",
            method: "GET",
            scheme: "http",
            host: "h",
            port: Some(port),
            status: Some(200),
            duration: Duration::ZERO,
            body_bytes: 0,
        });
    }
    let text = metrics.scrape(true);
    let series = text.lines().filter(|line| line.starts_with("http_client_request_duration_seconds_count{"));
    assert!(series.count() < 300);
    assert!(text.contains("server_port=\"_other\""));
}
