use std::collections::BTreeSet;

use crate::common::mcp_server::McpServer;
use crate::common::process::Client;
use crate::common::{address, engine, http};
use crate::get;

#[test]
fn the_page_and_all_it_needs_come_from_the_listener_under_a_strict_policy() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    let shell = get(&client, "/ui");
    assert_eq!(shell.status, 200);
    assert_eq!(shell.header("Content-Type"), Some("text/html; charset=utf-8"));
    for path in ["/", "/ui/"] {
        assert_eq!(get(&client, path).body, shell.body, "{path}");
    }
    let mut todo: Vec<String> = vec!["/assets/app.js".into(), "/assets/styles.css".into()];
    todo.iter().for_each(|path| assert!(shell.text().contains(path.as_str()), "{path}"));
    let mut seen = BTreeSet::new();
    while let Some(path) = todo.pop().filter(|path| seen.insert(path.clone())) {
        let file = get(&client, &path);
        assert_eq!(file.status, 200, "{path}");
        let kind = if path.ends_with(".css") { "text/css" } else { "text/javascript" };
        assert_eq!(file.header("Content-Type"), Some(format!("{kind}; charset=utf-8").as_str()));
        for (name, value) in [
            ("Cache-Control", "no-store, max-age=0"),
            ("Pragma", "no-cache"),
            ("Expires", "0"),
            ("X-Content-Type-Options", "nosniff"),
        ] {
            assert_eq!(file.header(name), Some(value), "{path}");
            assert_eq!(shell.header(name), Some(value));
        }
        let policy = shell.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        let text = file.text();
        let imports = text.lines().filter(|line| line.starts_with("import "));
        todo.extend(
            imports
                .map(|line| format!("/assets/{}", line.rsplit('"').nth(1).unwrap().trim_start_matches("./"))),
        );
        todo.retain(|path| !seen.contains(path));
    }
    assert!(seen.len() > 4, "{seen:?}");
}

#[test]
fn other_paths_and_methods_of_the_page_are_refused() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    let icon = get(&client, "/favicon.ico");
    assert_eq!((icon.status, icon.body.len()), (204, 0));
    for path in ["/assets/none.js", "/assets/../ui", "/assets/", "/nope", "/ui/x"] {
        let reply = get(&client, path);
        assert_eq!((reply.status, reply.text().as_str()), (404, "404 page not found\n"), "{path}");
    }
    let address = address(client.health_url());
    let posted = http::request(address, "POST", "/ui", &[], "").unwrap();
    assert_eq!((posted.status, posted.header("Allow")), (405, Some("GET, HEAD")));
}
