// A protected MCP server and the authorization server that guards it, each real: the JavaScript SDK's and
// oidc-provider. Prints where both are as one JSON line, then serves until it is ended.
//
// usage: node oauth_site.mjs apart|together
//        apart: the authorization server is on an origin of its own; together: on the MCP server's

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: Provider } = await load("oidc-provider");
const { McpServer } = await load("@modelcontextprotocol/sdk/server/mcp.js");
const { StreamableHTTPServerTransport } = await load("@modelcontextprotocol/sdk/server/streamableHttp.js");

const together = process.argv[2] === "together";
const METADATA = "/.well-known/oauth-protected-resource/mcp";

/** A server on a port of its own whose requests are answered once `handle` is set. */
const listen = () =>
  new Promise((resolve) => {
    const site = { handle: undefined, base: "" };
    const server = createServer((request, response) => site.handle(request, response));
    server.listen(0, "127.0.0.1", () => {
      site.base = `http://127.0.0.1:${server.address().port}`;
      resolve(site);
    });
  });

const mcp = await listen();
const authorization = together ? mcp : await listen();

const provider = new Provider(authorization.base, {
  // RFC 7591 registration, RFC 8707 resources, RFC 7636 PKCE: what MCP clients use.
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: "tools",
        audience: resource,
        accessTokenFormat: "opaque",
        accessTokenTTL: 600,
      }),
    },
  },
  scopes: ["openid", "offline_access", "tools"],
  clientDefaults: { grant_types: ["authorization_code", "refresh_token"], response_types: ["code"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  pkce: { required: () => true },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, Interaction: 600, Session: 600 },
  cookies: { keys: ["not a secret: the site lives for one test"] },
});
provider.on("server_error", (_, error) => console.error(error));
const authorize = provider.callback();

/** The token of a request, if it is good for this server. */
async function token(request) {
  const [scheme, value] = (request.headers.authorization ?? "").split(" ");
  if (scheme?.toLowerCase() !== "bearer" || !value) return undefined;
  return provider.AccessToken.find(value);
}

async function serve(request, response) {
  const found = await token(request);
  if (!found) {
    const challenge = `Bearer realm="interop", resource_metadata="${mcp.base}${METADATA}", scope="tools"`;
    response.writeHead(401, { "WWW-Authenticate": challenge }).end();
    return;
  }
  const server = new McpServer({ name: "protected", version: "1.0.0" });
  server.registerTool("who", { description: "Says whose token came and what it is for" }, () => ({
    content: [{ type: "text", text: JSON.stringify({ account: found.accountId, audience: found.aud }) }],
  }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => void server.close());
  await server.connect(transport);
  await transport.handleRequest(request, response);
}

mcp.handle = (request, response) => {
  const path = request.url.split("?")[0];
  if (path === "/mcp") {
    serve(request, response).catch((error) => {
      console.error(error);
      response.writeHead(500).end();
    });
  } else if (path === METADATA) {
    const metadata = {
      resource: `${mcp.base}/mcp`,
      authorization_servers: [authorization.base],
      scopes_supported: ["tools"],
      bearer_methods_supported: ["header"],
    };
    response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(metadata));
  } else if (together) {
    authorize(request, response);
  } else {
    response.writeHead(404).end();
  }
};
if (!together) authorization.handle = authorize;

console.log(JSON.stringify({ mcp: `${mcp.base}/mcp`, issuer: authorization.base }));
