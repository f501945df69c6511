//! The responses of one command, in order.

use crate::control_plane::{Command, Delivery, Posting, ResponseBody, Work, filter_response_headers};
use crate::jsonrpc::Kind;
use crate::net::Deadline;

use super::outcome::Response;
use super::{Delivered, Observer, Poster};

/// Where the responses of one command go. Notifications first, then one terminal response; after
/// that it refuses to post anything.
pub(super) struct Reply<'a> {
    command: &'a Command,
    poster: &'a dyn Poster,
    observer: &'a dyn Observer,
    notifications_broken: bool,
    ended: bool,
}

impl<'a> Reply<'a> {
    pub(super) fn new(command: &'a Command, poster: &'a dyn Poster, observer: &'a dyn Observer) -> Reply<'a> {
        Reply { command, poster, observer, notifications_broken: false, ended: false }
    }

    /// Whether the terminal response was posted, or must not be posted any more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Ends the command in silence: its deadline has passed.
    pub(super) fn silence(&mut self) {
        self.ended = true;
        log::info!(target: "dispatcher", request_id = self.command.request_id.as_str(),
            channel = self.command.channel.as_str();
            "command response deadline reached; dropping without posting a response");
    }

    /// Posts a notification, best effort: after the first that is not delivered none is posted any more.
    pub(super) fn notify(&mut self, response: Response, deadline: Deadline) {
        if self.notifications_broken || self.ended {
            return;
        }
        let delivery = self.post(&response, deadline);
        if !delivery.is_delivered() {
            self.notifications_broken = true;
            log::warn!(target: "dispatcher", request_id = self.command.request_id.as_str(),
                channel = self.command.channel.as_str(), delivery:? = delivery;
                "notification not delivered; skipping further notifications of this command");
        }
    }

    /// Posts the terminal response.
    pub(super) fn finish(&mut self, response: Response) {
        if self.ended {
            return;
        }
        let delivery = self.post(&response, self.command.deadline);
        // Not before: should posting panic, the command must still be answered.
        self.ended = true;
        match delivery {
            Delivery::Delivered | Delivery::Gone => {
                if !matches!(self.command.work, Work::Refused(_)) {
                    let (kind, method) = kind_and_method(&self.command.work);
                    let delivered = Delivered { command: self.command, kind, method, code: response.code };
                    self.observer.delivered(&delivered);
                }
            }
            Delivery::Expired => {
                log::info!(target: "dispatcher", request_id = self.command.request_id.as_str(),
                    channel = self.command.channel.as_str();
                    "command response deadline reached while its response was being posted");
            }
            delivery => {
                log::error!(target: "dispatcher", request_id = self.command.request_id.as_str(),
                    channel = self.command.channel.as_str(), status_code = response.code, delivery:? = delivery;
                    "response not delivered; the MCP operation is not repeated");
            }
        }
    }

    fn post(&self, response: &Response, deadline: Deadline) -> Delivery {
        let headers = match response.body {
            // An acknowledgement of nothing that answered has no headers to filter.
            ResponseBody::NotifyAck if response.headers.is_empty() => Default::default(),
            _ => filter_response_headers(&response.headers),
        };
        self.poster.post(&Posting {
            command: self.command,
            body: &response.body,
            code: response.code,
            headers: &headers,
            deadline,
        })
    }
}

fn kind_and_method(work: &Work) -> (&'static str, Option<&str>) {
    match work {
        Work::JsonRpc(message) if message.kind() == Kind::Notification => {
            ("notification", Some(message.method()))
        }
        Work::JsonRpc(message) => ("call", Some(message.method())),
        Work::OauthDiscovery => ("oauth_discovery", None),
        Work::SessionTermination | Work::Refused(_) => ("session_termination", None),
    }
}
