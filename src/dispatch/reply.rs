//! The responses of one command, in order.

use log::Level;

use crate::control_plane::{Command, Delivery, Posting, ResponseBody, Work, filter_response_headers};
use crate::net::{Deadline, HeaderList};

use super::outcome::Response;
use super::trace::{SESSION_ID, traced};
use super::{Delivered, Observer, Poster};

/// Where the responses of one command go. Notifications first, then one terminal response; after
/// that it refuses to post anything.
pub(super) struct Reply<'a> {
    command: &'a Command,
    poster: &'a dyn Poster,
    observer: &'a dyn Observer,
    /// No response is posted after it, whatever the command's own deadline is.
    limit: Deadline,
    notifications_broken: bool,
    ended: bool,
}

/// What the log says when a terminal response was delivered; nothing for a failure, of which there is
/// a line already.
pub(super) type Success = Option<&'static str>;

impl<'a> Reply<'a> {
    pub(super) fn new(
        command: &'a Command,
        poster: &'a dyn Poster,
        observer: &'a dyn Observer,
        limit: Deadline,
    ) -> Reply<'a> {
        Reply { command, poster, observer, limit, notifications_broken: false, ended: false }
    }

    /// Whether the terminal response was posted, or must not be posted any more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Ends the command in silence: its deadline has passed.
    pub(super) fn silence(&mut self) {
        self.ended = true;
        traced(self.command)
            .event(Level::Info)
            .emit("command response deadline reached; dropping without posting a response");
    }

    /// Ends the command in silence: its connector has cancelled it, so that its deadline passes without an
    /// answer.
    pub(super) fn withdraw(&mut self) {
        self.ended = true;
        traced(self.command)
            .event(Level::Info)
            .emit("command cancelled by its connector; dropping without posting a response");
    }

    /// Posts a notification, best effort: after the first that is not delivered none is posted any more.
    /// `headers` are the filtered ones of the enclosing reply.
    pub(super) fn notify(&mut self, json: &str, code: u16, headers: &HeaderList, deadline: Deadline) {
        if self.notifications_broken || self.ended {
            return;
        }
        let delivery = self.poster.post(&Posting {
            command: self.command,
            body: &ResponseBody::Notify(json.to_owned()),
            code,
            headers,
            deadline,
        });
        if !delivery.is_delivered() {
            self.notifications_broken = true;
            let level = match delivery {
                // The command tells of its own end.
                Delivery::Expired => Level::Debug,
                Delivery::Cancelled => Level::Warn,
                _ => Level::Error,
            };
            traced(self.command)
                .event(level)
                .with("delivery", delivery.label())
                .emit("notification not delivered; skipping further notifications of this command");
        }
    }

    /// Posts the terminal response.
    pub(super) fn finish(&mut self, response: Response, success: Success) {
        self.post_terminal(response, success, true);
    }

    /// The same for a refusal, which counts neither as delivered nor as answered.
    pub(super) fn refuse(&mut self, response: Response) {
        self.post_terminal(response, None, false);
    }

    fn post_terminal(&mut self, response: Response, success: Success, counts: bool) {
        if self.ended {
            return;
        }
        let Response { body, code, headers } = response;
        // Those of a document are its server's; who found it has dropped what belongs to the connection.
        let whole = headers.is_empty() || matches!(body, ResponseBody::OauthDiscovery(_));
        let headers = if whole { headers } else { filter_response_headers(&headers) };
        let deadline = self.command.deadline.earliest(self.limit);
        let posting = Posting { command: self.command, body: &body, code, headers: &headers, deadline };
        let delivery = self.poster.post(&posting);
        // Not before: should posting panic, the command must still be answered.
        self.ended = true;
        match delivery {
            Delivery::Delivered | Delivery::Gone => {
                if counts {
                    let (kind, method) = kind_and_method(&self.command.work);
                    self.observer.delivered(&Delivered { command: self.command, kind, method, code });
                }
                // Calls are what there is most of: a line for each is for who looks for one.
                let level = if matches!(body, ResponseBody::JsonRpc(_)) { Level::Debug } else { Level::Info };
                if let Some(message) = success
                    && log::log_enabled!(target: "dispatcher", level)
                {
                    traced(self.command)
                        .or_session(headers.get(SESSION_ID))
                        .event(level)
                        .with_some("rpc_method", kind_and_method(&self.command.work).1)
                        .with("status_code", code)
                        .with("finalResponse", true)
                        .emit(message);
                }
            }
            // Perhaps before that moment: no attempt would have fitted in any more.
            Delivery::Expired if deadline == self.command.deadline => traced(self.command)
                .event(Level::Info)
                .emit("command response deadline reached while its response was being posted"),
            delivery => traced(self.command)
                .or_session(headers.get(SESSION_ID))
                .event(Level::Error)
                .with("status_code", code)
                .with("delivery", delivery.label())
                .emit("response not delivered; the MCP operation is not repeated"),
        }
    }
}

fn kind_and_method(work: &Work) -> (&'static str, Option<&str>) {
    use crate::jsonrpc::Kind;
    match work {
        Work::JsonRpc(message) if message.kind() == Kind::Notification => {
            ("notification", Some(message.method()))
        }
        Work::JsonRpc(message) => ("call", Some(message.method())),
        Work::OauthDiscovery => ("oauth_discovery", None),
        Work::SessionTermination | Work::Refused(_) => ("session_termination", None),
    }
}
