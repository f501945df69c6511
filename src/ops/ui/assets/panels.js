// The tabs of OAuth, Harpoon and the system.
import { $, DASH, badge, card, expand, fullMoment, getJson, h, list, mark, moment, mono, rawJson, render, showing, table } from "./dom.js";

const headersOf = (headers) => headers && h("pre", {}, Object.entries(headers).flatMap(([name, values]) => [values].flat().map((value) => `${name}: ${value}`)).join("\n"));
const bodyOf = (holder) => (holder.body !== undefined ? h("pre", {}, JSON.stringify(holder.body, null, 2)) : holder.body_text ? h("pre", {}, holder.body_text) : null);

// --- OAuth

const KINDS = { fetched: "ok", error: "bad", tried: "warn", pending: "wait", skipped: "off" };
function statusOf(attempt, pending) {
  if (!attempt) return pending ? "pending" : "skipped";
  if (attempt.error && !attempt.mayFail) return "error";
  if (attempt.selected) return "fetched";
  return attempt.tried ? "tried" : pending ? "pending" : "skipped";
}

function oauthRows(oauth) {
  const metadata = oauth.metadata ?? {};
  const rows = [];
  const add = (step, attempt, url, extra = []) => {
    const status = statusOf(attempt, oauth.pending);
    const details = list([
      ["Status", status],
      attempt?.selected && ["Fetched at", fullMoment(metadata.fetched_at)],
      ["Source URL", mono(url)],
      ["Metadata source", oauth.metadata_source],
      ["HTTP status", attempt?.status_code ?? (attempt?.selected ? metadata.status_code : null)],
      ["Error", attempt?.error],
      ...extra,
    ]);
    const holder = attempt?.headers || attempt?.body !== undefined ? attempt : attempt?.selected && extra.length === 0 ? metadata : {};
    rows.push([rows.length + 1, step, mono(url), badge(KINDS[status], status),
      expand(`oauth-${rows.length}`, "Details", details, headersOf(holder.headers), bodyOf(holder))]);
  };
  const probe = oauth.www_authenticate_probe;
  for (const step of ["www_authenticate", "well_known_path", "well_known_root"]) {
    const attempts = (metadata.attempts ?? []).filter(({ source }) => source === step);
    const asked = step === "www_authenticate" && probe?.attempted ? { tried: true, error: probe.error, mayFail: true } : null;
    for (const attempt of attempts.length ? attempts : [asked]) add(step, attempt, attempt?.url ?? (step === "www_authenticate" ? probe?.url : null));
  }
  for (const attempt of metadata.auth_server_metadata?.attempts ?? []) {
    add([attempt.document, attempt.path_style].filter(Boolean).join(" "), attempt, attempt.url, [
      ["Warning", attempt.warning],
      ["Issuer", attempt.issuer_mismatch ? `${attempt.metadata_issuer}, not ${attempt.expected_issuer_url}` : attempt.metadata_issuer],
    ]);
  }
  return rows;
}

export const showOauth = () => showing("oauth-error", async () => {
  const oauth = await getJson("/api/oauth");
  const servers = oauth.authorization_server_count ?? 0;
  render($("oauth"), oauth, () => [
    card("Discovery", list([
      ["State", oauth.error ? badge("bad", "failed") : oauth.pending ? badge("wait", "pending") : badge("ok", "done")],
      oauth.error && ["Error", h("span", { class: "error" }, oauth.error)],
      ["Metadata source", oauth.metadata_source === "not_advertised" ? "the server advertises none" : oauth.metadata_source],
      ["Authorization servers", servers],
      ["Selected", mono(oauth.selected_authorization_server)],
      ["Candidates", oauth.discovery_urls?.map((url) => h("div", {}, mono(url)))],
      oauth.registration && ["Harpoon targets", [`${oauth.registration.admitted} allowed`, ...(oauth.registration.refusals ?? [])].map((line) => h("div", {}, line))],
      ["Mode", oauth.auth_server_metadata_mode],
    ])),
    card("Steps", table(["Priority", "Step", "URL", "Status", "More"], oauthRows(oauth))),
    h("div", { class: "card" }, rawJson("oauth-json", oauth)),
  ]);
});

// --- Harpoon

function bodyText(text, base64) {
  if (!text) return h("p", { class: "dim" }, "empty");
  let shown = text;
  try {
    if (!base64) shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: as it is.
  }
  return [base64 && h("p", { class: "dim" }, "Binary, shown as base64."), h("pre", {}, shown)];
}

function callMore(call, key) {
  const response = h("div", {});
  const transformed = call.response_body_transformed;
  const show = (original) => response.replaceChildren(...[bodyText(original ? call.response_body : transformed ?? call.response_body, call.body_is_base64 && (original || transformed == null))].flat().filter(Boolean));
  show(transformed == null);
  const toggle = transformed != null && h("button", { "data-key": `${key}-toggle`, click: (event) => {
    const original = event.currentTarget.textContent === "Show original";
    event.currentTarget.textContent = original ? "Show transformed" : "Show original";
    show(original);
  } }, "Show original");
  return expand(key, "Details",
    list([["Type", call.response_content_type], ["Error", call.error]]),
    call.request_body !== undefined && [h("h3", {}, "Request"), bodyText(call.request_body, call.body_is_base64), h("h3", {}, "Response"), toggle, response]);
}

export const showHarpoon = () => showing("harpoon-error", async () => {
  const status = await getJson("/api/harpoon/status");
  const label = $("harpoon-label").value.trim();
  const [targets, calls] = status.enabled
    ? await Promise.all([getJson("/api/harpoon/targets"), getJson(`/api/harpoon/calls?limit=100&label=${encodeURIComponent(label)}`)])
    : [{}, {}];
  if (label !== $("harpoon-label").value.trim()) return;
  render($("harpoon"), [status, targets, calls], () => {
    if (!status.enabled) return card("Harpoon", [badge("off", "disabled"), ` ${status.reason ?? ""}`]);
    const routes = status.proxy_routes ?? [];
    const proxied = routes.filter(({ route_mode }) => route_mode === "proxy").length;
    const kept = (targets.targets ?? []).filter((target) => !label || target.label === label);
    return [
      h("div", { class: "grid" },
        card("Harpoon", list([
          ["State", badge("ok", "enabled")],
          ["Payload capture", status.capture_payloads ? badge("warn", "on") : badge("ok", "off")],
          ["Proxy routes", `${proxied} through a proxy, ${routes.length - proxied} direct`],
        ])),
        card("Policy", list([
          ["Plain HTTP", status.allow_plaintext_http ? badge("warn", "allowed") : "refused"],
          ["Largest response", `${(status.max_response_bytes ?? 0).toLocaleString("en")} bytes`],
          ["Redirects", status.max_redirects],
        ]))),
      card("Targets", kept.length ? table(["Label", "URL", "Description", "Category", "Source", "Tags", "Included because"], kept.map((target) => [h("b", {}, target.label), mono(target.url), target.description, target.category, target.source, (target.tags ?? []).join(", "), target.inclusion_reason])) : "none"),
      card("Recent calls", calls.calls?.length ? table(["When", "Label", "Request", "Status", "Latency", "Bytes", "More"], calls.calls.map((call) => [
        moment(call.timestamp), call.label, [call.method, " ", mono(call.url)],
        call.error || call.status >= 400 || !call.status ? mark("bad", call.status || "failed") : mark("ok", call.status),
        `${call.latency_ms} ms`, `${call.req_bytes} → ${call.resp_bytes}`, callMore(call, `call-${call.timestamp}-${call.label}`),
      ])) : "none yet"),
      routes.length > 0 && card("Proxy routes", table(["Name", "Target", "Mode", "Proxy", "Source"], routes.map((route) => [route.name, mono(route.target), route.route_mode, mono(route.proxy_url), route.proxy_source]))),
    ].filter(Boolean);
  });
});

// --- System

const SOON_DAYS = 30;

/** When a certificate ends, with a mark for those that need care. */
export function expiry(time) {
  const days = Math.floor((Date.parse(time) - Date.now()) / 86400000);
  const text = days < 0 ? `expired ${-days} d ago` : `in ${days} d`;
  return h("span", { class: days < 0 ? "bad" : days < SOON_DAYS ? "warn" : "ok", title: time }, text);
}

const REACH = { healthy: ["ok", "reachable"], unhealthy: ["bad", "unreachable"], direct: ["ok", "direct"] };
export function routeBadge(known) {
  const [kind, text] = known.health_state === "unhealthy" && !known.last_check ? ["wait", "unknown"] : REACH[known.health_state] ?? ["wait", "unknown"];
  return badge(kind, text);
}

function reachRow(known) {
  const { route, history = [] } = known;
  const lastError = history.findLast?.(({ success }) => !success);
  const words = lastError && [lastError.error_phase, lastError.error_reason, lastError.http_status_category].filter(Boolean).join(" / ");
  const checks = [...history].reverse().map((check) => [
    moment(check.timestamp), check.success ? mark("ok", "good") : mark("bad", [check.error_phase, check.error_reason, check.http_status_category].filter(Boolean).join(" / ")),
    check.tcp_duration_ms == null ? DASH : `${check.tcp_duration_ms} ms`, check.connect_duration_ms == null ? DASH : `${check.connect_duration_ms} ms`,
  ]);
  return [
    [h("b", {}, route.name), h("div", { class: "dim" }, route.kind)], mono(route.target), routeBadge(known),
    [mono(route.proxy_url), route.proxy_url && h("div", { class: "dim" }, route.proxy_source)],
    moment(known.last_check), moment(known.last_success), words,
    history.length > 0 && expand(`route-${route.kind}-${route.name}`, "History", table(["When", "Result", "TCP", "CONNECT"], checks)),
  ];
}

export const showSystem = () => showing("system-error", async () => {
  const system = await getJson("/api/system");
  const { system_trust: trust = {}, extra_bundle: extra } = system.tls ?? {};
  render($("system"), system, () => [
    card("Route reachability", system.proxy_health?.length ? table(["Route", "Target", "State", "Proxy", "Last check", "Last success", "Last error", "Checks"], system.proxy_health.map(reachRow)) : "no routes"),
    h("div", { class: "grid" },
      card("System trust", list([
        ["State", trust.enabled ? badge("ok", "enabled") : badge("bad", "unavailable")],
        ["Source", trust.source],
        ["Paths", trust.source_paths?.map((path) => h("div", {}, mono(path)))],
        trust.fallback_note && ["Note", trust.fallback_note],
      ])),
      card("Probe of channel main", list([["Result", system.main_channel_probe_status], system.main_channel_probe_error && ["Error", h("span", { class: "error" }, system.main_channel_probe_error)]]))),
    card("Extra CA bundle", extra ? [
      list([["Path", mono(extra.path)], ["Certificates", extra.cert_count], ["Unreadable", extra.parse_errors ? mark("bad", extra.parse_errors) : 0]]),
      extra.certificates?.length > 0 && table(["Certificate", "Issuer", "Expires", "Valid", "State", "Id"], extra.certificates.map((certificate) => [
        certificate.subject_cn ?? certificate.name, certificate.issuer_cn, certificate.not_after && expiry(certificate.not_after),
        certificate.not_after && h("code", {}, `${certificate.not_before ?? ""} – ${certificate.not_after}`),
        certificate.parse_status === "ok" ? mark("ok", "ok") : mark("bad", certificate.parse_status), mono(certificate.cert_id?.slice(0, 16)),
      ])),
    ].filter(Boolean) : "none configured"),
    system.proxy_identity_map?.length > 0 && card("Proxy identities", table(["ID", "URL", "Source"], system.proxy_identity_map.map((proxy) => [mono(proxy.proxy_id), mono(proxy.proxy_url), proxy.proxy_source]))),
    h("div", { class: "card" }, rawJson("system-json", system)),
  ].filter(Boolean));
});

export function startPanels() {
  for (const [id, show] of [["oauth", showOauth], ["harpoon", showHarpoon], ["system", showSystem]]) $(`${id}-refresh`).addEventListener("click", show);
  for (const kind of ["input", "change"]) $("harpoon-label").addEventListener(kind, showHarpoon);
}
