//! The child's stdout: messages for workers, requests to answer, and text that is neither.
//!
//! Invariant: it is drained all the time, whether or not a call is running, and nothing on it stops
//! the reading or fails a call that it does not name.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use serde_json::value::RawValue;

use crate::jsonrpc::{Envelope, Id, Invalid, Kind};
use crate::mcp::{Answer, Failure, Head, Outcome};
use crate::redact;

use super::assemble::{Assembler, Progress};
use super::incoming::for_caller;
use super::lines::{Excerpt, LineReader, Next};
use super::mailbox::Mailbox;
use super::notice::millis;
use super::pipe::StopSignal;
use super::shared::Shared;
use crate::mcp::peek;

/// How long one worker that does not take its events may hold up the others of its child, in all until it
/// has caught up.
const EVENT_PATIENCE: Duration = Duration::from_secs(5);
/// Warnings about skipped output come at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// How the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The pipe ended.
    Closed,
    /// The pipe ended inside a message.
    MidMessage,
    /// We were told to stop.
    Stopped,
}

/// Reads one child's stdout.
pub(super) struct Stdout<'a> {
    shared: &'a Shared,
    generation: u64,
    assembler: Assembler,
    max_bytes: usize,
    last_warning: Option<Instant>,
    skipped: u64,
}

impl<'a> Stdout<'a> {
    /// A reader for the child with this number.
    pub(super) fn new(shared: &'a Shared, generation: u64, max_bytes: usize) -> Stdout<'a> {
        Stdout {
            shared,
            generation,
            assembler: Assembler::default(),
            max_bytes,
            last_warning: None,
            skipped: 0,
        }
    }

    /// Reads `pipe`, which must be non-blocking, to its end.
    pub(super) fn read(&mut self, pipe: OwnedFd, stop: &StopSignal) -> End {
        let mut lines = LineReader::new(pipe, self.max_bytes);
        loop {
            match lines.next(stop) {
                Ok(Next::Line(line)) => self.on_line(line),
                Ok(Next::TooLong(excerpt)) => self.on_long_line(&excerpt),
                Ok(Next::End(rest)) => {
                    let rest = rest.trim_ascii();
                    let cut = matches!(rest.first(), Some(b'{' | b'['))
                        && Envelope::parse(rest).is_err_and(|invalid| invalid == Invalid::NotJson);
                    self.on_line(rest);
                    return if cut || self.assembler.is_collecting() { End::MidMessage } else { End::Closed };
                }
                Ok(Next::Stopped) => return End::Stopped,
                Err(error) => {
                    debug!(target: "mcpclient", error:% = error; "reading the stdio MCP command's stdout failed");
                    return End::Closed;
                }
            }
        }
    }

    fn on_line(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let whole = match line.strip_suffix(b",") {
            Some(element) if self.assembler.is_array() => element,
            _ => line,
        };
        match Envelope::parse(whole) {
            // A message by itself is delivered, whatever came before.
            Ok(envelope) => {
                if self.assembler.is_collecting() && !self.assembler.is_array() {
                    self.assembler.clear();
                    self.skip("incomplete JSON");
                }
                self.on_message(&envelope, whole);
            }
            Err(_) if self.assembler.is_collecting() => match self.assembler.push(line, self.max_bytes) {
                Progress::More => {}
                Progress::Complete => {
                    let text = self.assembler.take();
                    match Envelope::parse(&text) {
                        Ok(envelope) => self.on_message(&envelope, &text),
                        // What is left of a batch whose messages came one a line.
                        Err(_) if text.iter().all(|byte| b"[,] \n".contains(byte)) => {}
                        Err(invalid) => self.on_other(&text, &invalid),
                    }
                }
                Progress::Broken => {
                    self.assembler.clear();
                    self.skip("incomplete JSON");
                    self.on_line(line);
                }
            },
            Err(Invalid::NotJson) if self.assembler.begin(line) => {}
            Err(invalid) => self.on_other(line, &invalid),
        }
    }

    /// A line that is not one message: a batch, several values, or text that does not belong here.
    fn on_other(&mut self, line: &[u8], invalid: &Invalid) {
        let Ok(text) = std::str::from_utf8(line) else { return self.skip("invalid UTF-8") };
        match invalid {
            Invalid::NotAnObject => match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(batch) if !batch.is_empty() => batch.into_iter().for_each(|one| self.on_value(one.get())),
                _ => self.skip(&invalid.to_string()),
            },
            Invalid::NotJson => {
                let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
                let mut found = false;
                while let Some(Ok(value)) = values.next() {
                    if value.get().starts_with('{') {
                        found = true;
                        self.on_value(value.get());
                    }
                }
                if !found || !text[values.byte_offset()..].trim_ascii().is_empty() {
                    self.skip(&invalid.to_string());
                }
            }
            _ => self.on_value(text),
        }
    }

    fn on_value(&mut self, json: &str) {
        match Envelope::parse(json.as_bytes()) {
            Ok(envelope) => self.on_message(&envelope, json.as_bytes()),
            Err(invalid) => {
                // A broken answer still tells which call it was meant for.
                let [id, method] = peek::members(json, ["id", "method"]);
                if method.is_none() {
                    self.fail_call(id.map(RawValue::get));
                }
                self.skip(&invalid.to_string());
            }
        }
    }

    fn on_long_line(&mut self, excerpt: &Excerpt) {
        self.assembler.clear();
        self.fail_call(id_in_excerpt(excerpt).as_deref());
        self.skip("line longer than the limit");
    }

    /// Fails the call with this wire id, if there is one.
    fn fail_call(&mut self, id: Option<&str>) {
        let Some(id) = id.and_then(Id::from_json) else { return };
        let answered = self.shared.with(|session| session.calls.answer(id.as_json()));
        if let super::calls::Match::Call(call) = answered {
            match call.role {
                super::calls::Role::Handshake { .. } => {
                    self.shared.with(super::session::Session::handshake_unusable);
                }
                super::calls::Role::Discover => {
                    self.shared.with(|session| session.discovery_unusable(call.sequence, Instant::now()));
                }
                _ => {}
            }
            if let Some(mailbox) = call.mailbox {
                mailbox.finish(Outcome::Failed(Failure::protocol(None)));
            }
        }
    }

    fn on_message(&mut self, envelope: &Envelope<'_>, bytes: &[u8]) {
        let Ok(json) = std::str::from_utf8(bytes) else { return };
        self.shared.log_raw("read", json);
        match (envelope.kind, &envelope.id) {
            (Kind::Response, _) => {
                let call = self.shared.with(|session| session.on_response(envelope, json, Instant::now()));
                if let Some((call, mailbox)) =
                    call.and_then(|mut call| call.mailbox.take().map(|to| (call, to)))
                {
                    let json = for_caller(&call, envelope, json);
                    mailbox.finish(Outcome::Answered(Answer { head: Head::bare(200), json }));
                }
            }
            (Kind::Call, Some(id)) => self.shared.with(|session| session.on_request(id, &envelope.method)),
            (Kind::Notification | Kind::Call, _) => {
                let (delivery, waiting) = self.shared.with(|session| {
                    (session.on_notification(envelope, json, Instant::now()), session.calls.waiting())
                });
                let put = if waiting > 1 { Mailbox::put_event_beside_others } else { Mailbox::put_event };
                if let Some(delivery) = delivery
                    && !put(&delivery.mailbox, delivery.json, EVENT_PATIENCE)
                {
                    debug!(
                        target: "mcpclient", transport = "stdio", channel = self.shared.tag.channel.as_str();
                        "dropped a notification: its call has ended or does not keep up"
                    );
                }
            }
        }
    }

    /// Counts output that was skipped, and says so now and then.
    fn skip(&mut self, reason: &str) {
        self.skipped += 1;
        let now = Instant::now();
        if self.last_warning.is_some_and(|last| now.saturating_duration_since(last) < WARNING_INTERVAL) {
            return;
        }
        self.last_warning = Some(now);
        warn!(
            target: "mcpclient", transport = "stdio", channel = self.shared.tag.channel.as_str(),
            child_generation = self.generation, reason, skipped = self.skipped,
            next_warning_ms = millis(WARNING_INTERVAL);
            "skipped output of the stdio MCP command that is no JSON-RPC message"
        );
    }
}

/// The id of a response of which only the two ends are left; its JSON text. A guess, made only where
/// the spelling leaves no doubt.
fn id_in_excerpt(excerpt: &Excerpt) -> Option<String> {
    let head = String::from_utf8_lossy(&excerpt.head);
    let tail = String::from_utf8_lossy(&excerpt.tail);
    id_at_the_beginning(&head).or_else(|| id_at_the_end(&tail))
}

/// Looks through the first members as long as their values are scalars.
fn id_at_the_beginning(text: &str) -> Option<String> {
    let mut rest = text.trim_start().strip_prefix('{')?;
    loop {
        let mut name = serde_json::Deserializer::from_str(rest).into_iter::<&str>();
        let key = name.next()?.ok()?;
        rest = rest.get(name.byte_offset()..)?.trim_start().strip_prefix(':')?.trim_start();
        if rest.starts_with(['{', '[']) {
            return None;
        }
        let end = scalar_end(rest)?;
        if key == "id" {
            return Some(rest[..end].to_owned());
        }
        rest = rest[end..].trim_start().strip_prefix(',')?.trim_start();
    }
}

/// Looks whether the last member, or the last but the version, is the id.
fn id_at_the_end(text: &str) -> Option<String> {
    let body = text.trim_end().strip_suffix('}')?.trim_end();
    let body = ["\"jsonrpc\":\"2.0\"", "\"jsonrpc\": \"2.0\""]
        .iter()
        .find_map(|version| body.strip_suffix(version)?.trim_end().strip_suffix(','))
        .unwrap_or(body)
        .trim_end();
    let start = body.rfind("\"id\"")?;
    let value = body[start + 4..].trim_start().strip_prefix(':')?.trim();
    // Of an object that is nested deeper, the closing brace would be left over.
    (scalar_end(value)? == value.len()).then(|| value.to_owned())
}

/// Where the string or number at the start of `text` ends.
fn scalar_end(text: &str) -> Option<usize> {
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        values.next()?.ok()?;
        return Some(values.byte_offset());
    }
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
        .unwrap_or(text.len());
    (end > 0).then_some(end)
}

impl Shared {
    /// Dumps a message, for those who asked for it.
    pub(super) fn log_raw(&self, direction: &str, json: &str) {
        if self.log_raw_messages {
            debug!(target: "mcpclient", transport = "raw_http"; "{direction}: {}", redact::payload(json.as_bytes()));
        }
    }
}

/// Runs the reader of one child until its stdout ends.
pub(super) fn run(shared: &Arc<Shared>, generation: u64, pipe: OwnedFd, stop: &StopSignal) -> End {
    Stdout::new(shared, generation, shared.max_message_bytes).read(pipe, stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_long_answer_is_found_at_either_end() {
        let find = |head: &str, tail: &str| {
            id_in_excerpt(&Excerpt { head: head.as_bytes().to_vec(), tail: tail.as_bytes().to_vec() })
        };
        for (head, tail, expected) in [
            (r#"{"jsonrpc":"2.0","id":5,"result":{"id":6,"a":"xx"#, "xx\"}}", Some("5")),
            (r#"{ "id" : "a b" , "result":"xx"#, "xx\"}", Some("\"a b\"")),
            (r#"{"result":{"id":6,"a":"xx"#, r#"xx"},"jsonrpc":"2.0","id":7}"#, Some("7")),
            (r#"{"result":{"id":6,"a":"xx"#, r#"xx"},"id":"z","jsonrpc":"2.0"}"#, Some("\"z\"")),
            (r#"{"jsonrpc":"2.0","result":{"a":"xx"#, r#"xx","id":6}}"#, None),
            ("plain text", "more text", None),
        ] {
            assert_eq!(find(head, tail).as_deref(), expected, "{head} … {tail}");
        }
    }
}
