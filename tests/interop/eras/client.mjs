// One connector of the matrix in JavaScript: connects, lists tools, calls one, sees an error, sees progress,
// disconnects. Prints what it saw as JSON.
//
// usage: node client.mjs sdk1|legacy|auto|modern URL KIND
//        KIND names the server's tools; packages are resolved from the working directory.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [mode, url, kind] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

let client, transport;
if (mode === "sdk1") {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
  client = new Client({ name: "matrix", version: "1.0.0" }, { capabilities: {} });
  transport = new StreamableHTTPClientTransport(new URL(url));
} else {
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  const versionNegotiation = { mode: mode === "modern" ? { pin: "2026-07-28" } : mode };
  client = new Client({ name: "matrix", version: "1.0.0" }, { capabilities: {}, versionNegotiation });
  transport = new StreamableHTTPClientTransport(new URL(url));
}

const tools = {
  everything: { echo: ["echo", { message: "hé" }], progress: ["trigger-long-running-operation", { duration: 0.5, steps: 3 }] },
  filesystem: { echo: ["list_allowed_directories", {}] },
  plain: { echo: ["echo", { message: "hé" }], progress: ["progress", { steps: 3 }] },
}[kind];
const callTool = ([name, args], options) =>
  mode === "sdk1"
    ? client.callTool({ name, arguments: args }, undefined, options)
    : client.callTool({ name, arguments: args }, options);
const seen = {};

await client.connect(transport);
seen.connect = client.getServerVersion()?.name ?? "connected";
seen.list = (await client.listTools()).tools.map((tool) => tool.name);
seen.call = (await callTool(tools.echo)).content[0].text;
try {
  const result = await callTool(["no-such-tool", {}]);
  seen.error = result.isError ? "result" : "none";
} catch (error) {
  seen.error = String(error.code ?? "exception");
}
if (tools.progress) {
  let events = 0;
  await callTool(tools.progress, { onprogress: () => (events += 1) });
  seen.progress = events;
}
await client.close();
seen.disconnect = true;
console.log(JSON.stringify(seen));
