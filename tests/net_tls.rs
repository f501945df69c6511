//! TLS over real sockets: trust, names, validity, client certificates, proxies in between.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "net_support/authority.rs"]
mod authority;
mod net_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, Identity};
use net_support::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tunnel_client::net::{
    Cancel, Cause, Deadline, Error, HttpClient, Origin, OriginCertificate, ProxyPolicy, ProxyUrl, Request,
    Route, Trust, Uri, Via,
};

/// Answers every request over TLS with `reply`; notes requests, and `anonymous` or `identified` first.
fn tls_server(config: Arc<ServerConfig>, reply: String) -> Server {
    Server::new(move |peer| serve_tls(peer, &config, &reply))
}

fn serve_tls(peer: &mut Peer, config: &Arc<ServerConfig>, reply: &str) {
    let Some(mut peer) = accept_tls(peer, config) else { return };
    while peer.request().is_some() {
        peer.send(reply);
    }
}

type TlsStream = StreamOwned<ServerConnection, TcpStream>;

fn accept_tls(peer: &Peer, config: &Arc<ServerConfig>) -> Option<Peer<TlsStream>> {
    let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = peer.stream.try_clone().unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).ok()?;
    }
    let who = if session.peer_certificates().is_some() { "identified" } else { "anonymous" };
    peer.note(who);
    Some(Peer::over(StreamOwned::new(session, stream), peer))
}

fn https(server: &Server) -> Uri {
    format!("https://localhost:{}/p", server.address.port()).parse().unwrap()
}

fn trusting(authority: &Authority) -> Route {
    Route::new(Via::Direct, authority.trust())
}

fn failure(route: &Route, uri: &Uri) -> Error {
    fetch(&client(route), get(uri)).unwrap_err()
}

#[test]
fn a_private_authority_is_trusted_through_the_bundle_and_only_through_it() {
    let authority = Authority::new();
    let server = tls_server(authority.sign("localhost", |_| {}).config(), reply("200 OK", "secure"));
    let uri = https(&server);
    let client = client(&trusting(&authority));
    for _ in 0..3 {
        assert_eq!(fetch(&client, post(&uri, b"body")).unwrap(), (200, "secure".into()));
    }
    assert_eq!(server.accepted(), 1, "the connection is kept");

    let error = failure(&direct(), &uri);
    assert_eq!((error.cause, error.written), (Cause::Tls, false));
    assert!(error.message.contains("authority") && error.message.contains("CA bundle"), "{error}");
}

#[test]
fn certificates_out_of_time_or_for_other_names_are_refused_in_clear_words() {
    let authority = Authority::new();
    for (identity, words) in [
        (authority.sign("localhost", |p| p.not_after = date_time_ymd(2020, 1, 1)), "has expired"),
        (authority.sign("localhost", |p| p.not_before = date_time_ymd(2999, 1, 1)), "not valid yet"),
        (authority.sign("other.example", |_| {}), "not valid for this host name"),
    ] {
        let server = tls_server(identity.config(), reply("200 OK", ""));
        let error = failure(&trusting(&authority), &https(&server));
        assert_eq!((error.cause, error.written), (Cause::Tls, false));
        let peer = format!("localhost:{}", server.address.port());
        assert!(error.message.contains(words) && error.message.contains(&peer), "{error}");
    }
}

#[test]
fn a_listed_self_signed_certificate_is_trusted_for_its_own_name_and_time_only() {
    let directory = tempfile::tempdir().unwrap();
    let self_signed = |name: &str, change: &dyn Fn(&mut CertificateParams)| {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // As `openssl req -x509` makes them.
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Identity { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    };
    for (identity, words) in [
        (self_signed("localhost", &|_| {}), None),
        (self_signed("other.example", &|_| {}), Some("host name")),
        (self_signed("localhost", &|p| p.not_after = date_time_ymd(2020, 1, 1)), Some("has expired")),
    ] {
        let bundle = directory.path().join("bundle.pem");
        std::fs::write(&bundle, &identity.pem).unwrap();
        let server = tls_server(identity.config(), reply("200 OK", "self"));
        let route = Route::new(Via::Direct, Trust::load(Some(&bundle)).unwrap());
        let outcome = fetch(&client(&route), get(&https(&server)));
        match words {
            None => assert_eq!(outcome.unwrap().1, "self"),
            Some(words) => {
                let error = outcome.unwrap_err();
                assert!(error.cause == Cause::Tls && error.message.contains(words), "{error}");
            }
        }
        assert_eq!(failure(&direct(), &https(&server)).cause, Cause::Tls, "not without the bundle");
    }
}

#[test]
fn peers_that_do_not_speak_tls_are_tls_failures_and_those_that_break_are_not() {
    for (bytes, cause, words) in [
        ("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", Cause::Tls, "does not speak TLS"),
        ("", Cause::Eof, "closed the connection during the TLS handshake"),
    ] {
        let server = Server::new(move |peer| {
            peer.read_once();
            peer.send(bytes);
        });
        let error = failure(&direct(), &https(&server));
        assert_eq!((error.cause, error.written), (cause, false), "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[test]
fn a_silent_handshake_ends_with_its_own_limit_the_deadline_or_the_cancellation() {
    let server = Server::new(|peer| {
        peer.read_once();
        peer.note("hello");
        peer.wait_for_end();
    });
    let uri = https(&server);
    let mut hasty = direct();
    hasty.limits.handshake = Duration::from_millis(50);
    let error = failure(&hasty, &uri);
    assert_eq!((error.cause, error.written), (Cause::Timeout, false), "{error}");

    let late = Request { deadline: Deadline::after(Duration::from_millis(50)), ..get(&uri) };
    assert_eq!(fetch(&client(&direct()), late).unwrap_err().cause, Cause::Timeout);
    server.next_seen();
    server.next_seen();

    let cancel = Cancel::new();
    let client = HttpClient::new(&direct(), &cancel);
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| fetch(&client, get(&uri)));
        cancel_when_seen(&server, &cancel);
        call.join().unwrap().unwrap_err()
    });
    assert_eq!((error.cause, error.written), (Cause::Cancelled, false));
}

#[test]
fn a_truncated_tls_stream_is_no_end_of_a_body() {
    let authority = Authority::new();
    let config = authority.sign("localhost", |_| {}).config();
    for (bytes, cause) in [("HTTP/1.1 200 OK\r\n\r\nhalf", Cause::UnexpectedEof), ("", Cause::Eof)] {
        let config = Arc::clone(&config);
        let server = Server::new(move |peer| {
            let mut secure = accept_tls(peer, &config).unwrap();
            secure.request();
            secure.send(bytes);
            let _ = peer.stream.shutdown(std::net::Shutdown::Write);
            peer.wait_for_end();
        });
        let error = failure(&trusting(&authority), &https(&server));
        assert_eq!((error.cause, error.written), (cause, true), "{error}");
    }
}

#[test]
fn a_client_certificate_is_shown_to_its_own_origin_and_to_no_other() {
    let authority = Authority::new();
    let identity = authority.sign("localhost", |_| {});
    let own = tls_server(authority.demanding(&identity), reply("200 OK", "welcome"));
    let other = tls_server(authority.demanding(&identity), reply("200 OK", "welcome"));

    let anonymous = failure(&trusting(&authority), &https(&own));
    assert_eq!(anonymous.cause, Cause::Tls);
    assert!(anonymous.message.contains("requires a client certificate"), "{anonymous}");

    let mut route = trusting(&authority);
    route.client_certificate = Some(OriginCertificate {
        certificate: authority.client_certificate(),
        origin: Origin::of(&https(&own)).unwrap(),
    });
    let client = client(&route);
    assert_eq!(fetch(&client, get(&https(&own))).unwrap(), (200, "welcome".into()));
    assert_eq!(own.next_seen(), "identified");

    let error = fetch(&client, get(&https(&other))).unwrap_err();
    assert_eq!(error.cause, Cause::Tls);
    assert!(error.message.contains("requires a client certificate"), "{error}");
}

#[test]
fn a_rejected_client_certificate_is_called_rejected() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = tls_server(authority.demanding(&authority.sign("localhost", |_| {})), reply("200 OK", ""));
    let mut route = trusting(&authority);
    route.client_certificate = Some(OriginCertificate {
        certificate: stranger.client_certificate(),
        origin: Origin::of(&https(&server)).unwrap(),
    });
    let error = failure(&route, &https(&server));
    assert_eq!(error.cause, Cause::Tls);
    assert!(error.message.contains("rejected the client certificate"), "{error}");
}

/// A reply after which the next request needs a new connection.
const ONCE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[test]
fn a_replaced_bundle_counts_for_the_next_connection_and_a_broken_one_changes_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let server =
        |authority: &Authority| tls_server(authority.sign("localhost", |_| {}).config(), ONCE.to_owned());
    let (of_old, of_new) = (server(&old), server(&new));
    let trust = old.trust();
    let client = client(&Route::new(Via::Direct, trust.clone()));
    let cause = |server: &Server| fetch(&client, get(&https(server))).err().map(|error| error.cause);
    let listed = || trust.report().extra_bundle.unwrap().certificates[0].cert_id.clone();
    let before = listed();
    assert_eq!((cause(&of_old), cause(&of_new)), (None, Some(Cause::Tls)));

    // As programs replace it that want it to be whole at any time.
    std::fs::copy(new.path("ca.pem"), old.path("next")).unwrap();
    std::fs::rename(old.path("next"), old.path("ca.pem")).unwrap();
    assert_eq!((cause(&of_old), cause(&of_new)), (Some(Cause::Tls), None));
    let after = listed();
    assert_ne!(after, before, "the report tells what is trusted now");

    old.write("ca.pem", "half a file");
    assert_eq!((cause(&of_old), cause(&of_new)), (Some(Cause::Tls), None));
    std::fs::remove_file(old.path("ca.pem")).unwrap();
    assert_eq!((cause(&of_new), listed()), (None, after));

    old.write("ca.pem", &(old.certificate.pem() + &new.certificate.pem()));
    assert_eq!((cause(&of_old), cause(&of_new)), (None, None));
}

#[test]
fn a_replaced_client_certificate_is_shown_once_its_key_has_come_as_well() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = tls_server(authority.demanding(&authority.sign("localhost", |_| {})), ONCE.to_owned());
    let mut route = trusting(&authority);
    route.client_certificate = Some(OriginCertificate {
        certificate: stranger.client_certificate(),
        origin: Origin::of(&https(&server)).unwrap(),
    });
    let client = client(&route);
    let cause = || fetch(&client, get(&https(&server))).err().map(|error| error.cause);
    assert_eq!(cause(), Some(Cause::Tls), "of a stranger");

    let known = authority.sign("client", |_| {});
    stranger.write("client.pem", &known.pem);
    assert_eq!(cause(), Some(Cause::Tls), "the pair does not match: the stranger's is still shown");
    stranger.write("client.key", &known.key.serialize_pem());
    assert_eq!((cause(), cause()), (None, None));

    stranger.client_certificate();
    assert_eq!(cause(), Some(Cause::Tls), "no session of the old certificate is resumed");
}

#[test]
fn a_kept_connection_does_not_outlive_the_certificate_that_opened_it_for_long() {
    let authority = Authority::new();
    let identity = authority.sign("localhost", |_| {});
    let server = tls_server(authority.demanding(&identity), reply("200 OK", "welcome"));
    let mut route = trusting(&authority);
    route.client_certificate = Some(OriginCertificate {
        certificate: authority.client_certificate(),
        origin: Origin::of(&https(&server)).unwrap(),
    });
    let client = client(&route);
    let fetch = || assert_eq!(fetch(&client, get(&https(&server))).unwrap().0, 200);
    fetch();
    fetch();
    assert_eq!(server.accepted(), 1, "it is kept as long as nothing changes");
    authority.client_certificate();
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while server.accepted() == 1 && std::time::Instant::now() < patience {
        fetch();
    }
    let renewed = server.accepted();
    assert!(renewed > 1, "another one is opened");
    (0..20).for_each(|_| fetch());
    assert!(server.accepted() <= renewed + 1, "which is kept again");
}

/// A proxy that opens tunnels to where it is asked, over `wire`.
fn tunnel<S: Read + Write + SplitCopy>(mut peer: Peer<S>) {
    let Some(request) = peer.request() else { return };
    let authority = request.split_whitespace().nth(1).unwrap().to_owned();
    let upstream = TcpStream::connect(authority.replace("localhost", "127.0.0.1")).unwrap();
    peer.send("HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n");
    peer.stream.splice(upstream);
}

/// Copies both ways until either side ends.
trait SplitCopy {
    fn splice(self, upstream: TcpStream);
}

impl SplitCopy for TcpStream {
    fn splice(mut self, mut upstream: TcpStream) {
        let mut back = (upstream.try_clone().unwrap(), self.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut back.0, &mut back.1);
            let _ = back.1.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut self, &mut upstream);
        let _ = upstream.shutdown(std::net::Shutdown::Both);
    }
}

impl SplitCopy for TlsStream {
    fn splice(mut self, mut upstream: TcpStream) {
        let tick = Some(Duration::from_millis(5));
        self.sock.set_read_timeout(tick).unwrap();
        upstream.set_read_timeout(tick).unwrap();
        let mut buffer = [0; 16384];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return,
                Ok(amount) => upstream.write_all(&buffer[..amount]).unwrap(),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            match upstream.read(&mut buffer) {
                Ok(0) => return,
                Ok(amount) => self.write_all(&buffer[..amount]).unwrap(),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

fn through(proxy: &str, trust: Trust) -> Route {
    let policy = ProxyPolicy::Fixed { proxy: ProxyUrl::parse(proxy).unwrap(), source: "http-proxy".into() };
    Route::new(Via::Proxies(policy), trust)
}

#[test]
fn https_goes_through_a_plain_proxy_and_the_certificate_goes_to_the_target() {
    let authority = Authority::new();
    let identity = authority.sign("localhost", |_| {});
    let target = tls_server(authority.demanding(&identity), reply("200 OK", "inside"));
    let proxy = Server::new(|peer| tunnel(Peer::over(peer.stream.try_clone().unwrap(), peer)));
    let mut route = through(&format!("http://{}", proxy.address), authority.trust());
    route.client_certificate = Some(OriginCertificate {
        certificate: authority.client_certificate(),
        origin: Origin::of(&https(&target)).unwrap(),
    });
    let client = client(&route);
    for _ in 0..2 {
        assert_eq!(fetch(&client, post(&https(&target), b"x")).unwrap(), (200, "inside".into()));
    }
    assert_eq!((proxy.accepted(), target.accepted()), (1, 1));
    assert_eq!(target.next_seen(), "identified");
    assert!(target.next_seen().starts_with("POST /p HTTP/1.1\r\n"));
}

#[test]
fn an_https_proxy_is_verified_and_never_sees_the_client_certificate() {
    let authority = Authority::new();
    let identity = authority.sign("localhost", |_| {});
    let target = tls_server(authority.demanding(&identity), reply("200 OK", "inside"));
    // Asks for a certificate, but does not insist.
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let asking = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(asking);
    let config = Arc::new(config.with_single_cert(identity.chain.clone(), identity.private_key()).unwrap());
    let proxy = Server::new(move |peer| {
        if let Some(secure) = accept_tls(peer, &config) {
            tunnel(secure);
        }
    });
    let proxy_url = format!("https://localhost:{}", proxy.address.port());
    let mut route = through(&proxy_url, authority.trust());
    route.client_certificate = Some(OriginCertificate {
        certificate: authority.client_certificate(),
        origin: Origin::of(&https(&target)).unwrap(),
    });
    let client = client(&route);
    let body = "y".repeat(40_000);
    for _ in 0..2 {
        assert_eq!(fetch(&client, post(&https(&target), body.as_bytes())).unwrap(), (200, "inside".into()));
    }
    assert_eq!((proxy.accepted(), target.accepted()), (1, 1));
    assert_eq!(proxy.next_seen(), "anonymous");
    assert_eq!(target.next_seen(), "identified");

    let error = failure(&through(&proxy_url, Trust::system()), &https(&target));
    assert_eq!((error.cause, error.written), (Cause::Tls, false));
    assert!(error.message.contains(&format!("proxy {proxy_url}")), "{error}");
}

#[test]
fn an_https_proxy_serves_http_targets_in_absolute_form() {
    let authority = Authority::new();
    let proxy = tls_server(authority.sign("localhost", |_| {}).config(), reply("200 OK", "via"));
    let route = through(&format!("https://localhost:{}", proxy.address.port()), authority.trust());
    let uri = "http://target.example/x".parse().unwrap();
    assert_eq!(fetch(&client(&route), get(&uri)).unwrap(), (200, "via".into()));
    assert_eq!(proxy.next_seen(), "anonymous");
    assert!(proxy.next_seen().starts_with("GET http://target.example/x HTTP/1.1\r\n"));
}

#[test]
fn a_unix_socket_carries_tls_with_the_name_of_the_url() {
    let authority = Authority::new();
    let config = authority.sign("tunnel.example", |_| {}).config();
    let path = authority.path("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let mut buffer = [0; 4096];
        let amount = stream.read(&mut buffer).unwrap();
        stream.write_all(reply("200 OK", "unix").as_bytes()).unwrap();
        String::from_utf8_lossy(&buffer[..amount]).into_owned()
    });
    let route = Route::new(Via::Unix(path), authority.trust());
    let uri = "https://tunnel.example/mcp".parse().unwrap();
    assert_eq!(fetch(&client(&route), get(&uri)).unwrap(), (200, "unix".into()));
    assert!(served.join().unwrap().starts_with("GET /mcp HTTP/1.1\r\nhost: tunnel.example\r\n"));
}

#[test]
fn clients_of_plain_routes_never_load_certificates() {
    let server = Server::answering(reply("200 OK", "plain"));
    let route = Route::new(Via::Direct, Trust::load(None::<&Path>).unwrap());
    assert_eq!(fetch(&client(&route), get(&server.url("/"))).unwrap().1, "plain");
    assert_eq!(format!("{:?}", route.trust), "Trust { bundle: None, system_loaded: false, .. }");
}
