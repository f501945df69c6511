"""A little MCP server that puts the raw bytes of `params` into its result, so that a reader can see whether
anything on the way has touched them. Standard library only.

usage: raw_echo.py stdio
       raw_echo.py http      (prints its port, then serves POST /mcp as JSON and POST /sse as an event stream)
"""

import http.server
import re
import sys

NOTIFICATION = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":%s}}'
INITIALIZED = (
    b'{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}'
)
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def members(message):
    """The raw text of each top-level member of a JSON object."""
    found, depth, key, start = {}, 0, None, None
    for token in TOKEN.finditer(message):
        text = token.group()
        if depth == 1 and text == b":" and start is None:
            start = token.end()
        elif depth == 1 and text in (b",", b"}") and start is not None:
            found[key.decode()] = message[start : token.start()].strip()
            start = None
        elif depth == 1 and start is None:
            key = text[1:-1]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
    return found


def answer(message):
    """The raw response, or nothing for a notification; and the raw params."""
    parts = members(message)
    params = parts.get("params", b"null")
    if "id" not in parts:
        return None, params
    result = INITIALIZED if parts.get("method") == b'"initialize"' else b'{"echo":' + params + b"}"
    return b'{"jsonrpc":"2.0","id":' + parts["id"] + b',"result":' + result + b"}", params


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        response, params = answer(body)
        if response is None:
            self.reply(202, None, b"")
        elif self.path == "/sse":
            events = [NOTIFICATION % params, response]
            self.reply(200, "text/event-stream", b"".join(b"data: %s\n\n" % event for event in events))
        else:
            self.reply(200, "application/json", response)

    def do_DELETE(self):
        self.reply(204, None, None)

    def do_GET(self):
        self.reply(404 if "/.well-known/" in self.path else 405, None, b"")

    def reply(self, status, kind, body):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Mcp-Session-Id", "raw-session")
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 resets connections when many come at once.
    request_queue_size = 128


if sys.argv[1] == "stdio":
    for line in sys.stdin.buffer:
        response, _ = answer(line.strip())
        if response is not None:
            sys.stdout.buffer.write(response + b"\n")
            sys.stdout.buffer.flush()
else:
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
