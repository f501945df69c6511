//! `GET …/poll`: hands out commands, or parks until there are some.

use std::sync::Arc;
use std::time::Instant;

use super::Api;
use super::error::{code, error};
use super::query::{BadQuery, PollQuery};
use super::unavailable;
use crate::ids::TunnelId;
use crate::net::front::{Exchange, Head, Response, Wake};
use crate::server::engine::{About, ClientKey, Found};

/// Characters of a client's instance id that are kept.
const INSTANCE_CHARS: usize = 64;

impl Api {
    pub(super) fn poll(
        &self,
        tunnel: &TunnelId,
        head: &Head,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Response> {
        let began = Instant::now();
        let query = PollQuery::parse(head.query(), &self.poll_defaults()).map_err(|bad| match bad {
            BadQuery::Limit => error(400, None, "limit must be an integer from 1 to 25"),
            BadQuery::Timeout => error(400, None, "timeout_ms must be a positive integer"),
            BadQuery::Channel => error(
                400,
                Some(code::INVALID_CHANNEL),
                "a channel is 1 to 64 lowercase letters, digits, hyphens or underscores",
            ),
        })?;
        let tunnel = self.engine.tunnel(tunnel).ok_or_else(gone)?;
        let waker = exchange.waker().map_err(|_| unavailable("the server has no descriptors left"))?;
        let instance = head.value("X-Tunnel-Client-Instance-Id").unwrap_or_default();
        let key = ClientKey {
            instance: instance.chars().take(INSTANCE_CHARS).collect(),
            subscription: Arc::new(query.subscription),
        };
        let deadline = began + query.wait;
        let about = About {
            info: head.value("X-Tunnel-MCP-Server-Info"),
            name: head.value("X-Tunnel-Client-Name").unwrap_or_default(),
            version: head.value("X-Tunnel-Client-Version").unwrap_or_default(),
        };
        let mut poll = tunnel.poll(key, &about, waker);
        // Nobody is there to take commands: leave them to somebody who is.
        if exchange.peer_is_gone() {
            poll.broke_off();
            return Ok(());
        }
        let (mut parked, mut late) = (false, false);
        loop {
            match poll.take_or_park(query.limit) {
                Found::Commands(claims) => {
                    let reply =
                        Response::json(200, claims.render().into_bytes()).header("Cache-Control", "no-store");
                    if exchange.respond(&reply).is_ok() {
                        claims.delivered();
                    }
                    return Ok(());
                }
                Found::Parked if late => return Err(Response::new(204)),
                Found::Parked => parked = true,
                Found::Stopping if parked => return Err(Response::new(204)),
                // Without work a client asks again at once; this tells it to wait.
                Found::Stopping => return Err(unavailable("the server is stopping; poll again shortly")),
                Found::Deleted => return Err(gone()),
            }
            let until = tunnel.look_again(deadline);
            match exchange.wait(until) {
                Wake::Woken => {}
                Wake::PeerGone => {
                    poll.broke_off();
                    return Ok(());
                }
                Wake::Deadline if until < deadline => {}
                // One more look: a command may have come with the deadline.
                Wake::Deadline => late = true,
            }
        }
    }
}

fn gone() -> Response {
    error(401, Some(code::USE_FORBIDDEN), "there is no such tunnel any more")
}
