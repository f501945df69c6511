// The state of the client at a glance.
import { $, DASH, badge, card, copyButton, expand, fullMoment, getJson, h, list, mark, moment, mono, rawJson, render, showing, table } from "./dom.js";
import { recentTrouble } from "./logs.js";
import { expiry, routeBadge } from "./panels.js";

/** Kind and words of a badge from the reply of a health path. */
export function verdict(ok, body) {
  return ok ? "ok" : body.includes("pending") ? "wait" : "bad";
}

/** What was learned last, for the large line on top. */
let known = { health: { ok: true, text: "" }, ready: { ok: false, text: "pending" }, contact: {}, channels: [] };

/** Words for a control plane that is not reached, though that is no part of readiness; else nothing. */
function lostContact({ last_success: good, last_error: error, last_error_at: at }) {
  if (!error || (good && Date.parse(good) >= Date.parse(at))) return "";
  return `The control plane has not been reached ${good ? `since ${new Date(good).toISOString()}` : "yet"}: ${error}`;
}

/** Words for each channel that cannot serve, though others can. */
const broken = (channels) => channels.filter((channel) => channel.name !== "harpoon" && !channel.reason?.includes("poll_channels") && (!channel.enabled || channel.protocol?.running === false))
  .map(({ name, reason, protocol }) => `Channel ${name}: ${reason ?? protocol?.last_error ?? "its child does not run"}`);

/** The large line on top; `health` and `ready` are `{ok, text}`. */
export function showState(news) {
  known = { ...known, ...news };
  const { health, ready } = known;
  const also = [lostContact(known.contact), ...broken(known.channels)].filter(Boolean);
  const place = $("state");
  const unreachable = !health.ok && health.text === "error";
  const kind = unreachable ? "bad" : ready.ok && (ready.text !== "ready" || also.length) ? "warn" : verdict(ready.ok, ready.text);
  const title = unreachable ? "The client does not answer" : ready.ok ? "Ready" : kind === "wait" ? "Starting" : "Not ready";
  const words = unreachable ? "The process has ended, or its listener cannot be reached from here." : ready.text === "ready" ? "" : ready.text.replace(/^ready \((.*)\)$/s, "$1");
  const why = [words, ...(unreachable ? [] : also)].filter(Boolean).join("\n");
  const text = `${kind}|${title}|${why}`;
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.className = `state ${kind}`;
  place.replaceChildren(title, ...why.split("\n").map((line) => h("span", {}, line)));
}

const routeOf = (route) => (route ? badge(route.route_mode === "proxy" ? "ok" : "note", route.route_mode) : badge("note", "unknown"));

/** Which era a server speaks: the one in use, else those it is known to speak. */
function eraOf(protocol) {
  if (!protocol) return DASH;
  const spoken = ["legacy", "modern"].filter((era) => protocol[`speaks_${era}`] === "yes");
  const mode = protocol.mode ?? (spoken.length === 2 ? "dual" : spoken[0]);
  const server = [protocol.server_name, protocol.server_version].filter(Boolean).join(" ");
  return [[mode, protocol.protocol_version].filter(Boolean).join(" "), server && h("div", { class: "dim" }, server)];
}

function sessionOf({ protocol, transport_kind: transport }) {
  if (protocol?.handshake) return `handshake ${protocol.handshake}`;
  if (protocol?.bridge_sessions) return `${protocol.bridge_sessions} bridged`;
  return transport === "http-streamable" ? "kept by callers" : DASH;
}

function childOf(channel) {
  const protocol = channel.protocol;
  if (channel.transport_kind !== "stdio" || !protocol) return DASH;
  const pid = channel.details?.find(({ key }) => key === "pid")?.value;
  const state = protocol.running === false || pid === DASH ? badge("bad", "not running") : badge("ok", `running, pid ${pid}`);
  const count = protocol.restarts ?? 0;
  const restarts = count ? mark("warn", `${count} restart${count === 1 ? "" : "s"}`) : h("span", { class: "dim" }, "no restarts");
  return [state, " ", restarts, protocol.last_error && h("div", { class: "error" }, protocol.last_error)];
}

function channelRow(channel, routes) {
  const route = routes?.find(({ name }) => name === channel.name);
  const details = route && [
    ["proxy_mode", route.route_mode], ["proxy_id", mono(route.proxy_id)], ["proxy_source", route.proxy_source],
    ["proxy_url", mono(route.proxy_url)], ["proxy_target", mono(route.target)],
  ];
  const own = channel.details?.map(({ key, value }) => [key, mono(value)]);
  const probe = channel.probe_status && ["probe", [channel.probe_status, channel.probe_error].filter(Boolean).join(": ")];
  const protocol = Object.entries(channel.protocol ?? {}).map(([name, value]) => [name, String(value)]);
  const more = [...(details ?? []), ...(own ?? []), probe, ...protocol].filter(Boolean);
  return [
    h("b", {}, channel.name),
    channel.enabled ? badge(channel.probe_status === "pending" ? "wait" : channel.reason ? "warn" : "ok", "enabled") : badge(channel.name === "harpoon" ? "off" : "bad", "disabled"),
    [channel.server_kind, h("div", { class: "dim" }, channel.transport_kind ?? DASH)],
    eraOf(channel.protocol),
    childOf(channel),
    sessionOf(channel),
    channel.in_flight,
    channel.name === "harpoon" ? DASH : [routeOf(route), route?.proxy_id && h("div", { class: "dim mono" }, route.proxy_id.slice(0, 12))],
    channel.reason,
    more.length > 0 && expand(`channel-${channel.name}`, "Details", list(more)),
  ];
}
const COLUMNS = ["Channel", "State", "Server", "Era", "Child", "Session", "In flight", "Proxy", "Reason", "More"];

function client(status) {
  return card("Client", list([
    ["Version", status.version],
    ["Instance ID", mono(status.client_instance_id)],
    ["Uptime", moment(status.started_at, "for")],
    ["Health address", mono(status.health_listen_addr)],
  ]));
}

function controlPlane(status) {
  const route = status.control_plane_route;
  const tunnel = status.tunnel_metadata ?? {};
  const id = status.control_plane_tunnel_id;
  const contact = status.control_plane_contact ?? {};
  return card("Control plane", list([
    ["Base URL", mono(status.control_plane_base_url)],
    ["Tunnel ID", id && [mono(id), " ", copyButton("copy-tunnel", () => id)]],
    ["Tunnel name", tunnel.name ?? tunnel.Name],
    ["Description", tunnel.description ?? tunnel.Description],
    status.tunnel_metadata_error && ["Metadata", h("span", { class: "error" }, status.tunnel_metadata_error)],
    ["Last good poll", moment(contact.last_success)],
    ["Last error", contact.last_error ? [moment(contact.last_error_at), ": ", h("span", { class: "error" }, contact.last_error)] : "none"],
    ["Poll timeout", status.control_plane_poll_timeout],
    ["Max inflight", status.control_plane_max_inflight],
    ["Proxy mode", routeOf(route)],
    ["Proxy ID", mono(route?.proxy_id)],
    ["Proxy URL", route?.route_mode === "direct" ? "direct" : mono(route?.proxy_url)],
    ["Proxy source", route?.proxy_source],
  ]));
}

/** One line for each of the other tabs. */
function elsewhere({ system, oauth, harpoon }) {
  const link = (tab, text) => h("a", { href: `#${tab}`, "data-key": text }, text);
  const failed = (part) => h("span", { class: "error" }, `error: ${part.message}`);
  const proxied = system.proxy_health?.filter(({ route }) => route.route_mode === "proxy") ?? [];
  const certificates = (system.tls?.extra_bundle?.certificates ?? []).filter(({ not_after }) => not_after);
  certificates.sort((a, b) => a.not_after.localeCompare(b.not_after));
  const trust = system.tls?.system_trust?.enabled ? "system trust" : mark("bad", "no system trust");
  const discovery = oauth.error ? badge("bad", oauth.error) : oauth.pending ? badge("wait", "pending") : badge("ok", oauth.metadata_source === "not_advertised" ? "not advertised" : oauth.metadata_source ?? "nothing to discover");
  return card("Elsewhere", list([
    [link("system", "Proxies"), system instanceof Error ? failed(system) : proxied.length ? proxied.map((known) => [routeBadge(known), ` ${known.route.name} `]).flat() : "none in use"],
    [link("system", "Certificates"), system instanceof Error ? DASH : [trust, certificates.length > 0 && [`, ${certificates.length} of your own; first to expire `, expiry(certificates[0].not_after)]].flat(2)],
    [link("oauth", "OAuth"), oauth instanceof Error ? failed(oauth) : discovery],
    [link("harpoon", "Harpoon"), harpoon instanceof Error ? failed(harpoon) : harpoon.enabled ? badge("ok", "enabled") : [badge("off", "disabled"), ` ${harpoon.reason ?? ""}`]],
  ]));
}

export const showOverview = () => showing("overview-error", async () => {
  const quietly = (path) => getJson(path).catch((error) => error);
  const [status, system, oauth, harpoon] = await Promise.all([getJson("/api/status"), ...["system", "oauth", "harpoon/status"].map((name) => quietly(`/api/${name}`))]);
  const trouble = recentTrouble();
  showState({ contact: status.control_plane_contact ?? {}, channels: status.channels });
  // The uptime keeps itself up to date.
  const { uptime_seconds: _, ...lasting } = status;
  const data = [lasting, trouble, ...[system, oauth, harpoon].map((part) => part.message ?? part)];
  render($("overview"), data, () => [
    status.warnings?.length > 0 && card("Warnings", status.warnings.map((text) => h("p", { class: "warn" }, text))),
    card("Channels", table(COLUMNS, status.channels.map((channel) => channelRow(channel, status.mcp_routes)))),
    h("div", { class: "grid" }, controlPlane(status), h("div", {}, client(status), elsewhere({ system, oauth, harpoon }))),
    card("Recent warnings and errors", trouble.length ? h("ol", { class: "recent" }, trouble.map((text) => h("li", {}, text))) : h("p", { class: "dim" }, "None among the events on this page.")),
    h("div", { class: "card" }, rawJson("status-json", status)),
  ].filter(Boolean));
});
