//! How children begin and end.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use super::*;
use crate::mcp::stdio::{EndReason, StartError};

fn start_error(target: StdioTarget) -> String {
    let error: StartError = StdioBinding::new(target, &Cancel::new()).start().unwrap_err();
    error.to_string()
}

fn read_pid(path: &Path) -> u32 {
    wait_until(|| fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n')));
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn a_missing_or_unusable_executable_is_an_error_at_the_start() {
    let argv = |name: &str| StdioTarget::new("main", name, vec![name.to_owned()]);
    let error = start_error(argv("no-such-command-anywhere"));
    assert!(error.contains("start stdio command") && error.contains("no-such-command-anywhere"), "{error}");
    assert!(start_error(argv("/no/such/file")).contains("start stdio command"));
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "x").unwrap();
    assert!(start_error(argv(plain.to_str().unwrap())).contains("permission"));
}

#[test]
fn arguments_are_passed_as_they_are_and_no_shell_sees_them() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, marker) = (dir.path().join("seen"), dir.path().join("marker"));
    let script = format!("printf '%s\\n' \"$@\" > '{}'; read -r line", seen.display());
    let mut target = shell(&script);
    let touch = format!("touch {}", marker.display());
    target.argv.extend(["name", "a b", ";", touch.as_str(), "$HOME", "*"].map(str::to_owned));
    let _binding = started(target);
    let expected = format!("a b\n;\n{touch}\n$HOME\n*\n");
    wait_until(|| fs::read_to_string(&seen).is_ok_and(|text| text == expected));
    assert!(!marker.exists());
}

#[test]
fn the_child_inherits_the_environment_without_the_hidden_variables() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let mut target = shell(&format!("env > '{0}.new'; mv '{0}.new' '{0}'; read -r line", seen.display()));
    let hidden = std::env::vars()
        .map(|(name, _)| name)
        .find(|name| !matches!(&**name, "PATH" | "PWD" | "_" | "SHLVL" | "OLDPWD"));
    let hidden = hidden.unwrap();
    target.hidden_variables = vec![hidden.clone(), "NOT_SET_AT_ALL".to_owned()];
    let _binding = started(target);
    wait_until(|| seen.exists());
    let text = fs::read_to_string(&seen).unwrap();
    assert!(text.lines().any(|line| line.starts_with("PATH=")));
    assert!(!text.lines().any(|line| line.starts_with(&format!("{hidden}="))), "{hidden}");
}

#[test]
fn stderr_is_handed_on_unchanged() {
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let mut target = shell("printf 'one\\n\\ttwo  \\n' >&2; read -r line");
    target.stderr = Some(fs::File::from(std::os::fd::OwnedFd::from(theirs)));
    let binding = started(target);
    let mut text = [0; 11];
    ours.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"one\n\ttwo  \n");
    binding.stop(Deadline::after(PATIENCE));
}

#[test]
fn calls_running_when_the_child_exits_fail_at_once_and_the_next_child_serves() {
    let rig = Rig::plain();
    let pid = rig.pid();
    let running: Vec<_> = (0..3)
        .map(|n| {
            let thread = rig.send_aside(&call(&n.to_string(), "hold", &format!(r#"{{"n":{n}}}"#)));
            rig.wait_for_record(&format!(r#"{{"n":{n}}}"#));
            thread
        })
        .collect();
    let started = Instant::now();
    assert_eq!(rig.send(&call("9", "exit", r#"{"code":3}"#)).failure(), (502, "transport_closed", "eof"));
    for thread in running {
        assert_eq!(thread.join().unwrap().failure(), (502, "transport_closed", "eof"));
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(rig.send(&call("1", "echo", "{}")).answer(), answer("1", "{}"));
    let health = rig.binding.health();
    assert!(health.running && health.pid != Some(pid));
    assert_eq!((health.generation, health.restarts(), health.last_end), (2, 1, Some(EndReason::Exit)));
    assert_eq!(rig.record().iter().filter(|line| line.contains("hold")).count(), 3, "none is repeated");
}

#[test]
fn the_last_words_of_a_child_are_delivered() {
    let rig = Rig::plain();
    assert_eq!(rig.send(&call("1", "answer-and-exit", "{}")).answer(), answer("1", "\"last words\""));
    wait_until(|| rig.binding.health().generation == 2 && rig.binding.health().running);
}

#[test]
fn an_answer_without_a_line_feed_counts_and_half_an_answer_is_told_apart() {
    let script = |text: &str| shell(&format!("read -r line; printf '%s' '{text}'"));
    let binding = started(script(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    let deadline = Deadline::after(PATIENCE);
    assert!(send(&binding, &call("1", "x", "{}"), deadline).answer().contains("result"));
    let binding = started(script(r#"{"jsonrpc":"2.0","id":1,"resu"#));
    assert_eq!(
        send(&binding, &call("1", "x", "{}"), deadline).failure(),
        (502, "transport_closed", "unexpected_eof")
    );
    let binding = started(script("Traceback: something"));
    assert_eq!(send(&binding, &call("1", "x", "{}"), deadline).failure(), (502, "transport_closed", "eof"));
}

#[test]
fn a_child_that_closes_stdout_or_stdin_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let deadline = Deadline::after(PATIENCE);
    let binding =
        started(shell(&format!("echo $$ >> '{}'; read -r line; exec >&-; sleep 60", pids.display())));
    assert_eq!(send(&binding, &call("1", "x", "{}"), deadline).failure(), (502, "transport_closed", "eof"));
    wait_until(|| binding.health().generation == 2 && binding.health().running);
    assert_eq!(binding.health().last_end, Some(EndReason::StdoutClosed));
    let first: u32 = fs::read_to_string(&pids).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(!is_alive(first));

    // Whether the call itself does not reach the child or the handshake before it.
    for care in [false, true] {
        let ready = dir.path().join(format!("ready-{care}"));
        let mut target = shell(&format!("exec <&-; echo > '{}'; sleep 60", ready.display()));
        target.lifecycle_care = care;
        let binding = started(target);
        wait_until(|| ready.exists());
        assert_eq!(
            send(&binding, &call("1", "x", "{}"), deadline).failure(),
            (502, "transport_closed", "closed_pipe"),
            "{care}"
        );
        wait_until(|| binding.health().last_end == Some(EndReason::StdinFailed));
    }
}

#[test]
fn a_notification_to_a_broken_pipe_fails() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let binding = started(shell(&format!("exec <&-; echo > '{}'; sleep 60", ready.display())));
    wait_until(|| ready.exists());
    let report = send(&binding, r#"{"jsonrpc":"2.0","method":"n"}"#, Deadline::after(PATIENCE));
    assert_eq!(report.failure(), (502, "transport_closed", "closed_pipe"));
}

#[test]
fn a_grandchild_that_keeps_stdout_open_hides_no_death_and_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    // The grandchild ignores SIGTERM, as stubborn ones do.
    let script = format!(
        "(trap '' TERM; sh -c 'echo $$' > '{}'; exec sleep 60) & read -r line; exit 1",
        pid.display()
    );
    let mut target = shell(&script.replace("sh -c 'echo $$'", "sh -c 'echo $PPID'"));
    target.restart_min = Duration::from_secs(30);
    let binding = started(target);
    let grandchild = read_pid(&pid);
    let started = Instant::now();
    let report = send(&binding, &call("1", "x", "{}"), Deadline::after(PATIENCE));
    assert_eq!(report.failure(), (502, "transport_closed", "eof"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    wait_until(|| is_gone(grandchild));
    binding.stop(Deadline::after(PATIENCE));
}

/// Gone, or a zombie that only init can reap.
fn is_gone(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => !is_alive(pid),
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
    }
}

#[test]
fn stopping_lets_a_polite_child_end_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let binding = started(shell(&format!("while read -r line; do :; done; echo eof > '{}'", mark.display())));
    let pid = binding.health().pid.unwrap();
    let started = Instant::now();
    binding.stop(Deadline::after(PATIENCE));
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(!is_alive(pid));
    assert_eq!(fs::read_to_string(mark).unwrap(), "eof\n");
    assert!(binding.health().stopped && !binding.health().running);
    let report = send(&binding, &call("1", "x", "{}"), Deadline::after(PATIENCE));
    assert_eq!(report.failure(), (502, "client_internal", "canceled"));
}

#[test]
fn stopping_sends_sigterm_and_then_sigkill_to_the_whole_group_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mark, pid) = (dir.path().join("mark"), dir.path().join("pid"));
    let script = format!(
        "trap 'echo term >> \"{0}\"' TERM; (trap '' TERM; sh -c 'echo $PPID' > '{1}'; while :; do sleep 1; done) & while :; do sleep 0.05; done",
        mark.display(),
        pid.display()
    );
    let binding = started(shell(&script));
    let grandchild = read_pid(&pid);
    let leader = binding.health().pid.unwrap();
    let began = Instant::now();
    binding.stop(Deadline::after(Duration::from_secs(2)));
    assert!(began.elapsed() <= Duration::from_millis(2500), "{:?}", began.elapsed());
    assert_eq!(fs::read_to_string(mark).unwrap(), "term\n");
    assert!(!is_alive(leader));
    wait_until(|| is_gone(grandchild));
}

#[test]
fn a_grandchild_left_by_a_polite_child_is_ended_too() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let binding = started(shell(&format!(
        "sleep 60 >/dev/null 2>&1 </dev/null & echo $! > '{}'; while read -r line; do :; done",
        pid.display()
    )));
    let grandchild = read_pid(&pid);
    binding.stop(Deadline::after(PATIENCE));
    wait_until(|| is_gone(grandchild));
}

#[test]
fn the_child_leads_a_process_group_of_its_own() {
    let rig = Rig::plain();
    let pid = rustix::process::Pid::from_raw(rig.pid() as i32).unwrap();
    assert_eq!(rustix::process::getpgid(Some(pid)).unwrap(), pid);
}

#[test]
fn a_cut_fails_running_exchanges_at_once() {
    let rig = Rig::plain();
    let running = rig.send_aside(&call("1", "hold", "{}"));
    rig.wait_for_record("hold");
    rig.cancel.cancel();
    assert_eq!(running.join().unwrap().failure(), (502, "client_internal", "canceled"));
    assert_eq!(rig.send(&call("2", "echo", "{}")).failure(), (502, "client_internal", "canceled"));
    let pid = rig.pid();
    rig.binding.stop(Deadline::after(PATIENCE));
    assert!(!is_alive(pid));
}

#[test]
fn a_dropped_binding_leaves_nothing_behind() {
    let rig = Rig::plain();
    let pid = rig.pid();
    drop(rig);
    assert!(!is_alive(pid));
}

#[test]
fn a_child_that_keeps_dying_is_started_at_growing_intervals_and_nobody_gets_silence() {
    let dir = tempfile::tempdir().unwrap();
    let starts = dir.path().join("starts");
    let mut target = shell(&format!("echo >> '{}'; exit 1", starts.display()));
    (target.restart_min, target.restart_max) = (Duration::from_millis(100), Duration::from_secs(20));
    let binding = started(target);
    wait_until(|| fs::read_to_string(&starts).is_ok_and(|text| text.lines().count() == 4));
    wait_until(|| binding.health().attempts >= 4);
    let health = binding.health();
    assert!(!health.running && health.next_start_in.unwrap() > Duration::from_millis(300), "{health:?}");
    assert!(health.unready_text().unwrap().starts_with("stdio MCP child not running: exit; next start in "));
    binding.stop(Deadline::after(PATIENCE));

    let mut target = shell("exit 1");
    (target.restart_min, target.restart_max) = (Duration::from_secs(20), Duration::from_secs(20));
    let binding = started(target);
    wait_until(|| !binding.health().running);
    for message in [call("1", "x", "{}"), r#"{"jsonrpc":"2.0","method":"n"}"#.to_owned()] {
        let began = Instant::now();
        let report = send(&binding, &message, Deadline::NEVER);
        assert_eq!(report.failure(), (503, "transport_closed", "child_unavailable"));
        let Outcome::Failed(Failure::Lifecycle { note, .. }) = report.outcome else { panic!() };
        assert_eq!(note.reason, "child_restarting");
        assert!(note.retry_after_ms.unwrap() > 10_000);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    let began = Instant::now();
    binding.stop(Deadline::after(PATIENCE));
    assert!(began.elapsed() < Duration::from_secs(1), "the pause ends at once");
}

#[test]
fn a_command_that_can_no_longer_be_started_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let write = |text: &str| {
        // Written elsewhere and moved: a file that is open for writing cannot be executed.
        let new = dir.path().join("new");
        let mut file = fs::File::create(&new).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        drop(file);
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(&new, &program).unwrap();
    };
    let ready = dir.path().join("ready");
    write(&format!("#!/bin/sh\necho > '{}'\nread -r line\n", ready.display()));
    let mut target = shell("");
    target.argv = vec![program.to_str().unwrap().to_owned()];
    let binding = started(target);
    wait_until(|| ready.exists());
    fs::remove_file(&program).unwrap();
    assert_eq!(send(&binding, &call("1", "x", "{}"), Deadline::after(PATIENCE)).failure().2, "eof");
    wait_until(|| binding.health().last_end == Some(EndReason::SpawnFailed));
    assert!(binding.health().last_error.unwrap().contains("start stdio command"));
    write("#!/bin/sh\nread -r line; echo '{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}'; read -r line\n");
    assert!(send(&binding, &call("2", "x", "{}"), Deadline::after(PATIENCE)).answer().contains("result"));
}
