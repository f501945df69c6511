"""Runs one scenario with the Python SDK and prints what came back as one JSON document.

usage: python client.py everything|filesystem stdio COMMAND... | http URL
       (for `filesystem`, the allowed directory is in $SCENARIO_DIRECTORY)

The runner runs it twice, directly and through the tunnel, and compares the documents.
"""

import asyncio
import base64
import json
import os
import re
import sys
import time
from contextlib import AsyncExitStack

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from mcp.shared.exceptions import McpError

steps = []


def mask(value, key=None):
    """Times differ between two runs of the same call."""
    if isinstance(value, dict):
        return {name: mask(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [mask(inner) for inner in value]
    if isinstance(value, str):
        if key == "blob":
            value = base64.b64decode(value).decode("utf-8", "replace")
        return re.sub(r"created at .*", "created at TIME", value)
    return value


def plain(value):
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return value


async def step(name, call):
    """One step: its result, or its error as the SDK reports it."""
    try:
        steps.append({"name": name, "result": mask(plain(await call))})
    except McpError as error:
        steps.append({"name": name, "error": {"code": error.error.code, "message": error.error.message}})
    except Exception as error:
        steps.append({"name": name, "error": {"code": None, "message": f"{type(error).__name__}: {error}"}})


async def long_call(session):
    seen, times = [], []

    async def on_progress(progress, total, message):
        seen.append([progress, total, message])
        times.append(time.monotonic())

    arguments = {"duration": 1, "steps": 4}
    result = await session.call_tool(
        "trigger-long-running-operation", arguments, progress_callback=on_progress
    )
    # Buffered until the end they would all arrive at once.
    return {"seen": seen, "result": plain(result), "spread": times[-1] - times[0] > 0.4}


async def everything(session):
    call = session.call_tool
    text = "Grüße, 世界 🌍 \u2028 e\u0301 😀 \"quoted\" \\ / \t\n\u0001"
    await step("call: text", call("echo", {"message": "hello"}))
    await step("call: non-ASCII text", call("echo", {"message": text}))
    await step("call: 256 KiB", call("echo", {"message": "0123456789abcdef" * 16384}))
    await step("call: numbers", call("get-sum", {"a": 0.1, "b": 1e21}))
    await step("call: image", call("get-tiny-image", {}))
    await step("call: structured content", call("get-structured-content", {"location": "Chicago"}))
    await step("call: wrong arguments", call("get-sum", {"a": "one"}))
    await step("call: unknown tool", call("no-such-tool", {}))
    await step("call: progress before the result", long_call(session))
    await step(
        "call: 20 at once",
        asyncio.gather(*(call("echo", {"message": f"number {number}"}) for number in range(20))),
    )
    await step("resources/list", session.list_resources())
    await step("resources/templates/list", session.list_resource_templates())
    await step("resources/read: text", session.read_resource("demo://resource/dynamic/text/3"))
    await step("resources/read: blob", session.read_resource("demo://resource/dynamic/blob/4"))
    await step("resources/read: unknown", session.read_resource("demo://nothing"))
    await step("prompts/list", session.list_prompts())
    await step("prompts/get", session.get_prompt("simple-prompt"))
    arguments = {"city": "Zürich", "state": "ZH"}
    await step("prompts/get: arguments", session.get_prompt("args-prompt", arguments))
    await step("prompts/get: missing argument", session.get_prompt("args-prompt", {}))
    await step(
        "completion/complete: prompt",
        session.complete(
            types.PromptReference(type="ref/prompt", name="completable-prompt"),
            {"name": "name", "value": ""},
            {"department": "Sales"},
        ),
    )
    await step("logging/setLevel", session.set_logging_level("error"))


async def filesystem(session):
    call, root = session.call_tool, os.environ["SCENARIO_DIRECTORY"]
    await step("call: list", call("list_directory", {"path": root}))
    await step("call: read text", call("read_text_file", {"path": f"{root}/grüße.txt"}))
    await step("call: read media", call("read_media_file", {"path": f"{root}/dot.png"}))
    await step("call: write", call("write_file", {"path": f"{root}/out/py.txt", "content": "wrote ✓\n"}))
    await step("call: read back", call("read_text_file", {"path": f"{root}/out/py.txt"}))
    await step("call: tree", call("directory_tree", {"path": root}))
    await step("call: outside the allowed directory", call("read_text_file", {"path": "/etc/hostname"}))


async def main():
    scenario, kind, *target = sys.argv[1:]
    async with AsyncExitStack() as stack:
        if kind == "stdio":
            parameters = StdioServerParameters(command=target[0], args=target[1:])
            quiet = stack.enter_context(open(os.devnull, "w"))
            streams = await stack.enter_async_context(stdio_client(parameters, errlog=quiet))
        else:
            streams = await stack.enter_async_context(streamablehttp_client(target[0]))
        session = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
        await step("initialize", session.initialize())
        await step("ping", session.send_ping())
        await step("tools/list", session.list_tools())
        await (everything if scenario == "everything" else filesystem)(session)
    print(json.dumps({"steps": steps}))


asyncio.run(main())
