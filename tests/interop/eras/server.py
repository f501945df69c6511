"""A server of the matrix in Python: `echo` and `progress`.

usage: server.py mcp1|mcp2|fastmcp stdio|http PORT
"""

import asyncio
import sys

library, transport, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

if library == "mcp1":
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("matrix-server", host="127.0.0.1", port=port, log_level="WARNING")
elif library == "mcp2":
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("matrix-server", log_level="WARNING")
else:
    from fastmcp import Context, FastMCP

    server = FastMCP("matrix-server")


@server.tool()
def echo(message: str) -> str:
    return f"Echo: {message}"


@server.tool()
async def progress(steps: int, ctx: Context) -> str:
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await asyncio.sleep(0.03)
    return "done"


if transport == "stdio":
    server.run(**({"show_banner": False} if library == "fastmcp" else {}))
elif library == "mcp1":
    server.run("streamable-http")
elif library == "mcp2":
    server.run("streamable-http", host="127.0.0.1", port=port)
else:
    server.run("http", host="127.0.0.1", port=port, path="/mcp", show_banner=False)
