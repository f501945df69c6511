//! Redirects, the end of a session, discovery.

use super::*;

#[test]
fn a_redirect_within_the_origin_repeats_method_body_and_headers() {
    let server = serve(|request, stream| {
        let bytes = if request.line.starts_with("POST /mcp ") {
            reply("307 Temporary Redirect", "Location: /moved?x=1\r\n", "gone")
        } else {
            json(RESULT)
        };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    });
    let binding = binding(&format!("{}/mcp", server.origin), &[("X-Static", "1")], &[]);
    answered(run(&binding, CALL, &[("Authorization", "Bearer user")], PATIENCE).0);
    assert_eq!(server.next().get("x-static"), Some("1"));
    let seen = server.next();
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("POST /moved?x=1 HTTP/1.1", CALL));
    assert_eq!((seen.get("authorization"), seen.get("x-static")), (Some("Bearer user"), None));
    assert_eq!(seen.get("referer"), None);
}

#[test]
fn a_redirect_to_another_origin_carries_no_credentials() {
    let other = always(json(RESULT));
    let location = format!("Location: {}/mcp\r\n", other.origin);
    let server = always(reply("308 Permanent Redirect", &location, ""));
    let url = server.origin.replace("http://", "http://user:pw@") + "/mcp";
    let binding = binding(&url, &[("X-Static", "1"), ("Authorization", "Bearer svc")], &[]);
    let headers = [("Authorization", "Bearer user"), ("Cookie", "a=b"), ("Mcp-Session-Id", "s")];
    assert_eq!(answered(run(&binding, CALL, &headers, PATIENCE).0).json, RESULT);
    let seen = other.next();
    for name in ["authorization", "cookie", "mcp-session-id", "x-static", "referer"] {
        assert_eq!(seen.get(name), None, "{name}");
    }
    assert_eq!(seen.body, CALL);
}

#[test]
fn a_post_is_never_turned_into_a_get_and_a_chain_has_an_end() {
    for (status, requests) in [("302 Found", 1), ("303 See Other", 1), ("307 Temporary Redirect", 10)] {
        let server = always(reply(status, "Location: /mcp\r\n", ""));
        let (head, _) = rejected(call(&own(&server)));
        assert_eq!(Some(head.status), status[..3].parse().ok());
        assert_eq!(server.seen.len(), requests, "{status}");
    }
}

#[test]
fn a_session_ends_with_one_delete_whose_status_passes_through() {
    for status in ["204 No Content", "405 Method Not Allowed", "404 Not Found", "500 Oops"] {
        let server = always(reply(status, "", ""));
        let binding = binding(&format!("{}/mcp", server.origin), &[("Authorization", "Bearer svc")], &[]);
        let headers = list(&[("Mcp-Session-Id", "s"), ("Authorization", "Bearer user")]);
        let outcome = binding.terminate_session(&headers, Deadline::after(PATIENCE));
        let Outcome::Accepted(head) = outcome else { panic!("{outcome:?}") };
        assert_eq!(Some(head.status), status[..3].parse().ok());
        let seen = server.next();
        assert_eq!(seen.line, "DELETE /mcp HTTP/1.1");
        assert_eq!(seen.all("authorization"), ["Bearer user"]);
        assert_eq!(seen.get("mcp-session-id"), Some("s"));
        assert_eq!((seen.get("content-type"), seen.body.as_str()), (None, ""));
        assert!(server.seen.is_empty());
    }
}

#[test]
fn discovery_stays_in_its_origin_with_the_operators_headers() {
    let server = serve(|request, stream| {
        let bytes = match request.line.as_str() {
            "GET /away HTTP/1.1" => reply("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
            "GET /near HTTP/1.1" => reply("302 Found", "Location: /there\r\n", ""),
            _ => reply("404 Not Found", "", "{}"),
        };
        stream.write_all(&bytes).unwrap();
        Then::Keep
    });
    let binding = binding(&format!("{}/mcp", server.origin), &[("X-S", "1"), ("X-A", "s")], &[("X-A", "d")]);
    let headers = list(&[("Accept", "application/json")]);
    let request = |path: &str, scope| {
        let url = url::Url::parse(&server.origin).unwrap().join(path).unwrap();
        let deadline = Deadline::after(PATIENCE);
        binding.discovery_request(&DiscoveryRequest {
            method: Method::GET,
            url: &url,
            headers: &headers,
            body: None,
            scope,
            deadline,
        })
    };
    let mut reply = request("/near", DiscoveryScope::Resource).ok().unwrap();
    assert_eq!(reply.head.status, 404);
    assert_eq!(reply.body.read_to_limit(10).unwrap(), b"{}");
    for path in ["/near", "/there"] {
        let seen = server.next();
        assert_eq!(seen.line, format!("GET {path} HTTP/1.1"));
        assert_eq!((seen.get("x-s"), seen.get("x-a")), (Some("1"), Some("d")));
        assert_eq!(seen.get("accept"), Some("application/json"));
    }
    let blocked = request("/away", DiscoveryScope::Resource).err().unwrap();
    assert!(blocked.message.contains("redirect blocked"), "{blocked}");
    server.next();
    request("/there", DiscoveryScope::AuthorizationServer).ok().unwrap();
    let seen = server.next();
    assert_eq!((seen.get("x-s"), seen.get("x-a")), (None, None));
}
