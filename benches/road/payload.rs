//! What travels: the calls, and the answers that an echo server must give to them.

use std::sync::LazyLock;

use crate::wire;

/// Progress notifications before each result of the streaming case.
pub(crate) const NOTIFICATIONS: u8 = 3;

/// No text is longer.
const TEXT_BYTES_MAX: usize = 64 << 10;
static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    b"abcdefghijklmnopqrstuvwxyz0123456789".iter().copied().cycle().take(TEXT_BYTES_MAX).collect()
});

/// The head of the text of call `seq` of `slot`, and the filler that follows it; `bytes` together.
fn text(slot: usize, seq: u64, bytes: usize) -> (String, &'static [u8]) {
    let head = format!("t-{slot}-{seq}-");
    let filler = bytes.saturating_sub(head.len()).min(TEXT_BYTES_MAX);
    (head, &FILLER[..filler])
}

/// The JSON-RPC id of call `seq` of `slot`.
pub(crate) fn id(slot: usize, seq: u64) -> String {
    (seq * 1000 + slot as u64).to_string()
}

/// A call of the tool `name` as the connector sent it.
pub(crate) fn call(name: &str, slot: usize, seq: u64, bytes: usize) -> Vec<u8> {
    let (head, filler) = text(slot, seq, bytes);
    let open = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"{name}","arguments":{{"text":"{head}"#,
        id(slot, seq)
    );
    [open.as_bytes(), filler, br#""}}}"#].concat()
}

/// The echo server's answer to a request; `None` for a notification.
pub(crate) fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let method = wire::text_after(request, b"\"method\":\"")?;
    if method.starts_with(b"notifications/") {
        return None;
    }
    let id = wire::raw_id(request)?;
    let result: Vec<u8> = match method {
        b"tools/call" => {
            let from = wire::find_near_ends(request, b"\"text\":\"")? + 8;
            let to = request.iter().rposition(|&byte| byte == b'"')?;
            let text = request.get(from..to)?;
            [br#"{"content":[{"type":"text","text":""#, text, br#""}]}"#].concat()
        }
        b"initialize" => br#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}"#.to_vec(),
        b"tools/list" => br#"{"tools":[]}"#.to_vec(),
        b"ping" => b"{}".to_vec(),
        _ => {
            let error = br#","error":{"code":-32601,"message":"Method not found"}}"#;
            return Some([br#"{"jsonrpc":"2.0","id":"#, id, error].concat());
        }
    };
    Some([br#"{"jsonrpc":"2.0","id":"#, id, br#","result":"#, &result, b"}"].concat())
}

/// A progress notification, `step` counted from 1.
pub(crate) fn progress(id: &[u8], step: u8) -> Vec<u8> {
    let step = step + b'0';
    [
        br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#,
        id,
        br#","progress":"#,
        &[step],
        br#","total":3}}"#,
    ]
    .concat()
}

/// Whether `body` carries the echo of call `seq` of `slot`, with its id.
pub(crate) fn is_echo(body: &[u8], slot: usize, seq: u64, bytes: usize) -> bool {
    let (head, filler) = text(slot, seq, bytes);
    let text = wire::find_near_ends(body, b"\"text\":\"").map(|at| &body[at + 8..]);
    let rest = text.and_then(|text| text.strip_prefix(head.as_bytes())?.strip_prefix(filler));
    has_id(body, slot, seq) && rest.is_some_and(|rest| rest.starts_with(b"\""))
}

/// Whether the JSON-RPC message in `body` has the id of call `seq` of `slot`.
pub(crate) fn has_id(body: &[u8], slot: usize, seq: u64) -> bool {
    wire::raw_id(body) == Some(id(slot, seq).as_bytes())
}
