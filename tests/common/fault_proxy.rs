//! A proxy before the engine that breaks what it is told to break.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::http::{self, Request};

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It reaches the engine, the engine's reply the client.
    Forward,
    /// This reply instead.
    Reply(Vec<u8>),
    /// It reaches the engine; the reply is lost with the connection.
    LoseReply,
    /// The connection is closed without a reply.
    Close,
}

type Rule = dyn Fn(&Request) -> Action + Send + Sync;

/// The proxy; it ends with the test process.
pub struct FaultProxy {
    address: SocketAddr,
    rule: Arc<Mutex<Arc<Rule>>>,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
}

impl FaultProxy {
    /// Passes everything on to `engine` (`host:port`) until a rule is set.
    pub fn before(engine: &str) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let rule: Arc<Mutex<Arc<Rule>>> = Arc::new(Mutex::new(Arc::new(|_: &Request| Action::Forward)));
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let proxy = FaultProxy {
            address,
            rule: Arc::clone(&rule),
            seen: Arc::clone(&seen),
            connections: Arc::clone(&connections),
        };
        let engine = engine.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *connections.lock().expect("count") += 1;
                let (engine, rule, seen) = (engine.clone(), Arc::clone(&rule), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &engine, &rule, &seen));
            }
        });
        proxy
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `rule` decides.
    pub fn set(&self, rule: impl Fn(&Request) -> Action + Send + Sync + 'static) {
        *self.rule.lock().expect("rule") = Arc::new(rule);
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("requests").clone()
    }

    /// Requests so far whose path holds `part`.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|request| request.path.contains(part)).count()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("count")
    }
}

fn serve(stream: TcpStream, engine: &str, rule: &Mutex<Arc<Rule>>, seen: &Mutex<Vec<Request>>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let _ = writer.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    let mut upstream: Option<BufReader<TcpStream>> = None;
    while let Ok(Some(request)) = http::read_request(&mut reader) {
        seen.lock().expect("requests").push(request.clone());
        let rule = Arc::clone(&rule.lock().expect("rule"));
        match rule(&request) {
            Action::Forward => {
                let Some(reply) = forward(&mut upstream, engine, &request) else { return };
                if writer.write_all(&reply).is_err() {
                    return;
                }
            }
            Action::Reply(bytes) => {
                if writer.write_all(&bytes).is_err() {
                    return;
                }
            }
            Action::LoseReply => {
                forward(&mut upstream, engine, &request);
                return;
            }
            Action::Close => return,
        }
    }
}

fn forward(upstream: &mut Option<BufReader<TcpStream>>, engine: &str, request: &Request) -> Option<Vec<u8>> {
    if upstream.is_none() {
        let stream = TcpStream::connect(engine).ok()?;
        let _ = stream.set_nodelay(true);
        *upstream = Some(BufReader::new(stream));
    }
    let reader = upstream.as_mut()?;
    reader.get_mut().write_all(&request.to_bytes()).ok()?;
    let reply = http::read_reply(reader).ok()?;
    let mut head = format!("HTTP/1.1 {} Relayed\r\n", reply.status);
    for (name, value) in &reply.headers {
        if !name.eq_ignore_ascii_case("Transfer-Encoding") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&reply.body);
    Some(bytes)
}
