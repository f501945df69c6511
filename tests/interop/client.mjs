// Runs one scenario with the JavaScript SDK and prints what came back as one JSON document.
//
// usage: node client.mjs everything|filesystem stdio COMMAND… | http URL
//        (for `filesystem`, the allowed directory is in $SCENARIO_DIRECTORY)
//
// The runner runs it twice, directly and through the tunnel, and compares the documents. The SDK is
// resolved from the working directory, where the runner has installed it.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const sdk = (part) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${part}`)).href);
const { Client } = await sdk("client/index.js");
const { StdioClientTransport } = await sdk("client/stdio.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");

const [scenario, kind, ...target] = process.argv.slice(2);
const steps = [];
// Times and places differ between two runs of the same call.
const mask = (value) =>
  JSON.parse(JSON.stringify(value), (key, inner) => {
    if (typeof inner !== "string") return inner;
    if (key === "blob") inner = Buffer.from(inner, "base64").toString("utf8");
    return inner.replace(/created at .*/, "created at TIME");
  });

/** One step: its result, or its error as the SDK reports it. */
async function step(name, call) {
  try {
    steps.push({ name, result: mask((await call()) ?? null) });
  } catch (error) {
    steps.push({ name, error: { code: error.code ?? null, message: String(error.message) } });
  }
}

const client = new Client({ name: "interop", version: "1.0.0" }, { capabilities: {} });
const transport =
  kind === "stdio"
    ? new StdioClientTransport({ command: target[0], args: target.slice(1), stderr: "ignore" })
    : new StreamableHTTPClientTransport(new URL(target[0]));
await client.connect(transport);
const tool = (name, args = {}, options) => client.callTool({ name, arguments: args }, undefined, options);

await step("initialize", () => ({
  server: client.getServerVersion(),
  capabilities: client.getServerCapabilities(),
  instructions: client.getInstructions() ?? null,
}));
await step("ping", () => client.ping());
await step("tools/list", () => client.listTools());

if (scenario === "everything") {
  await step("call: text", () => tool("echo", { message: "hello" }));
  await step("call: non-ASCII text", () =>
    tool("echo", { message: "Grüße, 世界 🌍 \u2028 e\u0301 \ud83d\ude00 \"quoted\" \\ / \t\n\u0001" }));
  await step("call: 256 KiB", () => tool("echo", { message: "0123456789abcdef".repeat(16384) }));
  await step("call: numbers", () => tool("get-sum", { a: 0.1, b: 1e21 }));
  await step("call: image", () => tool("get-tiny-image"));
  await step("call: structured content", () => tool("get-structured-content", { location: "Chicago" }));
  await step("call: annotations", () =>
    tool("get-annotated-message", { messageType: "error", includeImage: true }));
  await step("call: resource reference", () =>
    tool("get-resource-reference", { resourceType: "Blob", resourceId: 7 }));
  await step("call: resource links", () => tool("get-resource-links", { count: 4 }));
  await step("call: wrong arguments", () => tool("get-sum", { a: "one" }));
  await step("call: unknown tool", () => tool("no-such-tool"));
  await step("call: progress before the result", async () => {
    const seen = [];
    const times = [];
    const result = await tool("trigger-long-running-operation", { duration: 1, steps: 4 }, {
      onprogress: (progress) => {
        seen.push(progress);
        times.push(Date.now());
      },
    });
    // The SDK may drop a notification that it reads together with the result: leave the last one out.
    const early = seen.filter(({ progress, total }) => progress < total);
    // Buffered until the end they would all arrive at once.
    return { early, result, spread: times[early.length - 1] - times[0] > 300 };
  });
  await step("call: 20 at once", async () => {
    const calls = Array.from({ length: 20 }, (_, number) => tool("echo", { message: `number ${number}` }));
    return Promise.all(calls);
  });
  await step("resources/list", () => client.listResources());
  await step("resources/templates/list", () => client.listResourceTemplates());
  await step("resources/read: text", () => client.readResource({ uri: "demo://resource/dynamic/text/3" }));
  await step("resources/read: blob", () => client.readResource({ uri: "demo://resource/dynamic/blob/4" }));
  await step("resources/read: every listed one", async () => {
    const { resources } = await client.listResources();
    return Promise.all(resources.map(({ uri }) => client.readResource({ uri })));
  });
  await step("resources/read: unknown", () => client.readResource({ uri: "demo://nothing" }));
  await step("resources/subscribe", () =>
    client.subscribeResource({ uri: "demo://resource/dynamic/text/3" }));
  await step("resources/unsubscribe", () =>
    client.unsubscribeResource({ uri: "demo://resource/dynamic/text/3" }));
  await step("prompts/list", () => client.listPrompts());
  await step("prompts/get", () => client.getPrompt({ name: "simple-prompt" }));
  await step("prompts/get: arguments", () =>
    client.getPrompt({ name: "args-prompt", arguments: { city: "Zürich", state: "ZH" } }));
  await step("prompts/get: missing argument", () => client.getPrompt({ name: "args-prompt", arguments: {} }));
  await step("completion/complete: prompt", () =>
    client.complete({
      ref: { type: "ref/prompt", name: "completable-prompt" },
      argument: { name: "name", value: "" },
      context: { arguments: { department: "Sales" } },
    }));
  await step("completion/complete: resource", () =>
    client.complete({
      ref: { type: "ref/resource", uri: "demo://resource/dynamic/text/{resourceId}" },
      argument: { name: "resourceId", value: "12" },
    }));
  await step("logging/setLevel", () => client.setLoggingLevel("error"));
  for (const feature of ["sampling", "elicitation", "roots"]) {
    steps.push({ name: feature, skipped: "the tunnel carries no requests from server to client" });
  }
} else {
  const root = process.env.SCENARIO_DIRECTORY;
  await step("call: allowed directories", () => tool("list_allowed_directories"));
  await step("call: list", () => tool("list_directory", { path: root }));
  await step("call: read text", () => tool("read_text_file", { path: `${root}/grüße.txt` }));
  await step("call: read part", () => tool("read_text_file", { path: `${root}/lines.txt`, head: 3 }));
  await step("call: read several", () =>
    tool("read_multiple_files", { paths: [`${root}/grüße.txt`, `${root}/missing.txt`] }));
  await step("call: read media", () => tool("read_media_file", { path: `${root}/dot.png` }));
  await step("call: write", () => tool("write_file", { path: `${root}/out/new.txt`, content: "wrote ✓\n" }));
  await step("call: read back", () => tool("read_text_file", { path: `${root}/out/new.txt` }));
  await step("call: edit, dry run", () =>
    tool("edit_file", {
      path: `${root}/lines.txt`,
      edits: [{ oldText: "line 5", newText: "fifth line" }],
      dryRun: true,
    }));
  await step("call: tree", () => tool("directory_tree", { path: root }));
  await step("call: search", () => tool("search_files", { path: root, pattern: "**/*.txt" }));
  await step("call: outside the allowed directory", () => tool("read_text_file", { path: "/etc/hostname" }));
}

if (kind === "http") {
  await transport.terminateSession().catch((error) => {
    steps.push({ name: "session end", error: { code: error.code ?? null, message: String(error.message) } });
  });
}
await client.close();
process.stdout.write(`${JSON.stringify({ steps })}\n`, () => process.exit(0));
