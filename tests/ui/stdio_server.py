#!/usr/bin/env python3
"""A small MCP server over stdio: echoes; the tool `exit` ends it, `slow` takes half a second."""

import json
import sys
import time

VERSION = "2025-06-18"

for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    name = message.get("params", {}).get("name")
    if message["method"] == "initialize":
        result = {"protocolVersion": VERSION, "capabilities": {"tools": {}}, "serverInfo": {"name": "ui-tools", "version": "1.2"}}
    elif message["method"] == "tools/list":
        result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    elif name == "exit":
        sys.exit(3)
    else:
        if name == "slow":
            time.sleep(0.5)
        result = {"content": [{"type": "text", "text": json.dumps(message.get("params", {}).get("arguments"))}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
