// A connector with the JavaScript SDK's OAuth client: discovers, registers, is sent to the authorization
// server, comes back with a code, gets a token and calls a tool.
//
// usage: node oauth_client.mjs URL
//        prints "AUTHORIZE <url>", reads the URL that the browser was sent back to from standard input,
//        and prints what came of it as one JSON line

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const sdk = (part) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${part}`)).href);
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const { UnauthorizedError } = await sdk("client/auth.js");

const url = new URL(process.argv[2]);
const kept = {};
const requests = [];
const fetchAndNote = async (target, options) => {
  const response = await fetch(target, options);
  requests.push(`${options?.method ?? "GET"} ${new URL(target.url ?? target).pathname} ${response.status}`);
  return response;
};
const provider = {
  redirectUrl: "http://127.0.0.1:1/callback",
  clientMetadata: {
    client_name: "interop",
    redirect_uris: ["http://127.0.0.1:1/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => "state-1",
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  redirectToAuthorization: (target) => void (kept.target = target),
};

const transport = () => new StreamableHTTPClientTransport(url, { authProvider: provider, fetch: fetchAndNote });
const first = transport();
try {
  await new Client({ name: "interop", version: "1.0.0" }).connect(first);
  throw new Error("the server asked for no authorization");
} catch (error) {
  if (!(error instanceof UnauthorizedError)) {
    console.error(requests.join("\n"));
    throw error;
  }
}
console.log(`AUTHORIZE ${kept.target.href}`);
const lines = createInterface({ input: process.stdin });
const back = new URL((await lines[Symbol.asyncIterator]().next()).value);
lines.close();
await first.finishAuth(back.searchParams.get("code"));

const client = new Client({ name: "interop", version: "1.0.0" });
await client.connect(transport());
const { tools } = await client.listTools();
const result = await client.callTool({ name: "who", arguments: {} });
await client.close();
const told = { tools: tools.map((tool) => tool.name), who: JSON.parse(result.content[0].text), requests };
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
