//! The admin API of a real client between a real engine and a scripted MCP server.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod documents;
mod level;
mod logs;
mod process;
mod streams;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use common::http::{self, Reply};
use common::mcp_server::McpServer;
use common::process::Client;
use common::{PATIENCE, address, engine, wait_polled};
use tunnel_client::server::Local;

/// A ready client, its control plane and its MCP server.
pub struct Site {
    // In this order: the client goes before what it talks to.
    pub client: Client,
    pub engine: Local,
    pub _server: McpServer,
}

/// A client with these further arguments, once it polls.
pub fn site(arguments: &[&str]) -> Site {
    site_with(arguments, &[])
}

/// The same with further environment variables.
pub fn site_with(arguments: &[&str], variables: &[(&str, &str)]) -> Site {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let url = server.url();
    let arguments = [&["--mcp.server-url", url.as_str()], arguments].concat();
    let client = Client::start_with(&engine.client_base_url(), &arguments, variables);
    wait_polled(&engine);
    Site { client, engine, _server: server }
}

impl Site {
    /// `host:port` of the local listener.
    pub fn address(&self) -> &str {
        address(self.client.health_url())
    }

    pub fn get(&self, path: &str) -> Reply {
        http::get(&format!("{}{path}", self.client.health_url())).expect("the listener answers")
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        http::request(self.address(), method, path, headers, body).expect("the listener answers")
    }

    /// Status and headers of the answer to a HEAD, which has no body.
    pub fn head(&self, path: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address()).expect("a connection");
        let text = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("a request");
        let mut reader = BufReader::new(stream);
        let mut reply = http::read_reply_head(&mut reader).expect("a head");
        reader.read_to_end(&mut reply.body).expect("the end");
        reply
    }

    /// The document at `path`.
    pub fn document(&self, path: &str) -> serde_json::Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"));
        assert!(reply.text().ends_with('\n'));
        reply.json()
    }

    /// Every event that the ring holds.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.document("/api/logs?limit=5000")["events"].as_array().expect("a list").clone()
    }
}

/// One message of an event stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub event: String,
    pub id: Option<u64>,
    pub data: serde_json::Value,
    /// A comment, in which case there is nothing else.
    pub comment: Option<String>,
}

/// An open event stream.
pub struct Events<S> {
    reader: BufReader<S>,
    buffer: Vec<u8>,
    pub head: Reply,
}

impl<S: Read + Write> Events<S> {
    /// Asks for the stream on a connection.
    pub fn open(mut connection: S, headers: &[(&str, &str)]) -> Events<S> {
        let mut text = "GET /api/logs/stream HTTP/1.1\r\nHost: localhost\r\n".to_owned();
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        connection.write_all(format!("{text}\r\n").as_bytes()).expect("a request");
        let mut reader = BufReader::new(connection);
        let head = http::read_reply_head(&mut reader).expect("a head");
        Events { reader, buffer: Vec::new(), head }
    }

    /// The next message; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(parsed(std::str::from_utf8(&block).expect("UTF-8").trim_end()));
            }
            let chunk = http::read_chunk(&mut self.reader).ok().flatten()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next message that is no comment.
    pub fn next_event(&mut self) -> Option<Message> {
        loop {
            let message = self.next()?;
            if message.comment.is_none() {
                return Some(message);
            }
        }
    }

    /// Skips to the first log event that `wanted` accepts.
    pub fn find(&mut self, wanted: impl Fn(&serde_json::Value) -> bool) -> Message {
        loop {
            let message = self.next_event().expect("the stream goes on");
            if message.event == "log" && wanted(&message.data) {
                return message;
            }
        }
    }
}

fn parsed(block: &str) -> Message {
    let mut message = Message::default();
    for line in block.lines() {
        match line.split_once(':') {
            Some(("", comment)) => message.comment = Some(comment.trim().to_owned()),
            Some(("event", name)) => message.event = name.trim().to_owned(),
            Some(("id", id)) => message.id = Some(id.trim().parse().expect("a number")),
            Some(("data", data)) => message.data = serde_json::from_str(data).expect("JSON"),
            _ => panic!("{block}"),
        }
    }
    message
}

impl Site {
    pub fn stream(&self, headers: &[(&str, &str)]) -> Events<TcpStream> {
        let connection = TcpStream::connect(self.address()).expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Events::open(connection, headers)
    }
}
