"""Asks a real Prometheus, which scrapes the client, each query of the dashboard and the alerts."""

import contextlib
import http.client
import json
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.parse

from rig import ROOT, process, wait_for

RULES = ROOT / "packaging" / "prometheus" / "tunnel-client.rules.yml"
DASHBOARD = ROOT / "packaging" / "grafana" / "tunnel-client.json"
VARIABLES = {"$__rate_interval": "10s", "$job": ".*", "$instance": ".*", "${datasource}": "prometheus"}
# Panels of what this rig does not have: failures, targets of Harpoon.
MAY_BE_EMPTY = ("error", "refused", "drops", "unsupported", "harpoon", "failures", "restarts", "child_restarts")


def ask(port, path, **parameters):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", f"{path}?{urllib.parse.urlencode(parameters)}")
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply


def queries():
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            yield panel["title"], text


def run(made, record, check, expect):
    """The checks, or one line that says why there are none."""
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        record("SKIP", "the dashboard and the alerts", "prometheus is not installed")
        return
    with check("promtool accepts the alerts and what is scraped"):
        done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
        expect(done.returncode == 0, done.stdout + done.stderr)
        text = made.get("/metrics")[2]
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        # Names that existing dashboards rely on break its style rules; malformed text would end with 1.
        expect(done.returncode in (0, 3), done.stderr.decode())
    with contextlib.ExitStack() as stack:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = made.scratch / "prometheus"
        place.mkdir()
        config = place / "prometheus.yml"
        target = urllib.parse.urlsplit(made.url).netloc
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{json.dumps(str(RULES))}]\n"
            "scrape_configs:\n"
            f"  - {{job_name: tunnel-client, static_configs: [{{targets: [{json.dumps(target)}]}}]}}\n"
        )
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={place / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{port}"]
        log = pathlib.Path(place / "log")
        child = stack.enter_context(process(command, log))
        ready = lambda: ask(port, "/api/v1/query", query="up == 1")["data"]["result"]  # noqa: E731
        wait_for("prometheus", ready, child, log)
        some = lambda: ask(port, "/api/v1/query", query="rate(commands_polled_total[10s]) > 0")["data"]["result"]  # noqa: E731
        wait_for("a rate", some, child, log)
        time.sleep(3)
        with check("a real Prometheus answers every query of the dashboard"):
            for title, text in queries():
                reply = ask(port, "/api/v1/query", query=text)
                expect(reply["status"] == "success", f"{title}: {text}: {reply.get('error')}")
                empty = not reply["data"]["result"] and not any(word in text for word in MAY_BE_EMPTY)
                expect(not empty, f"{title}: nothing comes of {text}")
        with check("a real Prometheus evaluates every alert, and a healthy client raises none that is critical"):
            until = time.monotonic() + 30
            while True:
                groups = ask(port, "/api/v1/rules")["data"]["groups"]
                rules = [rule for group in groups for rule in group["rules"]]
                if rules and all(rule["health"] == "ok" for rule in rules) or time.monotonic() > until:
                    break
                time.sleep(0.2)
            expect(len(rules) >= 10, f"{len(rules)} rules")
            for rule in rules:
                expect(rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}")
                loud = rule["state"] != "inactive" and rule["labels"]["severity"] == "critical"
                expect(not loud, f"{rule['name']} is {rule['state']}")
