"""One connector of the matrix in Python; see client.mjs.

usage: client.py mcp1|mcp2|mcp2-modern|fastmcp URL KIND
"""

import asyncio
import json
import sys

mode, url, kind = sys.argv[1:]
TOOLS = {
    "everything": {
        "echo": ("echo", {"message": "hé"}),
        "progress": ("trigger-long-running-operation", {"duration": 0.5, "steps": 3}),
    },
    "filesystem": {"echo": ("list_allowed_directories", {})},
    "plain": {"echo": ("echo", {"message": "hé"}), "progress": ("progress", {"steps": 3})},
}[kind]
seen = {}


def text_of(result):
    return result.content[0].text


def failed(result):
    return bool(getattr(result, "is_error", getattr(result, "isError", False)))


async def steps(list_tools, call):
    seen["list"] = [tool.name for tool in await list_tools()]
    seen["call"] = text_of(await call(*TOOLS["echo"]))
    try:
        seen["error"] = "result" if failed(await call("no-such-tool", {})) else "none"
    except Exception as error:  # noqa: BLE001: each library has its own
        detail = getattr(error, "error", None)
        seen["error"] = str(getattr(detail, "code", None) or type(error).__name__)
    if "progress" in TOOLS:
        events = []

        async def on_progress(progress, total=None, message=None):
            events.append(progress)

        await call(*TOOLS["progress"], on_progress)
        seen["progress"] = len(events)


async def mcp1():
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        seen["connect"] = (await session.initialize()).serverInfo.name

        async def list_tools():
            return (await session.list_tools()).tools

        async def call(name, arguments, on_progress=None):
            return await session.call_tool(name, arguments, progress_callback=on_progress)

        await steps(list_tools, call)


async def mcp2(how):
    from mcp import Client

    async with Client(url, mode=how) as client:
        info = getattr(client, "server_info", None)
        seen["connect"] = getattr(info, "name", None) or "connected"

        async def list_tools():
            return (await client.list_tools()).tools

        async def call(name, arguments, on_progress=None):
            return await client.call_tool(name, arguments, progress_callback=on_progress)

        await steps(list_tools, call)


async def fastmcp():
    from fastmcp import Client

    async with Client(url) as client:
        seen["connect"] = "connected"

        async def call(name, arguments, on_progress=None):
            return await client.call_tool(name, arguments, progress_handler=on_progress, raise_on_error=False)

        await steps(client.list_tools, call)


asyncio.run({"mcp1": mcp1, "mcp2": lambda: mcp2("auto"), "mcp2-modern": lambda: mcp2("2026-07-28"), "fastmcp": fastmcp}[mode]())
seen["disconnect"] = True
print(json.dumps(seen))
