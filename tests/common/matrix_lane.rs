//! Commands of every kind against one fault, and a census of what the client process holds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::matrix_plane::{Plane, Post};
use super::{PATIENCE, eventually};

/// The kinds of commands that a control plane hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bounded by the connection's lifetime alone.
    Call,
    /// With a response timeout that ends before the connection's lifetime.
    HastyCall,
    Notification,
    Termination,
    Discovery,
    /// A batch: cannot be executed, but can be answered.
    Malformed,
    UnknownType,
    UnknownChannel,
}

pub const KINDS: [Kind; 8] = [
    Kind::Call,
    Kind::HastyCall,
    Kind::Notification,
    Kind::Termination,
    Kind::Discovery,
    Kind::Malformed,
    Kind::UnknownType,
    Kind::UnknownChannel,
];

/// The response timeout of a hasty call, in milliseconds.
pub const HASTE_MS: u64 = 700;

/// What the fault's channel does to the kinds that reach a server. Each is a list of the verdicts
/// allowed, apart by `|`; `silence` is none at all.
#[derive(Clone, Copy, Debug)]
pub struct Wants {
    pub call: &'static str,
    pub hasty: &'static str,
    pub notification: &'static str,
    pub termination: &'static str,
}

/// One fault on one channel.
#[derive(Clone, Copy)]
pub struct Lane<'a> {
    pub plane: &'a Plane,
    /// The channel; names the lane.
    pub channel: &'a str,
    /// What the server reads to know the fault, from a header or from the tool's name.
    pub fault: &'a str,
    pub wants: Wants,
    /// What calls without the fault may come to for a while: the server is recovering.
    pub recovering: &'static [&'static str],
}

impl Lane<'_> {
    /// Runs every kind against the fault, and after each a call without it, which must be answered.
    pub fn run(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for kind in KINDS {
            let id = self.issue(kind, self.fault);
            self.judge(kind, &id, self.expected(kind), &mut wrong);
            self.check_alive(&format!("after {kind:?}"), &mut wrong);
        }
        wrong
    }

    /// Runs every kind against a server that never works.
    pub fn run_dead(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for kind in KINDS {
            let id = self.issue(kind, self.fault);
            self.judge(kind, &id, self.expected(kind), &mut wrong);
        }
        wrong
    }

    /// A call without the fault must be answered, at once or once the server has recovered.
    pub fn check_alive(&self, when: &str, wrong: &mut Vec<String>) {
        let end = Instant::now() + PATIENCE;
        loop {
            let id = self.issue(Kind::Call, "none");
            let mut new = Vec::new();
            let verdict = self.judge(Kind::Call, &id, "200", &mut new);
            let transient = verdict.is_some_and(|verdict| self.recovering.contains(&verdict.as_str()));
            if new.is_empty() || !transient || Instant::now() > end {
                wrong.extend(new.into_iter().map(|what| format!("{what} ({when})")));
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Hands one command out.
    pub fn issue(&self, kind: Kind, fault: &str) -> String {
        let channel = if kind == Kind::UnknownChannel { "nowhere" } else { self.channel };
        let headers = format!(r#""headers":{{"X-Fault":["{fault}"],"Mcp-Session-Id":["session-1"]}}"#);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{{"name":"fault/{fault}","arguments":{{}}}}}}"#
        );
        let specific = match kind {
            Kind::Call | Kind::UnknownChannel => format!(r#""command_type":"jsonrpc","jsonrpc":{call}"#),
            Kind::HastyCall => {
                format!(r#""command_type":"jsonrpc","response_timeout":"{HASTE_MS}ms","jsonrpc":{call}"#)
            }
            Kind::Notification => format!(
                r#""command_type":"jsonrpc","jsonrpc":{{"jsonrpc":"2.0","method":"notifications/fault/{fault}"}}"#
            ),
            Kind::Termination => r#""command_type":"session_termination""#.to_owned(),
            Kind::Discovery => r#""command_type":"oauth_discovery""#.to_owned(),
            Kind::Malformed => format!(r#""command_type":"jsonrpc","jsonrpc":[{call}]"#),
            Kind::UnknownType => format!(r#""command_type":"teleport","jsonrpc":{call}"#),
        };
        self.plane.issue(
            &format!("{}/{fault}/{kind:?}", self.channel),
            &format!(r#""channel":"{channel}",{headers},{specific}"#),
        )
    }

    fn expected(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Call => self.wants.call,
            Kind::HastyCall => self.wants.hasty,
            Kind::Notification => self.wants.notification,
            Kind::Termination => self.wants.termination,
            Kind::UnknownType => "501",
            Kind::Discovery | Kind::Malformed | Kind::UnknownChannel => "400",
        }
    }

    /// The answer's verdict; what is wrong with it is added to `wrong`.
    fn judge(&self, kind: Kind, id: &str, expected: &str, wrong: &mut Vec<String>) -> Option<String> {
        let haste = Duration::from_millis(HASTE_MS);
        let patience = if kind == Kind::HastyCall { haste + Duration::from_millis(200) } else { PATIENCE };
        let Some(post) = self.plane.answer(id, patience) else {
            // A machine that is too slow is silent as well: that is what the deadline is for.
            if kind != Kind::HastyCall {
                wrong.push(format!("{id}: no answer, expected {expected}"));
            }
            return None;
        };
        let verdict = post.verdict();
        if !expected.split('|').any(|allowed| allowed == verdict) {
            wrong.push(format!("{id}: {verdict}, expected {expected}"));
        }
        if let Some(fault) = malformation(kind, &post) {
            wrong.push(format!("{id}: {fault}: {:.300}", post.text));
        }
        Some(verdict)
    }
}

/// What is wrong with the form of an answer.
fn malformation(kind: Kind, post: &Post) -> Option<String> {
    let due = match kind {
        Kind::Notification => "notify_ack",
        Kind::Termination => "session_termination_response",
        Kind::Discovery => "oauth_discovery_response",
        _ => "jsonrpc_response",
    };
    let payload = post.payload();
    if post.resp_type != due {
        return Some(format!("a {} for a {kind:?}", post.resp_type));
    }
    if !post.addressed {
        return Some("another command's shard token".to_owned());
    }
    let called = matches!(kind, Kind::Call | Kind::HastyCall | Kind::UnknownChannel);
    if called && payload["id"] != 41 {
        return Some("another id than the call's".to_owned());
    }
    if due == "jsonrpc_response" && payload["result"].is_null() == payload["error"].is_null() {
        return Some("neither a result nor an error".to_owned());
    }
    None
}

/// What must hold over all POSTs once the client has ended: one answer a command, none after its
/// deadline, none for commands that do not exist.
pub fn audit(plane: &Plane) -> Vec<String> {
    let mut terminal: BTreeMap<String, Vec<Post>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for post in plane.posts() {
        let Some(handed) = plane.handed_at(&post.request_id) else {
            wrong.push(format!("a response to nothing: {:.300}", post.text));
            continue;
        };
        let hasty = post.request_id.contains("/HastyCall#");
        if hasty && post.at > handed + Duration::from_millis(HASTE_MS) + Duration::from_secs(2) {
            wrong.push(format!("{}: answered after its deadline", post.request_id));
        }
        let earlier = terminal.entry(post.request_id.clone()).or_default();
        if earlier.iter().any(|answer| answer.accepted) {
            wrong.push(format!("{}: {} after its answer", post.request_id, post.resp_type));
        } else if post.is_terminal() {
            if earlier.iter().any(|answer| answer.text != post.text) {
                wrong.push(format!("{}: two different answers", post.request_id));
            }
            earlier.push(post);
        }
    }
    wrong
}

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Names of all threads but the workers.
    pub threads: Vec<String>,
    /// Open descriptors by kind.
    pub descriptors: BTreeMap<String, usize>,
    /// Live and dead children.
    pub children: usize,
    /// It and all its descendants that live.
    pub family: usize,
}

impl Census {
    /// `tag` is in the environment of the process.
    pub fn of(pid: u32, tag: &str) -> Census {
        let mut threads: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/task"))
            .expect("the process lives")
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            // They are started as they are needed, and then stay.
            .filter(|name| !name.starts_with("worker-"))
            .collect();
        threads.sort();
        let mut descriptors = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let target = target.display().to_string();
            let kind = target.split(":[").next().unwrap_or(&target).to_owned();
            *descriptors.entry(kind).or_insert(0) += 1;
        }
        Census { threads, descriptors, children: children_of(pid), family: processes_with(tag).len() }
    }

    /// The same once it does not change any more: what starting up takes is gone then.
    pub fn settled(pid: u32, tag: &str) -> Census {
        let mut census = Census::of(pid, tag);
        let mut same = 0;
        eventually("the process has started up", || {
            let now = Census::of(pid, tag);
            same = if now == census { same + 1 } else { 0 };
            census = now;
            same >= 20
        });
        census
    }

    /// What the process holds now that it did not hold then.
    pub fn surplus(&self, before: &Census) -> Option<String> {
        let new: Vec<_> = self.threads.iter().filter(|thread| !before.threads.contains(thread)).collect();
        let more =
            |(kind, count): (&String, &usize)| before.descriptors.get(kind).is_none_or(|was| count > was);
        let grown = self.threads.len() > before.threads.len()
            || self.descriptors.iter().any(more)
            || self.children > before.children
            || self.family > before.family;
        grown.then(|| {
            format!(
                "left behind: {} threads, were {} (new {new:?}); descriptors {:?}, were {:?}; {} children, were {}; {} processes, were {}",
                self.threads.len(),
                before.threads.len(),
                self.descriptors,
                before.descriptors,
                self.children,
                before.children,
                self.family,
                before.family
            )
        })
    }
}

/// Processes whose parent is `pid`, zombies included.
pub fn children_of(pid: u32) -> usize {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let parent = |stat: &str| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok();
    let all = std::fs::read_dir("/proc").expect("proc").flatten();
    all.filter_map(stat).filter(|stat| parent(stat) == Some(pid)).count()
}

/// Processes whose environment holds `needle`.
pub fn processes_with(needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("{}: {command}", entry.file_name().display()));
        }
    }
    found
}

/// Waits until no process has `needle` in its environment.
pub fn wait_gone(needle: &str) {
    eventually(&format!("no process of ours is left: {:?}", processes_with(needle)), || {
        processes_with(needle).is_empty()
    });
}
