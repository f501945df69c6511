// A server of the matrix with @modelcontextprotocol/server 2.x: `echo` and `progress`.
//
// usage: node server.mjs stdio|http serve|reject
//        `reject` refuses connectors that open with a handshake. Over HTTP it prints its port.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";

const [transport, legacy] = process.argv.slice(2);
const require = createRequire(`${process.env.MATRIX_MODULES ?? process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { McpServer, createMcpHandler } = await load("@modelcontextprotocol/server");
const z = await load("zod");

function factory() {
  const server = new McpServer({ name: "matrix-server", version: "1.0.0" }, { capabilities: { tools: {} } });
  server.registerTool("echo", { inputSchema: z.object({ message: z.string() }) }, ({ message }) => ({
    content: [{ type: "text", text: `Echo: ${message}` }],
  }));
  server.registerTool("progress", { inputSchema: z.object({ steps: z.number() }) }, async ({ steps }, context) => {
    const meta = context.mcpReq?._meta ?? context._meta;
    const notify = context.mcpReq?.notify ?? context.sendNotification;
    for (let step = 1; step <= steps; step += 1) {
      if (meta?.progressToken !== undefined) {
        await notify({
          method: "notifications/progress",
          params: { progressToken: meta.progressToken, progress: step, total: steps },
        });
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    }
    return { content: [{ type: "text", text: "done" }] };
  });
  return server;
}

const options = legacy === "reject" ? { legacy: "reject" } : {};
if (transport === "stdio") {
  const { serveStdio } = await load("@modelcontextprotocol/server/stdio");
  await serveStdio(factory, options);
} else {
  const handler = createMcpHandler(factory, options);
  const listener = createServer(async (request, reply) => {
    // As behind any router: only the endpoint is here, and no authorization is advertised.
    if (request.url.startsWith("/.well-known/")) return reply.writeHead(404).end();
    const body = ["GET", "HEAD"].includes(request.method) ? undefined : Readable.toWeb(request);
    const headers = Object.entries(request.headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
    const url = `http://${request.headers.host}${request.url}`;
    const answer = await handler.fetch(new Request(url, { method: request.method, headers, body, duplex: "half" }));
    reply.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (answer.body) Readable.fromWeb(answer.body).pipe(reply);
    else reply.end();
  });
  listener.listen(0, "127.0.0.1", () => console.log(listener.address().port));
}
