//! What is kept of a discovery: the operator's view of it, and the URLs that are handed on.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::http::Request;
use mcp_support::site::{Answer, Site, json, reply};
use serde_json::{Value, json as value};
use tunnel_client::mcp::Binding;
use tunnel_client::mcp::http::{HttpBinding, HttpTarget};
use tunnel_client::net::{Cancel, Deadline, HeaderList, HttpClient, Route, Trust, Via};
use tunnel_client::oauth::{self, Conclusion, Discovery, Entry, Registration, Status};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// One discovery and what came of it.
struct Run {
    server: Site,
    view: Value,
    conclusions: Vec<Conclusion>,
    /// Entries, in the order in which they were handed on.
    entries: Vec<Entry>,
}

fn binding(url: &url::Url) -> Arc<Binding> {
    let target = HttpTarget {
        url: url.clone(),
        static_headers: HeaderList::new(),
        discovery_headers: HeaderList::new(),
        max_message_bytes: 1024 * 1024,
    };
    let route = Route::new(Via::Direct, Trust::system());
    Arc::new(Binding::Http(HttpBinding::new(target, HttpClient::new(&route, &Cancel::new())).shared()))
}

/// Runs the discovery of a start against a server that answers by path.
fn run(path: &str, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Run {
    let server = Site::tcp(answer);
    let url = url::Url::parse(&format!("http://user:hidden@{}{path}", server.address)).unwrap();
    let status = Arc::new(Status::pending(&url));
    let (conclusions, entries): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) = Default::default();
    let (told, handed, seen) = (Arc::clone(&conclusions), Arc::clone(&entries), Arc::clone(&status));
    let discovery = Discovery::new(
        binding(&url),
        None,
        Box::new(move |found| {
            assert_eq!(seen.conclusion(), None, "registered before it is told");
            handed.lock().unwrap().extend(found.to_vec());
            Registration { admitted: 1, refusals: vec!["because".to_owned()] }
        }),
        Arc::clone(&status),
        Box::new(move |conclusion| {
            told.lock().unwrap().push(conclusion.clone());
        }),
    );
    let stop = Cancel::new();
    std::thread::scope(|scope| {
        let stop = &stop;
        let thread = scope.spawn(|| discovery.keep_trying(stop));
        common::eventually("a conclusion", || status.conclusion().is_some());
        stop.cancel();
        thread.join().unwrap();
    });
    let view = status.to_json(&|_| "2025-01-01T00:00:00Z".to_owned());
    let (conclusions, entries) = (conclusions.lock().unwrap().clone(), entries.lock().unwrap().clone());
    Run { server, view, conclusions, entries }
}

fn base(request: &Request) -> String {
    format!("http://{}", request.header("Host").unwrap())
}

#[test]
fn a_success_is_shown_step_by_step() {
    let run = run("/mcp", |request| {
        let base = base(request);
        match request.path.as_str() {
            "/mcp" => reply(405, &[], ""),
            WELL_KNOWN => {
                let body = value!({"resource": format!("{base}/mcp"), "authorization_servers": [base, "https://second"]});
                let headers = [("Content-Type", "application/json"), ("Set-Cookie", "hidden")];
                reply(200, &headers, &body.to_string())
            }
            "/.well-known/oauth-authorization-server" => json(
                200,
                &value!({"issuer": base, "token_endpoint": format!("{base}//Token?x"), "authorization_endpoint": format!("{base}/authorize")})
                    .to_string(),
            ),
            _ => reply(404, &[], ""),
        }
    });
    let base = format!("http://{}", run.server.address);
    let metadata = &run.view["metadata"];
    assert_eq!(run.conclusions, [Conclusion::Found]);
    assert_eq!(
        run.view["discovery_urls"],
        value!([format!("{base}{WELL_KNOWN}/mcp"), format!("{base}{WELL_KNOWN}")])
    );
    assert_eq!(metadata["url"], format!("{base}{WELL_KNOWN}"));
    assert_eq!(metadata["fetched_at"], "2025-01-01T00:00:00Z");
    assert_eq!(metadata["status_code"], 200);
    assert_eq!(metadata["headers"]["Content-Type"], value!(["application/json"]));
    assert_eq!(metadata["body"]["resource"], format!("{base}/mcp"));
    assert_eq!(
        metadata["attempts"],
        value!([
            {"url": format!("{base}{WELL_KNOWN}/mcp"), "source": "well_known_path", "tried": true,
             "status_code": 404, "error": "bad status 404 Not Found"},
            {"url": format!("{base}{WELL_KNOWN}"), "source": "well_known_root", "tried": true,
             "status_code": 200, "selected": true},
        ])
    );
    let server = &metadata["auth_server_metadata"];
    let place = format!("{base}/.well-known/oauth-authorization-server");
    assert_eq!(
        (&server["issuer_url"], &server["selected_url"]),
        (&base.clone().into(), &place.clone().into())
    );
    let attempt = &server["attempts"][0];
    assert_eq!(server["attempts"].as_array().unwrap().len(), 1);
    for (name, expected) in [
        ("url", value!(place)),
        ("document", value!("oauth-authorization-server")),
        ("path_style", value!("prepend")),
        ("tried", value!(true)),
        ("selected", value!(true)),
        ("status_code", value!(200)),
    ] {
        assert_eq!(attempt[name], expected, "{name}");
    }
    assert_eq!(attempt["body"]["issuer"], base);
    assert_eq!(
        run.view["www_authenticate_probe"],
        value!({"attempted": true, "error": "oauth discovery: WWW-Authenticate probe GET got status 405"})
    );
    assert_eq!(run.view["metadata_source"], "well_known");
    assert_eq!(run.view["auth_server_metadata_mode"], "authorization_servers[0] only (source of truth)");
    assert_eq!(run.view["authorization_server_count"], 2);
    assert_eq!(run.view["selected_authorization_server"], base);
    assert_eq!(run.view["registration"], value!({"admitted": 1, "refusals": ["because"]}));
    assert!(!run.view.to_string().contains("hidden"), "{}", run.view);

    let entries: Vec<_> = run.entries.iter().map(|entry| (entry.role, entry.url.clone())).collect();
    assert_eq!(
        entries,
        [
            ("prmd-resource", format!("{base}/mcp")),
            ("prmd-auth-server", base.clone()),
            ("prmd-source", format!("{base}{WELL_KNOWN}")),
            ("auth-server-metadata", place),
            ("issuer", base.clone()),
            ("token-endpoint", format!("{base}//Token?x")),
        ]
    );
}

#[test]
fn the_place_that_the_challenge_names_is_told() {
    let run = run("/mcp", |request| {
        let base = base(request);
        match request.path.as_str() {
            "/mcp" => {
                let value = format!("Bearer resource_metadata=\"{base}{WELL_KNOWN}/mcp\"");
                reply(401, &[("WWW-Authenticate", &value)], "")
            }
            _ => json(200, r#"{"resource":"https://h/"}"#),
        }
    });
    let place = format!("http://{}{WELL_KNOWN}/mcp", run.server.address);
    assert_eq!(run.view["metadata_source"], "www_authenticate");
    assert_eq!(run.view["www_authenticate_probe"], value!({"attempted": true, "url": place}));
    let attempts = run.view["metadata"]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "once, although it is a well-known place: {attempts:?}");
    assert_eq!((&attempts[0]["source"], &attempts[1]["tried"]), (&"www_authenticate".into(), &Value::Null));
    assert_eq!(run.view["authorization_server_count"], 0);
}

#[test]
fn what_is_not_advertised_is_no_error_and_what_fails_is() {
    let nothing = run("/mcp", |_| reply(404, &[], "no"));
    assert!(matches!(nothing.conclusions[..], [Conclusion::NotAdvertised(_)]));
    assert_eq!(nothing.view["metadata_source"], "not_advertised");
    assert_eq!((&nothing.view["error"], &nothing.view["pending"]), (&Value::Null, &Value::Null));
    assert!(nothing.entries.is_empty());

    let wrong = run("/", |request| match request.path.as_str() {
        WELL_KNOWN => json(200, r#"{"authorization_servers":[]}"#),
        _ => reply(404, &[], ""),
    });
    let [Conclusion::Failed(error)] = &wrong.conclusions[..] else { panic!("{:?}", wrong.conclusions) };
    assert_eq!(wrong.view["error"], error.as_str());
    assert_eq!(wrong.view["metadata_source"], Value::Null);
    let attempts = &wrong.view["metadata"]["attempts"];
    assert_eq!(attempts.as_array().unwrap().len(), 1);
    assert!(attempts[0]["error"].as_str().unwrap().contains("invalid"), "{attempts}");

    let long = run("/", |request| match request.path.as_str() {
        WELL_KNOWN => json(200, &format!(r#"{{"resource":"r","x":"{}"}}"#, "x".repeat(1024 * 1024))),
        _ => reply(404, &[], ""),
    });
    assert!(matches!(long.conclusions[..], [Conclusion::Failed(_)]));
}

#[test]
fn a_redirect_elsewhere_is_told_as_blocked() {
    let run = run("/", |request| match request.path.as_str() {
        WELL_KNOWN => reply(302, &[("Location", "http://127.0.0.1:9/")], ""),
        _ => reply(404, &[], ""),
    });
    let error = run.view["metadata"]["attempts"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("redirect blocked"), "{error}");
}

#[test]
fn documents_of_an_issuer_are_looked_for_until_one_names_it() {
    let run = run("/", |request| {
        let base = base(request);
        let issuer = format!("{base}/tenant/v2");
        match request.path.as_str() {
            WELL_KNOWN => {
                json(200, &value!({"resource": base, "authorization_servers": [issuer]}).to_string())
            }
            "/.well-known/oauth-authorization-server/tenant/v2" => json(200, r#"{"issuer":"https://idp"}"#),
            "/tenant/v2/.well-known/openid-configuration" => {
                json(200, &value!({"issuer": issuer}).to_string())
            }
            _ => reply(404, &[("Content-Type", "text/plain")], "no"),
        }
    });
    let server = &run.view["metadata"]["auth_server_metadata"];
    let attempts = server["attempts"].as_array().unwrap();
    let seen: Vec<_> = attempts
        .iter()
        .map(|a| (a["path_style"].as_str().unwrap(), a["document"].as_str().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ("append", "oauth-authorization-server"),
            ("prepend", "oauth-authorization-server"),
            ("append", "openid-configuration"),
        ]
    );
    assert_eq!(attempts[0]["error"], "bad status 404 Not Found");
    assert_eq!(attempts[0]["body_text"], "no");
    assert_eq!(
        (&attempts[1]["issuer_mismatch"], &attempts[1]["metadata_issuer"]),
        (&true.into(), &"https://idp".into())
    );
    assert_eq!((&attempts[2]["selected"], &attempts[2]["issuer_mismatch"]), (&true.into(), &Value::Null));
}

#[test]
fn a_discovery_of_a_silent_server_ends_by_itself() {
    let run = run("/", |_| Answer::Never);
    let [Conclusion::Failed(error)] = &run.conclusions[..] else { panic!("{:?}", run.conclusions) };
    assert!(!error.contains("hidden"), "{error}");
    assert_eq!(run.view["metadata"]["attempts"][0]["status_code"], Value::Null);
    assert_eq!(run.view["metadata"]["attempts"][0]["tried"], true);
}

#[test]
fn the_success_of_a_command_is_told_after_the_failure_that_it_ends() {
    let works = Arc::new(AtomicBool::new(false));
    let working = Arc::clone(&works);
    let server = Site::tcp(move |request| match request.path.as_str() {
        WELL_KNOWN if working.load(Ordering::SeqCst) => {
            json(200, &value!({"resource": format!("{}/mcp", base(request))}).to_string())
        }
        _ => reply(500, &[], ""),
    });
    let url = url::Url::parse(&format!("{}/mcp", server.url().trim_end_matches("/mcp"))).unwrap();
    let status = Arc::new(Status::pending(&url));
    let (failed, has_failed) = std::sync::mpsc::channel();
    let told: Arc<Mutex<Vec<Conclusion>>> = Arc::default();
    let seen = Arc::clone(&told);
    let discovery = Discovery::new(
        binding(&url),
        None,
        Box::new(|_| Registration::default()),
        Arc::clone(&status),
        Box::new(move |conclusion| {
            if matches!(conclusion, Conclusion::Failed(_)) {
                failed.send(()).unwrap();
                // Time enough for the command to overtake, if it could.
                let end = Instant::now() + Duration::from_millis(500);
                while seen.lock().unwrap().is_empty() && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            seen.lock().unwrap().push(conclusion.clone());
        }),
    );
    let stop = Cancel::new();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| discovery.keep_trying(&stop));
        has_failed.recv_timeout(common::PATIENCE).unwrap();
        works.store(true, Ordering::SeqCst);
        let answer = discovery.answer(Deadline::after(common::PATIENCE));
        assert!(matches!(answer, oauth::Answer::Document { .. }), "{answer:?}");
        stop.cancel();
        thread.join().unwrap();
    });
    let told = told.lock().unwrap();
    assert!(matches!(told[..], [Conclusion::Failed(_), Conclusion::Found]), "{told:?}");
    assert_eq!(status.conclusion(), Some(Conclusion::Found));
}
