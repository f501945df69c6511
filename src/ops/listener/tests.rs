//! Real sockets against a real listener.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::ops::{Discovery, Metrics, Probe, State};

/// No test waits longer than this for anything.
const BOUND: Duration = Duration::from_secs(20);

fn settings() -> Health {
    Health { listen_addr: "127.0.0.1:0".to_owned(), unix_socket: None, url_file: None }
}

fn routes(state: &Arc<State>) -> Router {
    Router::new().with(HealthRoutes::new(Arc::clone(state), Arc::new(Metrics::default())))
}

fn served(limits: Limits) -> (Listener, Arc<State>) {
    let state = Arc::new(State::new());
    let listener = Listener::bind_with(&settings(), limits).unwrap();
    listener.serve(routes(&state)).unwrap();
    (listener, state)
}

fn connect(listener: &Listener) -> TcpStream {
    let stream = TcpStream::connect(listener.address()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

/// One response: status line, header lines, content.
fn response(reader: &mut impl BufRead, head_only: bool) -> (String, Vec<String>, String) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "closed after {lines:?}");
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = if head_only { 0 } else { length.map_or(0, |length| length.parse().unwrap()) };
    let mut content = vec![0; length];
    reader.read_exact(&mut content).unwrap();
    (lines.remove(0), lines, String::from_utf8(content).unwrap())
}

fn ask(stream: impl Read + Write, request: &str) -> (String, Vec<String>, String) {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(request.as_bytes()).unwrap();
    response(&mut reader, request.starts_with("HEAD"))
}

fn get(listener: &Listener, path: &str) -> (String, String) {
    let (status, _, content) =
        ask(connect(listener), &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    (status, content)
}

/// Waits for the peer to close; anything it sends before is returned.
fn until_closed(mut stream: impl Read) -> String {
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
        _ => text,
    }
}

#[test]
fn health_readiness_and_metrics_are_answered() {
    let (listener, state) = served(Limits::default());
    let (status, headers, content) = ask(connect(&listener), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((status.as_str(), content.as_str()), ("HTTP/1.1 200 OK", "live"));
    assert!(headers.contains(&"Content-Type: text/plain; charset=utf-8".to_owned()), "{headers:?}");
    assert!(headers.iter().any(|line| line.starts_with("Date: ")), "{headers:?}");
    assert_eq!(get(&listener, "/readyz").0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(get(&listener, "/readyz?verbose").1, "oauth discovery pending");
    state.set_discovery(Discovery::Done);
    state.set_probe(Probe::Ok);
    assert_eq!(get(&listener, "/readyz"), ("HTTP/1.1 200 OK".into(), "ready".into()));
    let (_, headers, _) = ask(connect(&listener), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    assert!(headers.contains(&kind.to_owned()), "{headers:?}");
}

#[test]
fn a_scraper_that_takes_gzip_gets_it() {
    let (listener, _) = served(Limits::default());
    let scrape = |coding: &str| {
        let mut stream = connect(&listener);
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (String::from_utf8(reply[..end].to_vec()).unwrap(), reply[end + 4..].to_vec())
    };
    for coding in ["gzip", "deflate, GZIP;q=0.5"] {
        let (head, body) = scrape(coding);
        assert!(head.contains("\r\nContent-Encoding: gzip"), "{head}");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
        assert!(text.contains("\nliveness{"), "{text}");
    }
    for coding in ["identity", "gzip;q=0", "br"] {
        let (head, body) = scrape(coding);
        assert!(!head.contains("Content-Encoding") && body.starts_with(b"# HELP"), "{head}");
    }
}

#[test]
fn unknown_paths_and_other_methods_are_refused() {
    let (listener, _) = served(Limits::default());
    for path in ["/", "/ui", "/nope", "//healthz", "/healthz/"] {
        assert_eq!(get(&listener, path), ("HTTP/1.1 404 Not Found".into(), "404 page not found\n".into()));
    }
    let request = "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    let (status, headers, content) = ask(connect(&listener), request);
    assert_eq!(
        (status.as_str(), content.as_str()),
        ("HTTP/1.1 405 Method Not Allowed", "method not allowed\n")
    );
    assert!(headers.contains(&"Allow: GET, HEAD".to_owned()));
    assert!(headers.contains(&"X-Content-Type-Options: nosniff".to_owned()));
    let (status, headers, _) = ask(connect(&listener), "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(headers.contains(&"Content-Length: 4".to_owned()));
}

#[test]
fn a_connection_serves_many_requests_pipelined_ones_too() {
    let (listener, _) = served(Limits::default());
    let mut reader = BufReader::new(connect(&listener));
    let one = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..3 {
        reader.get_mut().write_all(one.as_bytes()).unwrap();
        assert_eq!(response(&mut reader, false).2, "live");
    }
    let posted = "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    reader.get_mut().write_all(format!("{one}{posted}{one}").as_bytes()).unwrap();
    assert_eq!(response(&mut reader, false).2, "live");
    assert_eq!(response(&mut reader, false).0, "HTTP/1.1 404 Not Found");
    assert_eq!(response(&mut reader, false).2, "live");
    let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(last.as_bytes()).unwrap();
    assert!(until_closed(reader).contains("Connection: close\r\n"));
}

#[test]
fn a_head_that_drips_is_cut_after_its_time_in_total() {
    let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
    let (listener, _) = served(limits);
    let stream = connect(&listener);
    let start = Instant::now();
    let dripping = stream.try_clone().unwrap();
    let dripper = std::thread::spawn(move || {
        // Ends when the connection is cut.
        while (&dripping).write_all(b"G").is_ok() {
            let mut nothing = [0; 1];
            dripping.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            match (&dripping).read(&mut nothing) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {}
                _ => break,
            }
        }
    });
    dripper.join().unwrap();
    let spent = start.elapsed();
    assert!(spent >= Duration::from_millis(250) && spent < BOUND, "{spent:?}");
    drop(stream);
    assert_eq!(get(&listener, "/healthz").1, "live");
}

#[test]
fn a_kept_connection_outlives_the_time_of_a_head() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let (listener, _) = served(limits);
    let mut reader = BufReader::new(connect(&listener));
    let one = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    reader.get_mut().write_all(one.as_bytes()).unwrap();
    response(&mut reader, false);
    // Nothing may arrive within three heads' time: neither an answer nor an end.
    reader.get_mut().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock);
    reader.get_mut().set_read_timeout(Some(BOUND)).unwrap();
    reader.get_mut().write_all(one.as_bytes()).unwrap();
    assert_eq!(response(&mut reader, false).2, "live");
}

#[test]
fn idle_connections_never_keep_a_new_one_out() {
    let limits = Limits { connections: 8, ..Limits::default() };
    let (listener, _) = served(limits);
    let idle: Vec<TcpStream> = (0..20).map(|_| connect(&listener)).collect();
    let partial: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(&listener);
            stream.write_all(b"GET /healthz HT").unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(&listener, "/healthz").1, "live");
    }
    // The oldest made room.
    assert_eq!(until_closed(&idle[0]), "");
    drop((idle, partial));
}

#[test]
fn requests_beyond_the_limits_are_refused_with_a_status() {
    let (listener, _) = served(Limits::default());
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n", "a".repeat(20_000));
    let cases = [
        (long.as_str(), "HTTP/1.1 431 "),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
        ("GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        // Only announced, never sent and never waited for.
        ("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n", "HTTP/1.1 405 "),
        ("POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 405 "),
    ];
    for (request, status) in cases {
        let mut stream = connect(&listener);
        // A peer that is refused early may see its connection end while it still sends.
        let _ = stream.write_all(request.as_bytes());
        let text = until_closed(stream);
        assert!(text.starts_with(status) && text.contains("Connection: close\r\n"), "{text}");
    }
    assert_eq!(get(&listener, "/healthz").1, "live");
}

struct Echo;

impl Module for Echo {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        match request.path.as_str() {
            "/panic" => panic!("on purpose"),
            "/echo" => Some(match request.read_body(10) {
                Ok(body) => Response::text(200, String::from_utf8_lossy(&body).into_owned()),
                Err(BodyError::TooLarge) => Response::error(413, "too large"),
                Err(BodyError::Broken) => Response::error(400, "broken"),
            }),
            _ => None,
        }
    }
}

#[test]
fn bodies_are_read_within_their_limits() {
    let limits = Limits { body: Duration::from_millis(200), ..Limits::default() };
    let listener = Listener::bind_with(&settings(), limits).unwrap();
    listener.serve(Router::new().with(Echo)).unwrap();
    let chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (request, status, content) in [
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 200, "abc"),
        (format!("{chunked}2\r\nab\r\n1;x=y\r\nc\r\n0\r\nTrailer: z\r\n\r\n"), 200, "abc"),
        (format!("{chunked}b\r\nabcdefghijk\r\n0\r\n\r\n"), 413, "too large\n"),
        (format!("{chunked}6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n"), 413, "too large\n"),
        (format!("{chunked}zz\r\n"), 400, "broken\n"),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nabc".to_owned(), 413, "too large\n"),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabc".to_owned(), 400, "broken\n"),
    ] {
        let (line, _, text) = ask(connect(&listener), &request);
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {line}");
        assert_eq!(text, content);
    }
    let mut reader = BufReader::new(connect(&listener));
    let waiting = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    reader.get_mut().write_all(waiting).unwrap();
    assert_eq!(response(&mut reader, false).0, "HTTP/1.1 100 Continue");
    reader.get_mut().write_all(b"abc").unwrap();
    assert_eq!(response(&mut reader, false).2, "abc");
}

#[test]
fn a_panic_in_a_module_is_an_error_of_that_request_only() {
    let listener = Listener::bind(&settings()).unwrap();
    listener.serve(Router::new().with(Echo)).unwrap();
    assert_eq!(get(&listener, "/panic").0, "HTTP/1.1 500 Internal Server Error");
    assert_eq!(get(&listener, "/nope").0, "HTTP/1.1 404 Not Found");
}

/// Streams what the test sends it until the listener stops.
struct Feed(Mutex<Option<mpsc::Receiver<&'static str>>>);

impl Module for Feed {
    fn answer(&self, _: &mut Request<'_>) -> Option<Response> {
        let pieces = lock(&self.0).take()?;
        Some(Response {
            status: 200,
            headers: vec![("Content-Type", "text/event-stream".into())],
            content: Content::Stream(Box::new(move |stream| {
                for piece in pieces {
                    stream.send(piece.as_bytes())?;
                }
                stream.stopping().wait_forever();
                stream.send(b"end")
            })),
        })
    }
}

#[test]
fn a_stream_delivers_at_once_and_ends_when_the_listener_stops() {
    let listener = Listener::bind(&settings()).unwrap();
    let (feed, pieces) = mpsc::channel();
    listener.serve(Router::new().with(Feed(Mutex::new(Some(pieces))))).unwrap();
    let mut reader = BufReader::new(connect(&listener));
    reader.get_mut().write_all(b"GET /feed HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (_, headers, _) = response(&mut reader, false);
    assert!(headers.contains(&"Transfer-Encoding: chunked".to_owned()), "{headers:?}");
    feed.send("hello").unwrap();
    let mut piece = [0; 10];
    reader.read_exact(&mut piece).unwrap();
    assert_eq!(&piece, b"5\r\nhello\r\n");
    drop(feed);
    listener.stop(Deadline::after(BOUND)).unwrap();
    assert_eq!(until_closed(reader), "3\r\nend\r\n0\r\n\r\n");
}

#[test]
fn stopping_cuts_idle_connections_and_removes_the_url_file() {
    let dir = tempfile::tempdir().unwrap();
    let url_file = dir.path().join("new/dir/url");
    let state = Arc::new(State::new());
    let listener = Listener::bind(&Health { url_file: Some(url_file.clone()), ..settings() }).unwrap();
    assert_eq!(std::fs::read_to_string(&url_file).unwrap(), listener.base_url());
    assert_eq!(listener.base_url(), format!("http://{}", listener.address()));
    assert_eq!(std::fs::metadata(&url_file).unwrap().permissions().mode() & 0o7777, 0o600);
    listener.serve(routes(&state)).unwrap();
    let idle = connect(&listener);
    assert_eq!(get(&listener, "/healthz").1, "live");
    let start = Instant::now();
    listener.stop(Deadline::after(BOUND)).unwrap();
    assert!(start.elapsed() < BOUND / 4);
    assert_eq!(until_closed(idle), "");
    assert!(!url_file.exists());
    assert_eq!(TcpStream::connect(listener.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_busy_answer_is_cut_when_the_budget_ends() {
    let listener = Listener::bind(&settings()).unwrap();
    let (feed, pieces) = mpsc::channel();
    listener.serve(Router::new().with(Feed(Mutex::new(Some(pieces))))).unwrap();
    let mut reader = BufReader::new(connect(&listener));
    reader.get_mut().write_all(b"GET /feed HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    response(&mut reader, false);
    // Keeps the module waiting for pieces while the listener stops; its next write fails.
    let stopper = std::thread::spawn(move || listener.stop(Deadline::after(Duration::from_millis(50))));
    assert_eq!(until_closed(reader), "");
    let _ = feed.send("late");
    drop(feed);
    stopper.join().unwrap().unwrap();
}

#[test]
fn a_listener_that_cannot_write_its_url_file_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("h.sock");
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let health =
        Health { unix_socket: Some(socket.clone()), url_file: Some(blocked.join("url")), ..settings() };
    let error = Listener::bind(&health).err().unwrap().to_string();
    assert!(error.starts_with("write health url file "), "{error}");
    assert!(!socket.exists());
}

#[test]
fn a_unix_socket_serves_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let socket: PathBuf = dir.path().join("deep/h.sock");
    let state = Arc::new(State::new());
    let health = Health { unix_socket: Some(socket.clone()), ..settings() };
    let listener = Listener::bind(&health).unwrap();
    listener.serve(routes(&state)).unwrap();
    assert_eq!(listener.address(), socket.to_str().unwrap());
    assert!(listener.base_url().starts_with("http+unix://"));
    let stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    assert_eq!(ask(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").2, "live");
    assert!(Listener::bind(&health).err().unwrap().to_string().ends_with("is already accepting connections"));
    drop(listener);
    assert!(!socket.exists());
}

#[test]
fn bodies_that_do_not_come_never_keep_a_new_connection_out() {
    let limits = Limits { connections: 4, body: BOUND, ..Limits::default() };
    let listener = Listener::bind_with(&settings(), limits).unwrap();
    let state = Arc::new(State::new());
    listener.serve(routes(&state).with(Echo)).unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let mut slow: Vec<BufReader<TcpStream>> = (0..4)
        .map(|_| {
            let mut reader = BufReader::new(connect(&listener));
            reader.get_mut().write_all(head.as_bytes()).unwrap();
            assert_eq!(response(&mut reader, false).0, "HTTP/1.1 100 Continue");
            reader
        })
        .collect();
    for _ in 0..2 {
        assert_eq!(get(&listener, "/healthz").1, "live");
    }
    // The one that was waited for longest made room, and only that one.
    let last = slow.pop().unwrap();
    assert_eq!(until_closed(slow.remove(0)), "");
    let mut last = last;
    last.get_mut().write_all(b"abc").unwrap();
    assert_eq!(response(&mut last, false).2, "abc");
}

#[test]
fn only_answers_in_progress_keep_a_new_connection_out_and_it_is_told_so() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let listener = Listener::bind_with(&settings(), limits).unwrap();
    let (feed, pieces) = mpsc::channel();
    listener.serve(Router::new().with(Feed(Mutex::new(Some(pieces))))).unwrap();
    let mut busy = BufReader::new(connect(&listener));
    busy.get_mut().write_all(b"GET /feed HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    response(&mut busy, false);
    let (status, headers, content) = ask(connect(&listener), "GET /feed HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(headers.contains(&"Retry-After: 1".to_owned()), "{headers:?}");
    assert_eq!(content, "too many connections; try again shortly\n");
    drop(feed);
}

#[test]
fn a_stream_asked_for_by_head_is_not_begun() {
    let listener = Listener::bind(&settings()).unwrap();
    let (_feed, pieces) = mpsc::channel();
    listener.serve(Router::new().with(Feed(Mutex::new(Some(pieces))))).unwrap();
    let mut reader = BufReader::new(connect(&listener));
    reader.get_mut().write_all(b"HEAD /feed HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(response(&mut reader, true).0, "HTTP/1.1 200 OK");
    reader.get_mut().write_all(b"GET /feed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(until_closed(reader).starts_with("HTTP/1.1 404 "));
}
