//! What the process does for those who operate it: log files, systemd, browsers, idleness.

use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::common::process::{Client, client_binary};
use crate::common::{API_KEY, PATIENCE, TUNNEL_ID, engine, eventually, wait_polled};
use crate::{site, site_with};

#[test]
fn a_hangup_opens_the_log_file_anew_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (log, rotated) = (directory.path().join("client.log"), directory.path().join("client.log.1"));
    let mut site = site(&["--log.file", log.to_str().unwrap()]);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    eventually("the start is logged", || read(&log).contains("poller started"));
    std::fs::rename(&log, &rotated).unwrap();
    site.client.signal(Signal::HUP);
    eventually("the new file is used", || read(&log).contains("msg=\"log file reopened\""));
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    site.ask("PUT", "/api/log-level", &[], r#"{"level":"info"}"#);
    assert!(read(&log).contains("runtime log level updated"));
    assert!(!read(&rotated).contains("runtime log level updated"));
    assert_eq!(site.client.output(), "", "the file is the only place");
    // All lines of both files are whole, and none is missing from the ring's count.
    let lines =
        read(&rotated).lines().chain(read(&log).lines()).filter(|line| line.starts_with("time=")).count();
    assert_eq!(lines, site.events().len());
    assert_eq!(site.client.terminate().code(), Some(0));
}

#[test]
fn without_a_log_file_a_hangup_ends_the_process_as_ever() {
    // A process started by nohup hands its children a hangup that is ignored; as ever means ignored then.
    let ignored = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0 {
        eprintln!("skipped: hangups are ignored here");
        return;
    }
    let mut site = site(&[]);
    site.client.signal(Signal::HUP);
    assert_eq!(site.client.wait().code(), None);
}

#[test]
fn systemd_hears_of_the_start_of_life_and_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut site = site_with(&[], &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")]);
    let ready = next();
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    let until = |wanted: &str| while !next().contains(wanted) {};
    until("WATCHDOG=1");
    until("STATUS=ready; polling the control plane");
    site.client.signal(Signal::TERM);
    until("STOPPING=1");
    assert_eq!(site.client.wait().code(), Some(0));
}

#[test]
fn the_journal_sees_the_level_of_each_line_and_nobody_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stderr");
    for (matches, prefix) in [(true, "<6>20"), (false, "20")] {
        let file = std::fs::File::create(&path).unwrap();
        let found = file.metadata().unwrap();
        let inode = if matches { found.st_ino() } else { found.st_ino() + 1 };
        let mut child = Command::new(client_binary())
            .args([
                "run",
                "--control-plane.base-url",
                "http://127.0.0.1:9",
                "--mcp.server-url",
                "http://127.0.0.1:9/mcp",
            ])
            .args(["--health.listen-addr", "127.0.0.1:0", "--control-plane.tunnel-id", TUNNEL_ID])
            .env("CONTROL_PLANE_API_KEY", API_KEY)
            .env("JOURNAL_STREAM", format!("{}:{inode}", found.st_dev()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let text = || std::fs::read_to_string(&path).unwrap();
        eventually("lines are written", || text().contains("WARN poll failed"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(text().starts_with(prefix), "{}", text());
        let warning = text().lines().find(|line| line.contains("WARN poll failed")).unwrap().to_owned();
        assert_eq!(warning.starts_with("<4>"), matches, "{warning}");
    }
}

#[test]
fn the_web_ui_is_opened_in_a_browser_that_gets_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let (browser, opened) = (directory.path().join("xdg-open"), directory.path().join("opened"));
    let script = format!(
        "#!/bin/sh\nenv > {0}.part\necho \"url=$1\" >> {0}.part\nmv {0}.part {0}\n",
        opened.display()
    );
    std::fs::write(&browser, script).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let site = site_with(&["--open-web-ui"], &[("PATH", &path)]);
    eventually("the browser runs", || opened.exists());
    let seen = std::fs::read_to_string(&opened).unwrap();
    assert!(seen.contains(&format!("url={}/ui\n", site.client.health_url())), "{seen}");
    assert!(!seen.contains(API_KEY), "{seen}");
    site.client.wait_output("🌐 WEB UI: http://127.0.0.1:");
}

#[test]
fn a_browser_that_is_missing_fails_nothing() {
    let mut site = site_with(&["--open-web-ui"], &[("PATH", "/nonexistent")]);
    site.client.wait_output("failed to open web UI in browser");
    assert!(site.client.is_running());
}

#[test]
fn a_client_that_nobody_watches_sleeps() {
    let engine = engine();
    let client = Client::start(&engine.client_base_url(), &["--mcp.server-url", "http://127.0.0.1:9/mcp?x"]);
    wait_polled(&engine);
    client.wait_output("tunnel-client started");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", client.pid())).unwrap();
        let fields: Vec<u64> = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .skip(11)
            .take(2)
            .map(|n| n.parse().unwrap())
            .collect();
        fields[0] + fields[1]
    };
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_secs(2));
    // Of 200.
    assert!(ticks() - before <= 4, "{} ticks", ticks() - before);
}
