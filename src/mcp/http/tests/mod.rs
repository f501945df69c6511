//! The binding against a scripted server: raw bytes in, raw bytes out.

mod eras;
mod journeys;
mod replies;
mod streams;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::*;
use crate::jsonrpc::Message;
use crate::mcp::scripted::{PATIENCE, Scripted, Then, reply, serve};
use crate::net::{Route, Trust, Via};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"n":1.10,"big":12345678901234567890}}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const RESULT: &str =
    r#"{"jsonrpc":"2.0","id":"c1","result":{"n":1.10,"big":12345678901234567890,"t":"<é>"}}"#;

fn json(body: &str) -> Vec<u8> {
    reply("200 OK", "Content-Type: application/json\r\n", body)
}

/// Head of a stream that ends with its connection.
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s-9\r\n\r\n";

/// Replies to everything with `bytes`; only a reply with a length keeps its connection.
fn always(bytes: Vec<u8>) -> Scripted {
    let keeps = String::from_utf8_lossy(&bytes).contains("Content-Length");
    serve(move |_, stream| {
        stream.write_all(&bytes).unwrap();
        if keeps { Then::Keep } else { Then::Close }
    })
}

/// Replies with `bytes` and closes.
fn cut(bytes: Vec<u8>) -> Scripted {
    serve(move |_, stream| {
        stream.write_all(&bytes).unwrap();
        Then::Close
    })
}

fn own(server: &Scripted) -> HttpBinding {
    binding(&format!("{}/mcp", server.origin), &[], &[])
}

fn client() -> HttpClient {
    HttpClient::new(&Route::new(Via::Direct, Trust::system()), &Cancel::new())
}

fn binding(url: &str, fixed: &[(&str, &str)], discovery: &[(&str, &str)]) -> HttpBinding {
    let target = HttpTarget {
        url: url::Url::parse(url).unwrap(),
        static_headers: fixed.iter().copied().collect(),
        discovery_headers: discovery.iter().copied().collect(),
        max_message_bytes: 256 * 1024,
    };
    HttpBinding::new(target, client())
}

fn list(pairs: &[(&str, &str)]) -> HeaderList {
    pairs.iter().copied().collect()
}

/// Exchanges `message` and keeps the events.
fn run(
    binding: &HttpBinding,
    message: &str,
    headers: &[(&str, &str)],
    time: Duration,
) -> (Outcome, Vec<String>) {
    let message = Message::parse(message).unwrap();
    let headers = list(headers);
    let mut events = Vec::new();
    let exchange = Exchange { message: &message, headers: &headers, deadline: Deadline::after(time) };
    let outcome = binding.exchange(&exchange, &mut |event| events.push(event.json.to_owned()));
    (outcome, events)
}

fn call(binding: &HttpBinding) -> Outcome {
    run(binding, CALL, &[], PATIENCE).0
}

fn answered(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Answered(answer) => answer,
        other => panic!("not answered: {other:?}"),
    }
}

/// `source/kind` of a broken exchange, and whether a head came.
fn broken(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Failed(Failure::Broken { head, source, kind }) => {
            (format!("{}/{}", source.label(), kind.label()), head.is_some())
        }
        other => panic!("not broken: {other:?}"),
    }
}

fn rejected(outcome: Outcome) -> (Head, &'static str) {
    match outcome {
        Outcome::Failed(Failure::Rejected { head, kind }) => (head, kind.label()),
        other => panic!("not rejected: {other:?}"),
    }
}

fn event(json: &str) -> String {
    format!("event: message\ndata: {json}\n\n")
}

fn progress(n: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{n}}}}}"#
    )
}
