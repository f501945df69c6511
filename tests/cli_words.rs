//! The command line without a network: help, topics, mistakes, first profiles.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::TUNNEL_ID;
use common::command::Home;

const SETUP_URLS: [&str; 4] = [
    "https://platform.openai.com/settings/organization/tunnels",
    "https://platform.openai.com/settings/organization/api-keys",
    "https://platform.openai.com/settings/organization/admin-keys",
    "https://chatgpt.com/#settings/Connectors",
];
const TOPICS: [&str; 6] = ["doctor", "oauth", "plugin", "quickstart", "samples", "troubleshooting"];
const SAMPLES: [&str; 4] = [
    "sample_mcp_enterprise_proxy",
    "sample_mcp_remote_no_auth",
    "sample_mcp_stdio_local",
    "sample_mcp_with_dcr",
];

#[test]
fn the_bare_program_shows_its_commands_topics_and_setup_urls() {
    let home = Home::new();
    let bare = home.run(&[]);
    bare.ok(&[
        "/healthz",
        "/readyz",
        "/ui",
        "Commands:\n",
        "Agent-first help topics:\n",
        "Canonical setup URLs:\n",
    ]);
    bare.says(&SETUP_URLS);
    for topic in TOPICS {
        bare.says(&[&format!("\n  tunnel-client help {topic}\n")]);
    }
    for command in
        ["run", "doctor", "health", "init", "profiles", "admin", "demo", "dev", "completion", "help"]
    {
        bare.says(&[&format!("\n  {command} ")]);
    }
    assert!(!bare.stdout.contains("sessions") && !bare.stdout.contains("--mcp.server-url"));
    for line in ["--help", "-h", "help"] {
        assert_eq!(home.line(line).ok(&[]).stdout, bare.stdout, "{line}");
    }
}

#[test]
fn the_version_is_one_line_and_belongs_to_the_root() {
    let home = Home::new();
    for flag in ["--version", "-v"] {
        let version = home.line(flag);
        version.ok(&[]);
        assert_eq!(version.stdout.lines().count(), 1);
        let numbers: Vec<&str> =
            version.stdout.split([' ', '-', '+', '\n']).next().unwrap().split('.').collect();
        assert!(numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok()), "{version:?}");
    }
    home.line("run --version").fails(&["unknown flag: --version"]);
    home.line("run -v").fails(&["unknown shorthand flag: 'v' in -v"]);
}

#[test]
fn unknown_commands_end_with_one_and_the_names_that_were_meant() {
    let home = Home::new();
    for (line, message) in [
        ("bogus", "unknown command \"bogus\" for \"tunnel-client\""),
        ("profiles bogus", "unknown command \"bogus\" for \"tunnel-client profiles\""),
        ("profiles samples bogus", "unknown command \"bogus\" for \"tunnel-client profiles samples\""),
        ("admin bogus", "unknown command \"bogus\" for \"tunnel-client admin\""),
        ("admin tunnels bogus x", "unknown command \"bogus\" for \"tunnel-client admin tunnels\""),
        ("dev bogus", "unknown command \"bogus\" for \"tunnel-client dev\""),
        ("runtimes list", "unknown command \"runtimes\""),
        ("admin-profiles list", "unknown command \"admin-profiles\""),
        ("codex status", "unknown command \"codex\""),
        ("plugin codex install", "unknown command \"plugin\""),
        ("cloudflared bogus", "unknown command \"bogus\" for \"tunnel-client cloudflared\""),
        ("sessions", "unknown command \"sessions\""),
        ("doctr", "Did you mean this?\n\tdoctor"),
        ("--bogus", "unknown flag: --bogus"),
        ("--bogus run", "unknown flag: --bogus"),
        ("profiles --bogus list", "unknown flag: --bogus"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("run --bogus", "unknown flag: --bogus"),
        ("run --log-level debug", "unknown flag: --log-level"),
        ("run --log.level", "flag needs an argument: --log.level"),
        ("health --port abc", "invalid argument \"abc\" for \"--port\" flag: "),
        ("health --json=maybe", "invalid argument \"maybe\" for \"--json\" flag: "),
        ("dev proxy --duration 30", "invalid argument \"30\" for \"--duration\" flag: "),
    ] {
        home.line(line).fails(&[message]);
    }
}

#[test]
fn groups_and_help_flags_show_help_and_judge_nothing() {
    let home = Home::new();
    for (line, part) in [
        ("profiles", "Usage: tunnel-client profiles <command>"),
        ("profiles samples", "Usage: tunnel-client profiles samples <command>"),
        ("admin", "Usage: tunnel-client admin <command>"),
        ("admin tunnels", "Usage: tunnel-client admin tunnels <command>"),
        ("admin --json", "Usage: tunnel-client admin <command>"),
        ("dev", "Usage: tunnel-client dev <command>"),
        ("completion", "Usage: tunnel-client completion <command>"),
        ("--help run", "tunnel-client run"),
        ("admin tunnels create --help", "--description"),
        ("admin tunnels get -h --bogus", "<tunnel-id>"),
        ("profiles add -h", "--from-file"),
        ("doctor --help", "--explain"),
        ("health --help", "--max-poll-age"),
        ("init --help", "(default 127.0.0.1:8080)"),
        ("dev proxy --help", "--print-json"),
        ("dev mcp-stub --help", "--listen-addr"),
        ("demo --help", "--stdio"),
        ("admin --help extra --bogus", "Usage: tunnel-client admin <command>"),
        ("admin --help tunnels", "Usage: tunnel-client admin tunnels <command>"),
        ("help help extra --help", "Usage: tunnel-client help"),
    ] {
        home.line(line).ok(&[part]);
    }
    for line in ["admin tunnels --help", "admin tunnels get --help"] {
        home.line(line).ok(&["CONTROL_PLANE_API_KEY", "OPENAI_ADMIN_KEY"]);
    }
    home.line("admin tunnels create --help").ok(&[
        "wait 25-30 seconds",
        "active and ready",
        "tunnel-client admin tunnels create ",
    ]);
    home.line("admin tunnels update --help").ok(&["tunnel-client admin tunnels update "]);
}

#[test]
fn help_of_run_lists_settings_variables_and_next_steps() {
    let home = Home::new();
    let help = home.line("run --help");
    help.ok(&[
        "control-plane.base-url",
        "embedded-mcp-stub",
        "--mcp.extra-headers",
        "MCP_EXTRA_HEADERS",
        "--mcp.discovery-extra-headers",
        "MCP_DISCOVERY_EXTRA_HEADERS",
        "--control-plane.extra-headers",
        "CONTROL_PLANE_EXTRA_HEADERS",
        "env:VAR or file:/path",
        "TUNNEL_CLIENT_PROFILE ",
        "TUNNEL_CLIENT_PROFILE_FILE",
        "XDG_CONFIG_HOME",
        "http://<health.listen-addr>/ui",
        "profiles samples list",
        "(default stdout)",
        "--control-plane.poll-timeout duration",
        "(default 30s)",
    ]);
    assert!(help.stdout.starts_with("tunnel-client 0."), "{}", &help.stdout[..40]);
    assert!(!help.stdout.contains("Commands:") && !help.stdout.contains("\n  --mcp-server-url"));
    assert_eq!(home.line("help run").ok(&[]).stdout, help.stdout);
}

#[test]
fn topics_win_over_commands_and_hold_what_they_must_tell() {
    let home = Home::new();
    let doctor = home.line("help doctor");
    doctor.ok(&[
        "CONTROL_PLANE_API_KEY",
        "OPENAI_ADMIN_KEY",
        "organization_ids",
        "workspace_ids",
        "--explain",
        "--json",
    ]);
    assert!(!doctor.stdout.contains("--log.level"), "the topic, not the flags");
    for (topic, parts) in [
        (
            "quickstart",
            &[
                "CONTROL_PLANE_TUNNEL_ID",
                "CONTROL_PLANE_API_KEY",
                "OPENAI_ADMIN_KEY",
                "Tunnels Read + Use",
                "Read + Manage",
                "run --embedded-mcp-stub --control-plane.tunnel-id",
                "--health.listen-addr 127.0.0.1:0 --health.url-file",
                "sample_mcp_stdio_local",
                "sample_mcp_remote_no_auth",
                "sample_mcp_enterprise_proxy",
                "HTTPS_PROXY",
                "ENTERPRISE_CA_BUNDLE",
                "dev mcp-stub",
                "sample_mcp_with_dcr",
                "doctor --profile <name> --explain",
                "run --profile <name>",
                "nohup or disown",
                "/readyz",
                "/ui",
                "people/roles",
                "people/groups",
            ][..],
        ),
        (
            "oauth",
            &[
                "/.well-known/oauth-protected-resource/mcp",
                "/.well-known/oauth-authorization-server",
                "authorization_servers[0]",
                "oauth_discovery_urls",
                "/readyz",
                "dev mcp-stub",
            ],
        ),
        (
            "samples",
            &[
                "profiles samples list",
                "init --sample",
                "profiles add",
                "http_proxy: env:HTTPS_PROXY",
                "ca_bundle: env:ENTERPRISE_CA_BUNDLE",
            ],
        ),
        ("plugin", &["env:NAME", "launched", "healthy", "ready", "nohup", "does not delete the tunnel"]),
        (
            "troubleshooting",
            &[
                "health --url-file",
                "health --port 8080",
                "/healthz",
                "/readyz",
                "oauth discovery pending",
                "oauth discovery failed",
                "mcp probe failed",
                "mcp initialize requires auth",
                "mcp startup probe timed out",
                "/api/logs/export?minutes=30",
                "redacted",
                "404",
            ],
        ),
    ] {
        home.run(&["help", topic]).ok(parts);
    }
    for topic in ["quickstart", "doctor"] {
        home.run(&["help", topic]).ok(&SETUP_URLS);
    }
    home.line("help profiles").ok(&["Usage: tunnel-client profiles"]);
    let missing = home.line("help nosuch");
    missing.fails(&["unknown help topic \"nosuch\"; available topics: "]);
    missing.fails(&TOPICS);
    home.line("help tunnels").fails(&["unknown help topic"]);
    home.line("help help").fails(&["unknown help topic"]);
    home.line("help admin tunnels").fails(&["accepts at most 1 arg(s), received 2"]);
}

#[test]
fn no_help_names_what_is_not_built() {
    let home = Home::new();
    let mut lines: Vec<String> = TOPICS.iter().map(|topic| format!("help {topic}")).collect();
    lines.extend(
        ["--help", "run --help", "doctor --help", "admin --help", "profiles --help"].map(str::to_owned),
    );
    for line in lines {
        let text = home.line(&line).ok(&[]).stdout.to_lowercase();
        for word in ["codex", "tunnel-client plugin", "tunnel-client runtimes", "admin-profiles"] {
            assert!(!text.contains(word), "{line}: {word}");
        }
    }
}

#[test]
fn a_mistyped_flag_is_told_with_the_one_that_was_meant() {
    let home = Home::new();
    for (line, message) in [
        ("run --log-level debug", "unknown flag: --log-level\n\nDid you mean this?\n\t--log.level\n"),
        ("run --control-plane.tunel-id x", "\t--control-plane.tunnel-id\n"),
        ("run -profile lab", "unknown shorthand flag: 'p' in -profile\n\nDid you mean this?\n\t--profile\n"),
        ("init --tunel-id x", "\t--tunnel-id\n"),
        ("profiles --profiledir x list", "\t--profile-dir\n"),
        (
            "health --bogus",
            "unknown flag: --bogus\nRun \"tunnel-client health --help\" for the flags there are.\n",
        ),
    ] {
        home.line(line).fails(&[message]);
    }
}

#[test]
fn words_that_nobody_asked_for_are_refused_before_anything_happens() {
    let home = Home::new().with("CONTROL_PLANE_API_KEY", "k");
    for line in [
        "run extra",
        "doctor extra",
        "profiles list extra",
        "profiles samples list extra",
        "health --port 1 extra",
        "dev mcp-stub extra",
        "dev proxy --mcp-command x extra",
        "completion bash extra",
        "admin tunnels list --organization-id o extra",
        &format!("init extra --tunnel-id {TUNNEL_ID} --mcp-server-url http://127.0.0.1:1/mcp"),
    ] {
        home.line(line).fails(&["unexpected arguments: extra"]);
    }
    home.line("run --open-web-ui false").fails(&["unexpected arguments: false", "--name=false"]);
    assert!(home.files().is_empty());
}

#[test]
fn mistakes_of_commands_with_json_are_json() {
    let home = Home::new();
    for (line, message) in [
        ("health --json", "choose exactly one of --url, --url-file, or --port"),
        ("health --json --bogus", "unknown flag: --bogus"),
        ("health --port --json=true --json", "invalid argument \"--json=true\""),
        ("admin tunnels get --json", "accepts 1 arg(s), received 0"),
        ("admin --json tunnels create --name x", "required flag(s) \"description\" not set"),
        ("admin tunnels create --json", "required flag(s) \"description\", \"name\" not set"),
        ("admin --json tunnels bogus", "unknown command \"bogus\""),
        ("doctor --json --log.level", "flag needs an argument: --log.level"),
        ("profiles list --json extra", "unexpected arguments: extra"),
    ] {
        let error = home.line(line).json_error();
        assert!(error.contains(message), "{line}: {error}");
    }
    // Not asked for, or not offered.
    home.line("admin tunnels get --json=false").fails(&["accepts 1 arg(s), received 0"]);
    home.line("run --json").fails(&["unknown flag: --json"]);
    home.line("admin tunnels create").fails(&["required flag(s) \"description\", \"name\" not set"]);
}

#[test]
fn a_configuration_for_cloudflared_has_its_keys_in_order_and_no_token() {
    let home = Home::new();
    home.line("cloudflared version").ok(&["bundled cloudflared none\nmodule: none\n"]);
    let keys = |text: &str| -> String {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    };
    let plain = home.line("cloudflared config --token-file /nowhere/token");
    assert_eq!(
        keys(&plain.ok(&["TUNNEL_MANAGEMENT_DIAGNOSTICS=false"]).stdout),
        r#"token-file: "/nowhere/token"
no-autoupdate: true
metrics: "127.0.0.1:20241"
loglevel: "info"
transport-loglevel: "warn"
protocol: "auto"
edge-ip-version: "auto"
retries: 5
grace-period: "30s"
"#
    );
    let full = "cloudflared config --token-file t --metrics-address [::1]:9 --log-level debug \
                --transport-log-level fatal --protocol quic --edge-ip-version 6 --retries 0 --grace-period 90s";
    home.line(full).ok(&["\"[::1]:9\"", "\"6\"", "retries: 0", "\"1m30s\"", "\"quic\"", "\"fatal\""]);
    for (line, message) in [
        ("", "cloudflared config: --token-file is required"),
        ("--token-file=", "cloudflared config: --token-file is required"),
        ("--token-file t --metrics-address :1", "cloudflared config: --metrics-address must"),
        ("--token-file t --log-level trace", "cloudflared config: --log-level must be one of debug, "),
        ("--token-file t --protocol h2", "cloudflared config: --protocol must be one of auto, http2, quic"),
        ("--token-file t --retries -1", "cloudflared config: --retries must not be negative"),
        ("--token-file t --grace-period 0s", "cloudflared config: --grace-period must be positive"),
        ("--token-file t x", "unknown command \"x\" for \"tunnel-client cloudflared config\""),
    ] {
        home.line(&format!("cloudflared config {line}")).fails(&[message]);
    }
    home.run(&["cloudflared", "config", "--token-file", "a\nb"]).fails(&["must be a single line"]);
}

#[test]
fn completion_scripts_are_printed_for_four_shells() {
    let home = Home::new();
    for (shell, part) in [
        ("bash", "complete -o default"),
        ("zsh", "#compdef"),
        ("fish", "complete -c tunnel-client"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName tunnel-client"),
    ] {
        home.run(&["completion", shell]).ok(&[part, "mcp.server-url", "profiles samples"]);
    }
    home.line("completion tcsh").fails(&["unknown command"]);
}

#[test]
fn init_writes_a_profile_once_and_tells_the_next_steps() {
    let home = Home::new();
    let directory = home.text("D");
    let line = format!(
        "init --tunnel-id {TUNNEL_ID} --mcp-server-url http://127.0.0.1:3001/mcp --profile lab --profile-dir {directory}"
    );
    let first = home.line(&line);
    first.ok(&[
        &format!("Created profile lab at {directory}/lab.yaml\nSample: sample_mcp_with_dcr\n"),
        "\n  tunnel-client doctor --profile lab",
        "\n  tunnel-client run --profile lab",
        "`tunnel-client run --profile lab",
    ]);
    first.says(&SETUP_URLS);
    let profile = home.path("D/lab.yaml");
    assert_eq!(std::fs::metadata(&profile).unwrap().permissions().mode() & 0o777, 0o600);
    home.line(&line).fails(&["already exists", "--force"]);
    home.line(&format!("{line} --force")).ok(&["Created profile lab"]);
    let home = home.with("CONTROL_PLANE_API_KEY", "k");
    home.line(&format!("doctor --profile lab --profile-dir {directory} --health.listen-addr 127.0.0.1:0"))
        .reports(&["FAILED_CHECKS mcp_server_reachable\n"]);
}

#[test]
fn init_uses_its_defaults() {
    let home = Home::new();
    home.run(&["init", "--tunnel-id", TUNNEL_ID, "--mcp-command", "sh -c true"])
        .ok(&["Created profile sample_mcp_with_dcr at ", "Sample: sample_mcp_stdio_local\n"]);
    let text = std::fs::read_to_string(home.path(".config/tunnel-client/sample_mcp_with_dcr.yaml")).unwrap();
    for part in [
        "base_url: \"https://api.openai.com\"",
        "api_key: \"env:CONTROL_PLANE_API_KEY\"",
        "listen_addr: \"127.0.0.1:8080\"",
        "command: \"sh -c true\"",
        "admin_ui:\n  open_browser: false\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn init_refuses_wrong_inputs_and_writes_nothing() {
    let home = Home::new();
    let missing = home.line("init --mcp-server-url http://127.0.0.1:1/mcp");
    missing.fails(&[
        "tunnel ID is required",
        "tunnel-client admin tunnels create --help",
        "tunnel-client help quickstart",
    ]);
    missing.fails(&SETUP_URLS);
    let data = home.file("data", "no program");
    for (arguments, parts) in [
        (&["--mcp-command", data.as_str()][..], &["mcp-command preflight failed", "chmod +x"][..]),
        (&["--mcp-command", "/no/such/program"], &["mcp-command preflight failed", "was not found"]),
        (&["--mcp-server-url", "http://h/mcp", "--control-plane-api-key-ref", "sk-live"], &["env:", "file:"]),
        (
            &["--mcp-server-url", "http://h/mcp", "--mcp-command", "sh"],
            &["sample_mcp_with_dcr", "exactly one"],
        ),
        (&["--mcp-server-url", "http://h/mcp", "--sample", "nope"], &["profiles samples list"]),
        (&["--mcp-server-url", "http://h/mcp", "--profile", "a/b"], &["path separators"]),
    ] {
        let mut line = vec!["init", "--tunnel-id", TUNNEL_ID];
        line.extend(arguments);
        let run = home.run(&line);
        run.fails(parts);
        assert!(!run.stderr.contains("sk-live"));
    }
    home.line("init --tunnel-id nope --mcp-server-url http://h/mcp").fails(&["invalid tunnel ID"]);
    assert_eq!(home.files(), [home.path("data")]);
}

#[test]
fn profiles_are_listed_by_name() {
    let home = Home::new();
    home.line("profiles list")
        .ok(&[&format!("No profiles found in {}\n", home.text(".config/tunnel-client"))]);
    assert_eq!(home.line("profiles list --json").ok(&[]).stdout, "[]\n");
    for name in ["b.yaml", "a.yaml", "x.yml", ".t.yaml"] {
        home.file(&format!("P/{name}"), "");
    }
    std::fs::create_dir(home.path("P/d.yaml")).unwrap();
    let directory = home.text("P");
    let text = format!("a\t{directory}/a.yaml\nb\t{directory}/b.yaml\n");
    for line in [
        format!("profiles list --profile-dir {directory}"),
        format!("profiles --profile-dir={directory} list"),
    ] {
        assert_eq!(home.line(&line).ok(&[]).stdout, text);
    }
    let home = home.with("TUNNEL_CLIENT_PROFILE_DIR", &directory);
    let json = home.line("profiles list --json").ok(&["[\n  {\n    \"name\": \"a\",\n"]).json();
    assert_eq!(json[1], serde_json::json!({ "name": "b", "path": format!("{directory}/b.yaml") }));
    assert_eq!(json.as_array().unwrap().len(), 2);
}

#[test]
fn profiles_are_added_from_a_file_or_a_sample() {
    let home = Home::new();
    let source = home.file("source.yaml", "# kept as it is\nconfig_version: 1\n");
    let directory = home.text(".config/tunnel-client");
    let added = home.line(&format!("profiles add lab --from-file {source}"));
    assert_eq!(added.ok(&[]).stdout, format!("Added profile lab at {directory}/lab.yaml\n"));
    assert_eq!(
        std::fs::read(home.path(".config/tunnel-client/lab.yaml")).unwrap(),
        std::fs::read(&source).unwrap()
    );
    home.line(&format!("profiles add lab --from-file {source}")).fails(&["already exists"]);
    home.line(&format!("profiles add lab --from-file {source} --force")).ok(&["Added"]);
    home.line(&format!("profiles add two --sample sample_mcp_remote_no_auth --tunnel-id {TUNNEL_ID} --mcp-server-url https://h/mcp"))
        .ok(&["Added profile two"]);
    let token = home.file("token.yaml", "cloudflared:\n  token: abc\n");
    for (line, part) in [
        ("profiles add x", "exactly one of --from-file and --sample"),
        (&*format!("profiles add x --from-file {source} --sample sample_mcp_with_dcr"), "exactly one of"),
        ("profiles add", "accepts 1 arg(s), received 0"),
        ("profiles add a b", "accepts 1 arg(s), received 2"),
        ("profiles add x --sample nope --tunnel-id t", "profiles samples list"),
        (
            "profiles add x --sample sample_mcp_with_dcr --mcp-server-url http://h/mcp",
            "tunnel ID is required",
        ),
        (&*format!("profiles add x --from-file {token}"), "env: or file:"),
        (&*format!("profiles add ../x --from-file {source}"), "path separators"),
        ("profiles add x --from-file /no/such/file", "/no/such/file"),
    ] {
        home.line(line).fails(&[part]);
    }
    assert_eq!(home.line("profiles list").ok(&[]).stdout.lines().count(), 2);
}

#[test]
fn an_edit_is_saved_only_if_it_validates() {
    let home = Home::new();
    home.line("profiles edit lab").fails(&["VISUAL", "EDITOR"]);
    let breaks = home.script("breaks", "#!/bin/sh\necho 'config_version: 2' > \"$1\"\n");
    let keeps = home.script("keeps", "#!/bin/sh\ntest -f \"$1\"\n");
    let gives_up = home.script("gives up", "#!/bin/sh\nexit 3\n");
    let home = home.with("EDITOR", &breaks);
    home.file(".config/tunnel-client/lab.yaml", "config_version: 1\n");
    home.line("profiles edit lab").fails(&["profile did not validate"]);
    let stored = || std::fs::read_to_string(home.path(".config/tunnel-client/lab.yaml")).unwrap();
    assert_eq!(stored(), "config_version: 1\n");
    let edit = |name: &str, editor: &str| {
        home.command(&["profiles", "edit", name]).env("VISUAL", editor).output().unwrap()
    };
    let ended = edit("lab", &format!("'{gives_up}'"));
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("run editor"));
    let ended = edit("new", &keeps);
    assert_eq!(ended.status.code(), Some(0));
    let path = home.path(".config/tunnel-client/new.yaml");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), format!("Saved profile new at {}\n", path.display()));
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_document_of_every_sample_is_accepted_by_the_program_that_shows_it() {
    let home = Home::new()
        .with("CONTROL_PLANE_API_KEY", "k")
        // Refused at once: nothing is looked up or reached for this.
        .with("HTTPS_PROXY", "http://127.0.0.1:1")
        .with("HEALTH_LISTEN_ADDR", "127.0.0.1:0");
    let roots = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let roots = home.file("roots.pem", &roots.cert.pem());
    let home = home.with("ENTERPRISE_CA_BUNDLE", &roots);
    for sample in SAMPLES {
        let shown = home.run(&["profiles", "samples", "show", sample]).stdout;
        let (_, document) = shown.split_once("\n\n").unwrap();
        let path = home.file(&format!("{sample}.yaml"), document);
        let report = home.run(&["doctor", "--json", "--config", &path]).json();
        let checks = report["checks"].as_array().unwrap();
        let passed = |id: &str| checks.iter().any(|check| check["id"] == id && check["status"] == "PASS");
        assert!(passed("tunnel_id") && passed("control_plane_api_key"), "{sample}: {report:#}");
        let stored = home.run(&["profiles", "add", sample, "--from-file", &path]);
        stored.ok(&[&format!("Added profile {sample} at ")]);
    }
}

#[test]
fn a_profile_can_come_from_standard_input() {
    let home = Home::new();
    let mut command = home.command(&["profiles", "add", "lab", "--from-file", "-"]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"config_version: 1\n").unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read(home.path(".config/tunnel-client/lab.yaml")).unwrap(), b"config_version: 1\n");
}

#[test]
fn samples_are_listed_and_shown() {
    let home = Home::new();
    let list = home.line("profiles samples list");
    let names: Vec<&str> = list.ok(&[]).stdout.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, SAMPLES);
    for sample in SAMPLES {
        home.run(&["profiles", "samples", "show", &format!(" {sample} ")]).ok(&[
            &format!("Sample: {sample}\nSummary: "),
            "\nUse when: ",
            "\nRequired:\n  - ",
            "\nOptional:\n  - ",
            "\nNotes:\n  - ",
            "tunnel_0123456789abcdef0123456789abcdef",
        ]);
    }
    home.line("profiles samples show nope").fails(&["profiles samples list"]);
    home.line("profiles samples show").fails(&["accepts 1 arg(s), received 0"]);
}
