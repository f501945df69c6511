//! `POST …/response`: passes a client's answer on to the request it is for.

use std::time::{Duration, Instant};

use super::error::{code, error};
use super::post_body::{BadPost, Post};
use super::{Api, ok};
use crate::ids::TunnelId;
use crate::net::front::{BadBody, Exchange, Head, Response, Wake};
use crate::server::engine::{Answer, PostResult, Posted, RequestId, Tunnel};

/// How long a notification waits for room in a full buffer before it is dropped.
const ROOM_TIME: Duration = Duration::from_secs(1);

impl Api {
    pub(super) fn post(
        &self,
        tunnel: &TunnelId,
        head: &Head,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Response> {
        let counters = self.engine.counters();
        let refused = |kind, result, response| {
            counters.response_posted(kind, result);
            Err(response)
        };
        let limit = self.options.response_bytes;
        let token = head.value("X-Tunnel-Shard-Token").filter(|token| !token.is_empty());
        let sealed = token.and_then(|token| self.engine.sealer().open(tunnel, token));
        let tunnel = self.engine.tunnel(tunnel).ok_or_else(not_pending)?;
        if exchange.content_length().is_some_and(|length| length > limit as u64) {
            return refused(None, PostResult::TooLarge, too_large(&tunnel, sealed, limit));
        }
        if token.is_none() {
            let message = "the X-Tunnel-Shard-Token header is missing; echo the command's shard_token in it";
            return refused(None, PostResult::Invalid, error(400, None, message));
        }
        let Some(sealed) = sealed else {
            return refused(None, PostResult::Mismatch, mismatch());
        };
        let body = match exchange.read_body(limit) {
            Ok(body) => body,
            Err(BadBody::TooLarge) => {
                return refused(None, PostResult::TooLarge, too_large(&tunnel, Some(sealed), limit));
            }
            Err(bad) => {
                exchange.close_after();
                return match bad_body(bad) {
                    Some(response) => refused(None, PostResult::Invalid, response),
                    None => Ok(()),
                };
            }
        };
        let parsed = String::from_utf8(body)
            .map_err(|_| BadPost::Malformed("the body is not UTF-8"))
            .and_then(Post::parse);
        let Post { request_id, answer, has_unknown_member } = match parsed {
            Ok(post) => post,
            Err(BadPost::Malformed(reason)) => {
                return refused(None, PostResult::Invalid, error(400, None, reason));
            }
            Err(BadPost::Channel) => {
                let message = "a channel is 1 to 64 lowercase letters, digits, hyphens or underscores";
                return refused(None, PostResult::Invalid, error(400, Some(code::INVALID_CHANNEL), message));
            }
        };
        let kind = Some(answer.kind);
        if RequestId::parse(&request_id) != Some(sealed) {
            return refused(kind, PostResult::Mismatch, mismatch());
        }
        if has_unknown_member {
            log::debug!(target: "server", request_id:% = sealed; "a response has members that mean nothing here");
        }
        if let Some(id) = head.value("X-Client-Request-Id") {
            log::debug!(target: "server", request_id:% = sealed, client_request_id = id; "response posted");
        }
        match self.deliver(&tunnel, sealed, answer, exchange) {
            Some(Posted::Taken) => {
                counters.response_posted(kind, PostResult::Ok);
                Err(ok())
            }
            Some(Posted::WrongKind) => {
                let message = "an oauth_discovery_response answers an oauth_discovery command only";
                refused(kind, PostResult::Invalid, error(400, None, message))
            }
            Some(Posted::NotPending | Posted::Full(_)) => refused(kind, PostResult::NotFound, not_pending()),
            None => Ok(()),
        }
    }

    /// Hands the answer over, waiting for room if it is a notification; `None` when the peer left meanwhile.
    fn deliver(
        &self,
        tunnel: &Tunnel,
        id: RequestId,
        answer: Answer,
        exchange: &mut Exchange<'_>,
    ) -> Option<Posted> {
        let mut answer = match tunnel.post(id, answer, None) {
            Posted::Full(answer) => answer,
            posted => return Some(posted),
        };
        let deadline = Instant::now() + ROOM_TIME;
        let waker = exchange.waker().ok();
        let mut late = waker.is_none();
        loop {
            match tunnel.post(id, answer, waker.as_ref().filter(|_| !late)) {
                Posted::Full(_) if late => {
                    // Its sender would gain nothing from an error: notifications are best effort.
                    self.engine.counters().notification_dropped();
                    return Some(Posted::Taken);
                }
                Posted::Full(again) => answer = again,
                posted => return Some(posted),
            }
            match exchange.wait(deadline) {
                Wake::Woken => {}
                Wake::Deadline => late = true,
                Wake::PeerGone => return None,
            }
        }
    }
}

/// The answer to a body that could not be read; `None` when nobody is left to read it.
pub(super) fn bad_body(bad: BadBody) -> Option<Response> {
    match bad {
        BadBody::Malformed => Some(error(400, None, "the request body is framed wrongly")),
        BadBody::Timeout => Some(error(408, None, "the request body did not arrive in time")),
        BadBody::TooLarge => Some(error(413, Some(code::TOO_LARGE), "the request body is too large")),
        BadBody::Gone => None,
    }
}

/// The client will not repeat it: whoever waits for it must not wait in vain.
fn too_large(tunnel: &Tunnel, request: Option<RequestId>, limit: usize) -> Response {
    if let Some(request) = request {
        tunnel.answer_too_large(request);
    }
    let message = format!("the response exceeds the limit of {limit} bytes; send less data in one response");
    error(413, Some(code::TOO_LARGE), &message)
}

fn mismatch() -> Response {
    error(401, Some(code::MISMATCH), "the shard token does not belong to this tunnel and request")
}

fn not_pending() -> Response {
    error(
        404,
        Some(code::NOT_PENDING),
        "nothing waits for this response; it was answered, expired or cancelled",
    )
}
