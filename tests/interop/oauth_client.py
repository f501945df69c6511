"""A connector with the Python SDK's OAuth client: discovers, registers, is sent to the authorization server,
comes back with a code, gets a token and calls a tool.

usage: python oauth_client.py URL
       prints "AUTHORIZE <url>", reads the URL that the browser was sent back to from standard input, and
       prints what came of it as one JSON line
"""

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamablehttp_client
from mcp.shared.auth import OAuthClientMetadata

REDIRECT = "http://127.0.0.1:1/callback"
requests = []


class Storage:
    """Keeps everything for as long as the process lives."""

    tokens = None
    client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def to_browser(url):
    print(f"AUTHORIZE {url}", flush=True)


async def from_browser():
    line = await asyncio.to_thread(sys.stdin.readline)
    query = parse_qs(urlsplit(line.strip()).query)
    return query["code"][0], query.get("state", [None])[0]


def noting(headers=None, timeout=None, auth=None):
    async def note(response):
        requests.append(f"{response.request.method} {response.request.url.path} {response.status_code}")

    return httpx.AsyncClient(headers=headers, timeout=timeout, auth=auth, event_hooks={"response": [note]})


async def main():
    provider = OAuthClientProvider(
        server_url=sys.argv[1],
        client_metadata=OAuthClientMetadata(
            client_name="interop",
            redirect_uris=[REDIRECT],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            token_endpoint_auth_method="none",
        ),
        storage=Storage(),
        redirect_handler=to_browser,
        callback_handler=from_browser,
    )
    connection = streamablehttp_client(sys.argv[1], auth=provider, httpx_client_factory=noting)
    async with connection as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = await session.list_tools()
        result = await session.call_tool("who", {})
        who = json.loads(result.content[0].text)
        told = {"tools": [tool.name for tool in tools.tools], "who": who, "requests": requests}
        print(json.dumps(told), flush=True)


try:
    asyncio.run(main())
except BaseException:
    print("\n".join(requests), file=sys.stderr)
    raise
