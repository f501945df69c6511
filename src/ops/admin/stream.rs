//! `/api/logs/stream`: events as they are logged, as server-sent events.
//!
//! A stream reads from the ring at its own pace and is told what it missed. Invariant: whoever logs
//! never waits for a stream, and streams leave connections for others.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ops::listener::{Awoken, Content, Response, Stream};
use crate::ops::log::{Ring, RingEvent};

use super::logs::event_json;

/// Silence after which a comment shows that the stream lives.
const PING: Duration = Duration::from_secs(15);
/// Events of one write.
const BATCH: usize = 256;
/// Streams at most, whatever the listener could hold.
const MOST: usize = 1000;

/// The streams that are open.
#[derive(Clone)]
pub(super) struct Streams {
    open: Arc<AtomicUsize>,
    most: usize,
}

/// One of them, until dropped.
struct Place(Arc<AtomicUsize>);

impl Streams {
    pub(super) fn new(most: usize) -> Streams {
        Streams { open: Arc::default(), most: most.min(MOST) }
    }

    fn enter(&self) -> Option<Place> {
        let entered = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < self.most).then_some(open + 1));
        entered.is_ok().then(|| Place(Arc::clone(&self.open)))
    }

    /// A stream of what `ring` gets from now on, or from behind `last_event_id` on.
    pub(super) fn answer(&self, ring: Option<&Arc<Ring>>, last_event_id: Option<&str>) -> Response {
        let Some(ring) = ring.map(Arc::clone) else {
            return Response::error(500, "streaming unsupported");
        };
        let Some(place) = self.enter() else {
            return Response::error(503, "too many event streams; close one and try again")
                .with("Retry-After", "5");
        };
        let newest = ring.last_seq();
        let behind = match last_event_id.and_then(|id| id.trim().parse::<u64>().ok()) {
            Some(seen) if seen <= newest => seen,
            // Of an earlier process: everything since this one began is new.
            Some(_) => 0,
            None => newest,
        };
        let mut response = Response::text(200, "");
        response.headers =
            vec![("Content-Type", "text/event-stream".into()), ("Cache-Control", "no-cache".into())];
        response.content = Content::Stream(Box::new(move |stream| {
            let _place = place;
            follow(&ring, behind, stream)
        }));
        response
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn follow(ring: &Arc<Ring>, mut behind: u64, stream: &mut Stream<'_>) -> io::Result<()> {
    let bell = stream.bell()?;
    let _following = {
        let bell = bell.clone();
        ring.notify(move || bell.ring())
    };
    let stopping = stream.stopping().clone();
    let _stopped = stopping.on_cancel(move || bell.ring());
    stream.send(b": connected\n\n")?;
    let mut ping = Instant::now() + PING;
    let mut piece = String::new();
    while !stopping.is_cancelled() {
        let events = ring.after(behind, BATCH);
        piece.clear();
        push_events(&mut piece, behind, &events);
        behind = events.last().map_or(behind, |last| last.seq);
        if piece.is_empty() {
            match stream.wait(ping) {
                Awoken::Gone => return Ok(()),
                Awoken::Rung => continue,
                Awoken::Deadline => piece.push_str(": ping\n\n"),
            }
        }
        stream.send(piece.as_bytes())?;
        ping = Instant::now() + PING;
    }
    Ok(())
}

fn push_events(out: &mut String, behind: u64, events: &[RingEvent]) {
    let Some(first) = events.first() else { return };
    if first.seq > behind + 1 {
        let (from, to) = (behind + 1, first.seq - 1);
        let _ = write!(
            out,
            "event: gap\ndata: {{\"dropped\":{},\"first_seq\":{from},\"last_seq\":{to}}}\n\n",
            to - from + 1
        );
    }
    for event in events {
        let _ = write!(out, "event: log\nid: {}\ndata: ", event.seq);
        event_json(out, event);
        out.push_str("\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> RingEvent {
        RingEvent {
            seq,
            time: time::OffsetDateTime::UNIX_EPOCH,
            level: log::Level::Info,
            message: "m".into(),
            attributes: Vec::new(),
        }
    }

    #[test]
    fn what_was_missed_is_told_before_what_follows() {
        let mut text = String::new();
        push_events(&mut text, 4, &[event(5), event(6)]);
        assert!(text.starts_with("event: log\nid: 5\ndata: {\"seq\":5,"), "{text}");
        assert_eq!(text.matches("event: log\n").count(), 2);
        let mut text = String::new();
        push_events(&mut text, 4, &[event(8)]);
        let gap = "event: gap\ndata: {\"dropped\":3,\"first_seq\":5,\"last_seq\":7}\n\nevent: log\nid: 8\n";
        assert!(text.starts_with(gap), "{text}");
    }

    #[test]
    fn streams_beyond_the_limit_are_refused_until_one_ends() {
        let ring = Arc::new(Ring::new(3, Arc::new(|_, text| text.into())));
        let streams = Streams::new(1);
        let first = streams.answer(Some(&ring), None);
        assert_eq!(first.status, 200);
        assert_eq!(streams.answer(Some(&ring), None).status, 503);
        drop(first);
        assert_eq!(streams.answer(Some(&ring), Some("x")).status, 200);
        assert_eq!(streams.answer(None, None).status, 500);
    }
}
