//! Proxies over real sockets: absolute form, CONNECT, SOCKS 5, credentials.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod net_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use net_support::*;
use tunnel_client::net::{
    Cancel, Cause, Deadline, EnvironmentProxies, HttpClient, ProxyPolicy, ProxyUrl, Request, Route, Trust,
    Via, check_proxy,
};

fn through(proxy: &str) -> Route {
    let policy =
        ProxyPolicy::Fixed { proxy: ProxyUrl::parse(proxy).unwrap(), source: "http-proxy".to_owned() };
    Route::new(Via::Proxies(policy), Trust::system())
}

fn environment(variables: &'static [(&'static str, String)]) -> Route {
    let lookup =
        |name: &str| variables.iter().find(|(have, _)| *have == name).map(|(_, value)| value.clone());
    let policy = ProxyPolicy::Environment(Arc::new(EnvironmentProxies::from_lookup(lookup)));
    Route::new(Via::Proxies(policy), Trust::system())
}

#[test]
fn http_targets_are_asked_for_in_absolute_form_on_a_kept_connection() {
    let proxy = Server::answering(reply("200 OK", "via"));
    let client = client(&through(&format!("http://us%40er:p%20w@{}", proxy.address)));
    for (uri, line) in [
        ("http://127.0.0.1:9/loop", "GET http://127.0.0.1:9/loop HTTP/1.1\r\n"),
        ("http://127.0.0.1:9", "GET http://127.0.0.1:9/ HTTP/1.1\r\n"),
        ("http://Target.example:80/a?b=c", "GET http://target.example/a?b=c HTTP/1.1\r\n"),
    ] {
        let uri = uri.parse().unwrap();
        assert_eq!(fetch(&client, get(&uri)).unwrap(), (200, "via".into()));
        let seen = proxy.next_seen();
        assert!(seen.starts_with(line), "{seen}");
        assert!(seen.contains("\r\nProxy-Authorization: Basic dXNAZXI6cCB3\r\n"), "{seen}");
    }
    let uri = "http://127.0.0.1:9/post".parse().unwrap();
    fetch(&client, post(&uri, b"body")).unwrap();
    let seen = proxy.next_seen();
    assert!(seen.starts_with("POST http://127.0.0.1:9/post HTTP/1.1\r\n") && seen.ends_with("\r\n\r\nbody"));
    assert_eq!(proxy.accepted(), 2, "one connection for each target");
}

#[test]
fn without_credentials_none_are_sent() {
    let proxy = Server::answering(reply("200 OK", ""));
    let client = client(&through(&format!("http://{}", proxy.address)));
    fetch(&client, get(&"http://target.example/".parse().unwrap())).unwrap();
    assert!(!proxy.next_seen().to_ascii_lowercase().contains("proxy-authorization"));
}

#[test]
fn https_targets_are_asked_for_with_connect_and_a_refusal_names_proxy_and_status() {
    for (status, credentials, header) in [
        (407, "", None),
        (403, "user:secret@", Some("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n")),
        (502, "", None),
    ] {
        let proxy = Server::answering(reply(&format!("{status} No"), "go away"));
        let client = client(&through(&format!("http://{credentials}{}", proxy.address)));
        let error = fetch(&client, get(&"https://127.0.0.1/x".parse().unwrap())).unwrap_err();
        assert_eq!((error.cause, error.written), (Cause::ProxyRefused(status), false), "{error}");
        assert!(error.message.contains(&format!("http://{}", proxy.address)), "{error}");
        assert!(error.message.contains(&status.to_string()) && !error.message.contains("secret"), "{error}");
        let seen = proxy.next_seen();
        let expected = format!(
            "CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: 127.0.0.1:443\r\n{}\r\n",
            header.unwrap_or_default()
        );
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_proxy_that_is_away_silent_or_no_proxy_is_a_failure_before_writing() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Server::new(|peer| {
        peer.request();
        peer.wait_for_end();
    });
    let hangs_up = Server::new(|peer| {
        peer.request();
    });
    let not_http = Server::answering("220 smtp ready\r\n");
    for (address, cause) in [
        (gone, Cause::ConnectionRefused),
        (silent.address, Cause::Timeout),
        (hangs_up.address, Cause::Dial),
        (not_http.address, Cause::Dial),
    ] {
        let mut route = through(&format!("http://{address}"));
        route.limits.connect = Duration::from_millis(300);
        let error = fetch(&client(&route), get(&"https://t.example/".parse().unwrap())).unwrap_err();
        assert_eq!((error.cause, error.written), (cause, false), "{error}");
        assert!(error.message.contains(&address.to_string()), "{error}");
    }
}

#[test]
fn cancellation_and_the_deadline_end_the_wait_for_a_tunnel() {
    let proxy = Server::new(|peer| {
        peer.request();
        peer.wait_for_end();
    });
    let cancel = Cancel::new();
    let client = HttpClient::new(&through(&format!("http://{}", proxy.address)), &cancel);
    let uri = "https://t.example/".parse().unwrap();
    let late = Request { deadline: Deadline::after(Duration::from_millis(50)), ..get(&uri) };
    assert_eq!(fetch(&client, late).unwrap_err().cause, Cause::Timeout);
    proxy.next_seen();
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| fetch(&client, Request { deadline: Deadline::NEVER, ..get(&uri) }));
        cancel_when_seen(&proxy, &cancel);
        call.join().unwrap().unwrap_err()
    });
    assert_eq!((error.cause, error.written), (Cause::Cancelled, false));
}

#[test]
fn the_environment_proxy_is_used_but_not_for_exempt_targets() {
    let proxy = Server::answering(reply("200 OK", "via"));
    let target = Server::answering(reply("200 OK", "direct"));
    let variables = vec![
        ("HTTP_PROXY", proxy.address.to_string()),
        ("NO_PROXY", "exempt.example, 192.0.2.0/24".to_owned()),
    ];
    let client = client(&environment(variables.leak()));
    assert_eq!(fetch(&client, get(&"http://other.example/".parse().unwrap())).unwrap().1, "via");
    assert_eq!(fetch(&client, get(&target.url("/"))).unwrap().1, "direct", "loopback is never proxied");
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn a_fixed_proxy_takes_loopback_targets_too() {
    let proxy = Server::answering(reply("200 OK", "via"));
    let target = Server::answering(reply("200 OK", "direct"));
    let client = client(&through(&format!("http://{}", proxy.address)));
    assert_eq!(fetch(&client, get(&target.url("/"))).unwrap().1, "via");
    assert_eq!(target.accepted(), 0);
}

/// Speaks SOCKS 5 and connects every request to `target`; notes what it is asked for.
fn socks_server(target: std::net::SocketAddr, status: u8, wants_credentials: bool) -> Server {
    Server::new(move |peer| {
        let mut greeting = [0; 2];
        peer.stream.read_exact(&mut greeting).unwrap();
        let mut methods = vec![0; usize::from(greeting[1])];
        peer.stream.read_exact(&mut methods).unwrap();
        if wants_credentials {
            peer.send(if methods.contains(&2) { [5, 2] } else { [5, 0xff] });
            let mut field = [0; 2];
            if peer.stream.read_exact(&mut field).is_err() {
                return;
            }
            let mut user = vec![0; usize::from(field[1])];
            peer.stream.read_exact(&mut user).unwrap();
            let mut length = [0; 1];
            peer.stream.read_exact(&mut length).unwrap();
            let mut password = vec![0; usize::from(length[0])];
            peer.stream.read_exact(&mut password).unwrap();
            peer.note(format!("{}/{}", String::from_utf8_lossy(&user), String::from_utf8_lossy(&password)));
            peer.send([1, 0]);
        } else {
            peer.send([5, 0]);
        }
        let mut head = [0; 4];
        peer.stream.read_exact(&mut head).unwrap();
        let host = match head[3] {
            3 => {
                let mut length = [0; 1];
                peer.stream.read_exact(&mut length).unwrap();
                let mut name = vec![0; usize::from(length[0])];
                peer.stream.read_exact(&mut name).unwrap();
                String::from_utf8(name).unwrap()
            }
            kind => format!("kind {kind}"),
        };
        let mut port = [0; 2];
        peer.stream.read_exact(&mut port).unwrap();
        peer.note(format!("{host}:{}", u16::from_be_bytes(port)));
        peer.send([5, status, 0, 1, 127, 0, 0, 1, 0, 9]);
        if status != 0 {
            return;
        }
        let mut upstream = TcpStream::connect(target).unwrap();
        let mut back = (upstream.try_clone().unwrap(), peer.stream.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
        let _ = std::io::copy(&mut peer.stream, &mut upstream);
        let _ = upstream.flush();
    })
}

#[test]
fn socks_proxies_of_the_environment_resolve_names_themselves() {
    let target = Server::answering(reply("200 OK", "target"));
    for (user_info, wants) in [("", false), ("us:pw@", true)] {
        let socks = socks_server(target.address, 0, wants);
        let variables = vec![("HTTP_PROXY", format!("socks5://{user_info}{}", socks.address))];
        let client = client(&environment(variables.leak()));
        let uri = "http://only-the-proxy-knows.invalid:8080/p".parse().unwrap();
        assert_eq!(fetch(&client, get(&uri)).unwrap(), (200, "target".into()));
        if wants {
            assert_eq!(socks.next_seen(), "us/pw");
        }
        assert_eq!(socks.next_seen(), "only-the-proxy-knows.invalid:8080");
        assert!(target.next_seen().starts_with("GET /p HTTP/1.1\r\n"), "origin form behind SOCKS");
    }
}

#[test]
fn refusals_of_a_socks_proxy_keep_their_cause() {
    let target = Server::answering("");
    for (status, cause) in
        [(5, Cause::ConnectionRefused), (4, Cause::HostUnreachable), (3, Cause::NetworkUnreachable)]
    {
        let socks = socks_server(target.address, status, false);
        let variables = vec![("HTTP_PROXY", format!("socks5://{}", socks.address))];
        let client = client(&environment(variables.leak()));
        let error = fetch(&client, get(&"http://t.example/".parse().unwrap())).unwrap_err();
        assert_eq!((error.cause, error.written), (cause, false), "{error}");
    }
    let picky = socks_server(target.address, 0, true);
    let variables = vec![("HTTP_PROXY", format!("socks5://{}", picky.address))];
    let client = client(&environment(variables.leak()));
    let error = fetch(&client, get(&"http://t.example/".parse().unwrap())).unwrap_err();
    assert_eq!(error.cause, Cause::Dial);
    assert!(error.message.contains("credentials"), "{error}");
}

#[test]
fn a_check_tells_how_a_proxy_fails() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = Server::answering("HTTP/1.1 200 OK\r\n\r\n");
    let closed = Server::answering(reply("407 Proxy Authentication Required", ""));
    let hangs_up = Server::new(|peer| {
        peer.request();
    });
    for (scheme, address, target, status, failure) in [
        ("http", open.address, Some("t.example:443"), Some(200), None),
        ("http", open.address, None, None, None),
        ("http", closed.address, Some("t.example:443"), Some(407), Some(("connect", "bad_status"))),
        ("http", hangs_up.address, Some("t.example:443"), None, Some(("connect", "connect_error"))),
        ("http", gone, Some("t.example:443"), None, Some(("tcp", "dial_error"))),
    ] {
        let proxy = ProxyUrl::parse(&format!("{scheme}://u:p@{address}")).unwrap();
        let check = check_proxy(&proxy, target, &Trust::system(), &Cancel::new());
        let found = check.failure.map(|failure| (failure.phase, failure.reason));
        assert_eq!((check.status, found), (status, failure), "{proxy} {target:?}");
        assert_eq!(check.connect.is_some(), found.is_none_or(|(phase, _)| phase == "connect"));
    }
    assert!(closed.next_seen().contains("\r\nProxy-Authorization: Basic dTpw\r\n"));
}
