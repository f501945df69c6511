//! Measures the road of a command: poll, MCP exchange, answer.
//!
//! `cargo bench --bench road -- [--json] [--quick] [--only CASE]… [--churn SECONDS [--seed N]] [--client PATH]`
//!
//! The release `tunnel-client` runs as a process of its own between a control plane and an MCP server that
//! live in this one. Beside it runs the floor: this executable again, doing the same exchanges with bare
//! sockets. Both face the same peers in turns, so their ratio holds on any machine. `--churn` injects faults
//! instead and counts that every command got exactly one answer.

mod cases;
mod churn;
mod control_plane;
mod floor;
mod mcp_server;
mod payload;
mod report;
mod subject;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cases::{CASES, Effort};
use report::Facts;

/// What the command line asked for.
struct Options {
    json: bool,
    quick: bool,
    only: Vec<String>,
    churn: Option<Duration>,
    seed: u64,
    client: PathBuf,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("echo-stdio") => mcp_server::serve_stdio().map_err(|error| error.to_string()).map(|()| true),
        Some("floor") => floor_main(&args[1..]).map(|()| true),
        _ => options(args).and_then(|options| match options.churn {
            Some(time) => churn::run(&options.client, time, options.seed, options.json),
            None => measure(&options),
        }),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        json: false,
        quick: false,
        only: Vec::new(),
        churn: None,
        seed: 1,
        client: PathBuf::from(env!("CARGO_BIN_EXE_tunnel-client")),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => {}
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--only" => options.only.push(value()?),
            "--client" => options.client = PathBuf::from(value()?),
            "--seed" => options.seed = value()?.parse().map_err(|_| "--seed needs a number")?,
            "--churn" => {
                let seconds = value()?.parse().map_err(|_| "--churn needs a number of seconds")?;
                options.churn = Some(Duration::from_secs(seconds));
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if let Some(name) = options.only.iter().find(|name| !CASES.iter().any(|case| case.name == **name)) {
        let names = CASES.map(|case| case.name).join(", ");
        return Err(format!("no case is called {name}; there are {names}"));
    }
    Ok(options)
}

/// `floor CONTROL_PLANE MCP_ADDR/path|stdio WORKERS [CA_FILE]`
fn floor_main(args: &[String]) -> Result<(), String> {
    let [control_plane, target, workers, rest @ ..] = args else {
        return Err("floor needs its orders".to_owned());
    };
    let addr = |text: &str| text.parse::<SocketAddr>().map_err(|error| format!("{text}: {error}"));
    let target = match target.split_once('/') {
        Some((host, path)) => floor::Target::Http { addr: addr(host)?, path: format!("/{path}") },
        None => floor::Target::Stdio,
    };
    let orders = floor::Orders {
        control_plane: addr(control_plane)?,
        target,
        workers: workers.parse().map_err(|_| "workers must be a number")?,
        ca_file: rest.first().map(PathBuf::from),
    };
    floor::run(&orders).map_err(|error| format!("floor: {error}"))
}

/// Whether every case was sound.
fn measure(options: &Options) -> Result<bool, String> {
    let effort = if options.quick {
        Effort { rounds: 1, warm_up: Duration::from_millis(200), window: Duration::from_secs(1) }
    } else {
        Effort { rounds: 3, warm_up: Duration::from_millis(400), window: Duration::from_millis(1700) }
    };
    let facts = Facts {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        client_bytes: size_of_file(&options.client),
        server_bytes: size_of_file(Path::new(env!("CARGO_BIN_EXE_tunnel-server"))),
    };
    if !options.json {
        println!(
            "{} cores; tunnel-client {:.2} MiB, tunnel-server {:.2} MiB",
            facts.cores,
            facts.client_bytes as f64 / 1_048_576.0,
            facts.server_bytes as f64 / 1_048_576.0
        );
        println!("{}", report::table_head());
    }
    let mut rows = Vec::new();
    for case in
        CASES.iter().filter(|case| options.only.is_empty() || options.only.iter().any(|n| n == case.name))
    {
        let seen =
            cases::run(case, effort, &options.client).map_err(|error| format!("{}: {error}", case.name))?;
        let row = (*case, seen);
        if !options.json {
            print!("{}", report::table_rows(&row));
        }
        rows.push(row);
    }
    if options.json {
        println!("{}", report::json(facts, &rows));
    }
    Ok(rows.iter().all(|(_, seen)| seen.iter().all(cases::Seen::is_sound)))
}

fn size_of_file(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}
