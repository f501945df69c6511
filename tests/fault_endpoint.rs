//! Every way the response endpoint can fail: an answer is tried again where that helps, never twice once
//! it counts, and the call behind it is never repeated.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::time::Duration;

use common::http::reply;
use common::matrix_lane::{HASTE_MS, Kind};
use common::matrix_plane::Ruling;
use common::matrix_server::FaultServer;
use common::matrix_subject::{Subject, WORKS, http_channels};
use common::{PATIENCE, eventually};

/// What the response endpoint may do: to the first POST or to all of them.
struct Endpoint {
    name: &'static str,
    ruling: fn() -> Ruling,
    always: bool,
    posts: usize,
}

const fn once(name: &'static str, posts: usize, ruling: fn() -> Ruling) -> Endpoint {
    Endpoint { name, ruling, always: false, posts }
}

const fn always(name: &'static str, posts: usize, ruling: fn() -> Ruling) -> Endpoint {
    Endpoint { name, ruling, always: true, posts }
}

fn status<const STATUS: u16>() -> Ruling {
    Ruling::Refuse(reply(STATUS, &[("Location", "/elsewhere"), ("Retry-After", "0")], "{}"), false)
}

fn later() -> Ruling {
    Ruling::Refuse(reply(429, &[("Retry-After", "1")], r#"{"error":{"message":"slowly"}}"#), false)
}

fn close() -> Ruling {
    Ruling::Refuse(Vec::new(), true)
}

fn babble() -> Ruling {
    Ruling::Refuse(b"220 mail.example ESMTP\r\n\r\n".to_vec(), true)
}

fn half() -> Ruling {
    Ruling::Refuse(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), true)
}

/// Delivered: what follows the status does not matter.
fn cut_body() -> Ruling {
    Ruling::AcceptWith(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 50\r\n\r\n{".to_vec())
}

fn bad_body() -> Ruling {
    Ruling::AcceptWith(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec())
}

const ENDPOINTS: &[Endpoint] = &[
    once("500-once", 2, status::<500>),
    always("500-always", 2, status::<500>),
    once("502-once", 2, status::<502>),
    always("502-always", 3, status::<502>),
    once("503-once", 2, status::<503>),
    always("503-always", 3, status::<503>),
    once("504-once", 2, status::<504>),
    once("408-once", 2, status::<408>),
    once("429-once", 2, later),
    always("429-always", 3, status::<429>),
    always("404", 1, status::<404>),
    always("400", 1, status::<400>),
    always("401", 1, status::<401>),
    always("413", 1, status::<413>),
    always("202", 1, status::<202>),
    always("302", 1, status::<302>),
    always("307", 1, status::<307>),
    once("close-once", 2, close),
    always("close-always", 3, close),
    once("reset-once", 2, || Ruling::Reset),
    always("reset-always", 3, || Ruling::Reset),
    once("garbage-once", 2, babble),
    always("garbage-always", 3, babble),
    once("half-once", 2, half),
    once("cut-body", 1, cut_body),
    once("bad-body", 1, bad_body),
];

#[test]
fn a_response_endpoint_that_fails_is_tried_again_where_that_helps_and_the_call_is_never_repeated() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    subject.plane.set_rule(|post, place| {
        let endpoint = ENDPOINTS.iter().find(|e| post.request_id.contains(&format!("~{}/", e.name)));
        endpoint.filter(|e| e.always || place == 1).map_or(Ruling::Accept, |e| (e.ruling)())
    });
    subject.settle(&["main"], Some(&server));
    subject.take_baseline();
    let kinds = [Kind::Call, Kind::Notification, Kind::Termination, Kind::Malformed];
    let mut issued = Vec::new();
    for endpoint in ENDPOINTS {
        for kind in kinds {
            let fault = format!("none~{}", endpoint.name);
            issued.push((subject.lane("main", "none", WORKS).issue(kind, &fault), endpoint));
        }
    }
    for (id, endpoint) in &issued {
        eventually(&format!("{id} was posted"), || subject.plane.posts_of(id).len() >= endpoint.posts);
    }
    let mut wrong = Vec::new();
    subject.lane("main", "none", WORKS).check_alive("afterwards", &mut wrong);
    subject.settle(&["main"], Some(&server));
    wrong.extend(subject.left_behind());
    wrong.extend(subject.finish());
    for (id, endpoint) in &issued {
        let posts = subject.plane.posts_of(id);
        if posts.len() != endpoint.posts || posts.iter().any(|post| post.text != posts[0].text) {
            wrong.push(format!("{id}: {} POSTs, expected {} equal ones", posts.len(), endpoint.posts));
        }
    }
    for endpoint in ENDPOINTS {
        let calls = server.calls(&format!("none~{}", endpoint.name));
        if calls != 1 {
            wrong.push(format!("{}: the call was executed {calls} times", endpoint.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Name, what the first notification meets, POSTs of notifications.
type Notifications = (&'static str, fn() -> Ruling, usize);

#[test]
fn notifications_that_are_not_taken_are_given_up_and_the_answer_still_comes() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    let rows: [Notifications; 6] = [
        ("n400", status::<400>, 1),
        ("n503", status::<503>, 1),
        ("n429", status::<429>, 4),
        ("nclose", close, 1),
        ("nreset", || Ruling::Reset, 1),
        ("nfine", || Ruling::Accept, 3),
    ];
    subject.plane.set_rule(move |post, place| {
        let row = rows.iter().find(|(name, ..)| post.request_id.contains(&format!("~{name}/")));
        row.filter(|_| place == 1 && !post.is_terminal()).map_or(Ruling::Accept, |(_, ruling, _)| ruling())
    });
    let mut wrong = Vec::new();
    for (name, _, notifications) in rows {
        let id = subject.lane("main", "none", WORKS).issue(Kind::Call, &format!("sse-three~{name}"));
        match subject.plane.answer(&id, PATIENCE) {
            Some(post) if post.verdict() == "200" => {}
            other => wrong.push(format!("{id}: {other:?}")),
        }
        let posts = subject.plane.posts_of(&id).len();
        if posts != notifications + 1 {
            wrong.push(format!("{id}: {posts} POSTs, expected {notifications} and the answer"));
        }
    }
    wrong.extend(subject.finish());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_response_endpoint_that_never_replies_holds_a_command_no_longer_than_its_deadline() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    subject.plane.set_rule(
        |post, _| if post.request_id.contains("~stalls/") { Ruling::Stall } else { Ruling::Accept },
    );
    subject.settle(&["main"], Some(&server));
    subject.take_baseline();
    let lane = subject.lane("main", "none", WORKS);
    // More than there are workers: each must be free again.
    let issued: Vec<_> = (0..60).map(|_| lane.issue(Kind::HastyCall, "none~stalls")).collect();
    let mut wrong = Vec::new();
    lane.check_alive("afterwards", &mut wrong);
    for id in &issued {
        assert!(subject.plane.answer(id, Duration::from_millis(HASTE_MS)).is_none());
    }
    subject.client.wait_output("reached while its response was being posted");
    subject.settle(&["main"], Some(&server));
    wrong.extend(subject.left_behind());
    wrong.extend(subject.finish());
    for id in &issued {
        let posts = subject.plane.posts_of(id).len();
        if posts > 1 {
            wrong.push(format!("{id}: {posts} POSTs"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
