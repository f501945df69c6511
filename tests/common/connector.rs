//! A connector: what an assistant's back end does.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use super::http::{self, Reply};

/// Posts messages to an MCP URL.
#[derive(Clone)]
pub struct Connector {
    address: String,
    path: String,
}

impl Connector {
    pub fn new(mcp_url: &str) -> Connector {
        let rest = mcp_url.strip_prefix("http://").expect("an http URL");
        let (address, path) = rest.split_at(rest.find('/').expect("a path"));
        Connector { address: address.into(), path: path.into() }
    }

    /// Posts one message and waits for the whole reply.
    pub fn post(&self, json: &str, headers: &[(&str, &str)]) -> Reply {
        self.try_post(json, headers).expect("the engine answers")
    }

    fn try_post(&self, json: &str, headers: &[(&str, &str)]) -> std::io::Result<Reply> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(super::PATIENCE * 4))?;
        let accept = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Accept"));
        let mut text =
            format!("POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.path, self.address);
        if !accept {
            text.push_str("Accept: application/json, text/event-stream\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        ));
        stream.write_all(text.as_bytes())?;
        http::read_reply(&mut BufReader::new(stream))
    }

    /// A `tools/call` of `tool`.
    pub fn call(&self, id: u64, tool: &str, arguments: &str) -> Reply {
        self.post(&call_json(id, tool, arguments), &[])
    }

    /// The same on a thread of its own.
    pub fn call_later(&self, id: u64, tool: &str, arguments: &str) -> JoinHandle<std::io::Result<Reply>> {
        let (connector, json) = (self.clone(), call_json(id, tool, arguments));
        std::thread::spawn(move || connector.try_post(&json, &[]))
    }
}

fn call_json(id: u64, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// The JSON messages of a server-sent event stream.
pub fn events(body: &str) -> Vec<serde_json::Value> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|json| serde_json::from_str(json).expect("an event holds JSON"))
        .collect()
}
