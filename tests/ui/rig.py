"""A control plane, a client with servers of both kinds and a proxy, and callers that keep them busy."""

import contextlib
import http.client
import json
import os
import pathlib
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TUNNEL_ID = "tunnel_0123456789abcdef0123456789abcdef"
PATIENCE = 30
MARKUP = "<img src=x onerror=document.title='gone'>"


def binary(name, given):
    """The binary that was given, or the newest build."""
    if given:
        return str(pathlib.Path(given).resolve())
    built = [ROOT / "target" / profile / name for profile in ("release", "debug")]
    built = [path for path in built if path.exists()]
    if not built:
        sys.exit(f"{name} is not built: run `cargo build`, or name it with --client and --server")
    return str(max(built, key=lambda path: path.stat().st_mtime))


@contextlib.contextmanager
def process(command, log, **more):
    """A child that is ended with SIGTERM, its output in the file `log`."""
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **more)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(what, look, child=None, log=None):
    """Looks until something true comes back."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if child is not None and child.poll() is not None:
            raise RuntimeError(f"{what}: the process has ended: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            if found := look():
                return found
        time.sleep(0.02)
    raise RuntimeError(f"{what}: nothing after {PATIENCE} s")


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy: `CONNECT`, and requests in absolute form for as long as their connection lasts."""

    daemon_threads = allow_reuse_address = True

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
            if method == b"CONNECT":
                place, first = target.decode(), b""
            else:
                url = urllib.parse.urlsplit(target.decode())
                place, first = url.netloc, head.replace(b"http://" + url.netloc.encode(), b"", 1)
            host, _, port = place.partition(":")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port or 80))) as there:
                if method == b"CONNECT":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=copy, args=(there.makefile("rb", 0), self.connection), daemon=True)
                back.start()
                there.sendall(first)
                prefix = b"http://" + place.encode()
                while chunk := self.rfile.read1(65536):
                    there.sendall(chunk.replace(prefix, b""))


def copy(source, sink):
    with contextlib.suppress(OSError):
        while chunk := source.read(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy():
    """Gives its port."""
    with Proxy(("127.0.0.1", 0), Proxy.Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def certificates(directory):
    """A bundle of certificates of which one has expired and one soon will."""
    bundle = directory / "bundle.pem"
    texts = []
    for name, days in (("Site Root CA", "3650"), ("Old Intermediate CA", "14")):
        key, out = directory / "key.pem", directory / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(key), "-out", str(out), "-days", days, "-subj", f"/CN={name}"]
        subprocess.run(command, check=True, capture_output=True)
        texts.append(out.read_text())
    bundle.write_text("".join(texts))
    return bundle


class Rig:
    """What was started."""

    def __init__(self, url, connector, scratch, child):
        self.url, self.connector, self.scratch, self.child = url, connector, scratch, child
        self.stopping = threading.Event()
        self.threads = []

    def call(self, channel="main", tool="echo", **arguments):
        """Status, body and headers of one `tools/call`."""
        params = {"name": tool, "arguments": arguments}
        return self.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, channel)

    def send(self, message, channel="main", headers=None):
        url = urllib.parse.urlsplit(self.connector)
        path = url.path if channel == "main" else f"{url.path}/{channel}"
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"} | (headers or {})
        connection.request("POST", path, json.dumps(message), headers)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, body, dict(reply.getheaders())

    def call_target(self):
        """A session with the embedded caller, and one call of its target."""
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "ui", "version": "1"}}
        self.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}, "harpoon")
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, "harpoon")
        return self.call("harpoon", "call_target", label="metadata", method="GET")

    def keep_busy(self, channels, callers=3):
        """Callers that go on until the rig ends."""

        def session(channel):
            """Headers of a session of its own, where the server wants one."""
            hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "ui", "version": "1"}}
            message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
            headers = self.send(message, channel)[2]
            named = {name: value for name, value in headers.items() if name.lower() == "mcp-session-id"}
            return named | {"Mcp-Protocol-Version": "2025-06-18"}

        def busy(number):
            count, sessions = 0, {}
            while not self.stopping.wait(0.1 * (1 + number)):
                count += 1
                with contextlib.suppress(OSError, http.client.HTTPException):
                    channel = channels[count % len(channels)]
                    method = "tools/list" if count % 5 == 0 else "tools/call"
                    params = {} if method == "tools/list" else {"name": "echo", "arguments": {"message": "hello"}}
                    if channel not in sessions:
                        sessions[channel] = session(channel)
                    message = {"jsonrpc": "2.0", "id": count, "method": method, "params": params}
                    self.send(message, channel, sessions[channel])

        for number in range(callers):
            thread = threading.Thread(target=busy, args=(number,), daemon=True)
            thread.start()
            self.threads.append(thread)

    def get(self, path):
        """Status, headers and body of the local listener's answer."""
        url = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, dict(reply.getheaders()), body


@contextlib.contextmanager
def rig(client, server, more=(), environment=None, query=""):
    """Everything, ready; `more` are further arguments of the client, `query` follows its MCP URL."""
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ui-rig-")))
        inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment = inherited | {"UI_KEY": "sk-ui-test-0123456789", "HOME": str(scratch)} | (environment or {})
        served, health, stub = scratch / "server-url", scratch / "health-url", scratch / "stub.log"
        command = [server, "--listen", "127.0.0.1:0", "--tunnel-id", TUNNEL_ID, "--api-key", "env:UI_KEY"]
        log = scratch / "server.log"
        child = stack.enter_context(process([*command, "--url-file", str(served)], log, env=environment))
        control_plane = wait_for("tunnel-server", served.read_text, child, log).strip()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [client, "dev", "mcp-stub", "--listen-addr", f"127.0.0.1:{port}"]
        child = stack.enter_context(process(command, stub, env=environment))
        wait_for("the MCP server", lambda: socket.create_connection(("127.0.0.1", port)), child, stub).close()
        proxy_port = stack.enter_context(proxy())
        tools = shlex.join([sys.executable, str(HERE / "stdio_server.py")])
        log = scratch / "client.log"
        command = [client, "run", "--control-plane.base-url", control_plane, "--control-plane.tunnel-id", TUNNEL_ID]
        command += ["--control-plane.api-key", "env:UI_KEY", "--health.listen-addr", "127.0.0.1:0"]
        command += ["--control-plane.http-proxy", f"http://proxy-user:proxy-password@127.0.0.1:{proxy_port}"]
        command += ["--health.url-file", str(health), "--mcp.server-url", f"http://127.0.0.1:{port}/mcp{query}"]
        command += ["--mcp.command", f"channel=tools,command={tools}", "--ca-bundle", str(certificates(scratch))]
        target = f"label=metadata,url=http://127.0.0.1:{port}/.well-known/oauth-protected-resource/mcp"
        target += f",desc={MARKUP}"
        command += ["--harpoon.target", target, "--harpoon.allow-plaintext-http", "--harpoon.capture-payloads"]
        command += ["--proxy.check-interval", "2s", *more]
        child = stack.enter_context(process(command, log, env=environment))
        url = wait_for("tunnel-client", health.read_text, child, log)
        made = Rig(url, f"{control_plane}/v1/mcp/{TUNNEL_ID}", scratch, child)

        def again():
            """The same client once more, at the same address."""
            place = command.index("--health.listen-addr") + 1
            command[place] = urllib.parse.urlsplit(url).netloc
            made.child = stack.enter_context(process(command, scratch / "again.log", env=environment))

        made.again = again
        wait_for("/readyz", lambda: made.get("/readyz")[0] == 200, child, log)
        try:
            yield made
        finally:
            made.stopping.set()
            for thread in made.threads:
                thread.join(PATIENCE)
