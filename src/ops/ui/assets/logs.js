// The log: the last events, then each new one; what is kept here is not what the client keeps.
import { $, get, getJson, h } from "./dom.js";

const KEPT = 5000;
const LEVELS = ["", "DEBUG", "INFO", "WARN", "ERROR"];
const HINTS = [["request_id", "req"], ["tunnel_request_id", "ts"], ["session_id", "sess"], ["error", "error"], ["retry_in_ms", "retry_in_ms"], ["poll_timeout_ms", "poll_timeout_ms"]];

/** Events as `{event, text, search, line}`, oldest first; `line` once it is on the page. */
const entries = [];
let lastSeq = 0;
/** Live events that came before the older ones were loaded. */
let early = [];
let paused = false;
let waiting = 0;
let scheduled = false;

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const head = ({ time, level, message, attrs }) => [`${new Date(time).toISOString()} ${level.padEnd(5)}`, attrs?.component && ` [${attrs.component}]`, ` ${message}`];
const hints = ({ attrs = {} }) => HINTS.filter(([name]) => attrs[name] !== undefined).map(([name, short]) => ` ${short}=${plain(attrs[name])}`).join("");

function add(event, live) {
  if (event.seq <= lastSeq) return;
  lastSeq = event.seq;
  const text = head(event).join("") + hints(event);
  entries.push({ event, search: `${text} ${event.attrs ? JSON.stringify(event.attrs) : ""}`.toLowerCase() });
  if (paused && live) waiting += 1;
  while (entries.length > KEPT) entries.shift().line?.remove();
  schedule();
}

/** Draws once a frame at most, however many events arrive. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

function lineOf({ event }) {
  const [time, component, message] = head(event);
  const attrs = event.attrs && h("i", { class: "attrs" }, `  ${Object.entries(event.attrs).map(([name, value]) => `${name}=${plain(value)}`).join(" ")}`);
  return h("div", { class: event.level }, h("i", {}, time.slice(0, 25)), h("b", {}, time.slice(25)), component, message, h("u", {}, hints(event)), attrs);
}

function wanted({ event, search }) {
  return LEVELS.indexOf(event.level) >= Number($("log-min").value) && search.includes($("log-filter").value.toLowerCase());
}

function draw() {
  const place = $("log");
  const fresh = document.createDocumentFragment();
  if (!paused) {
    for (const entry of entries) {
      if (entry.line) continue;
      entry.line = lineOf(entry);
      if (!wanted(entry)) entry.line.hidden = true;
      entry.line.lastElementChild.hidden = entry.event.attrs && !$("log-attrs").checked;
      fresh.append(entry.line);
    }
    place.append(fresh);
    if ($("log-scroll").checked) place.scrollTop = place.scrollHeight;
  }
  count();
}

/** Applies filter, level and attributes to the lines that are there. */
function refilter() {
  for (const entry of entries) {
    if (!entry.line) continue;
    entry.line.hidden = !wanted(entry);
    if (entry.event.attrs) entry.line.lastElementChild.hidden = !$("log-attrs").checked;
  }
  if ($("log-scroll").checked) $("log").scrollTop = $("log").scrollHeight;
  count();
}

function count() {
  const shown = entries.filter((entry) => entry.line && !entry.line.hidden).length;
  $("log-count").textContent = `${shown} of ${entries.length} events`;
  $("log-pause").textContent = !paused ? "Pause" : waiting ? `Resume (${waiting} new)` : "Resume";
}

/** The newest warnings and errors, newest first. */
export function recentTrouble() {
  return entries.filter(({ event }) => LEVELS.indexOf(event.level) >= 3).slice(-6).reverse().map(({ event }) => head(event).filter(Boolean).join("") + hints(event));
}

function note(text) {
  const line = h("div", { class: "WARN" }, h("b", {}, text));
  $("log").append(line);
}

function follow() {
  const source = new EventSource("/api/logs/stream");
  const show = (connected) => {
    $("badge-logs").textContent = `Logs: ${connected ? "connected" : "connecting"}`;
    $("badge-logs").className = `badge ${connected ? "ok" : "wait"}`;
  };
  source.addEventListener("open", () => show(true));
  source.addEventListener("log", ({ data }) => {
    const event = JSON.parse(data);
    if (early) return early.push(event);
    // A smaller number comes from a new process.
    if (event.seq < lastSeq - KEPT || (event.seq === 1 && lastSeq > 1)) lastSeq = 0;
    add(event, true);
  });
  source.addEventListener("gap", ({ data }) => note(`${JSON.parse(data).dropped} events were dropped`));
  source.addEventListener("error", () => {
    show(false);
    // Refused for good (too many streams, another rule): try again ourselves.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

function showLevel({ level, supported_levels: levels }) {
  const select = $("log-level");
  select.replaceChildren(...levels.map((name) => h("option", { selected: name === level }, name)));
  $("log-level-now").textContent = `runtime log level: ${level}`;
}

async function failing(work) {
  try {
    await work();
    $("log-error").textContent = "";
  } catch (error) {
    $("log-error").textContent = `error: ${error.message}`;
  }
}

const applyLevel = () => failing(async () => {
  showLevel(await getJson("/api/log-level", { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ level: $("log-level").value }) }));
});

const download = () => failing(async () => {
  const [status, { level }] = await Promise.all([getJson("/api/status"), getJson("/api/log-level")]);
  const question = "Raw HTTP logging is on at level debug: the bundle may hold payloads of callers. Download it?";
  if (status.raw_http_logging_enabled && level === "debug" && !confirm(question)) return;
  $("log-download-state").textContent = "making the bundle…";
  try {
    const format = $("log-format").value;
    const reply = await get(`/api/logs/export?minutes=${$("log-minutes").value}${format && `&format=${format}`}`);
    const name = /filename="([^"]+)"/.exec(reply.headers.get("Content-Disposition"))?.[1] ?? "tunnel-client-logs.tar.gz";
    const url = URL.createObjectURL(await reply.blob());
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    $("log-download-state").textContent = name;
  } catch (error) {
    $("log-download-state").textContent = "";
    throw error;
  }
});

export function startLogs() {
  const curl = () => `curl -fsSJO "${location.origin}/api/logs/export?minutes=${$("log-minutes").value}${$("log-format").value && `&format=${$("log-format").value}`}"`;
  const showCurl = () => ($("log-curl").textContent = curl());
  showCurl();
  for (const id of ["log-minutes", "log-format"]) $(id).addEventListener("change", showCurl);
  for (const id of ["log-filter", "log-min", "log-attrs", "log-scroll"]) $(id).addEventListener("input", refilter);
  $("log-curl-copy").addEventListener("click", () => navigator.clipboard.writeText(curl()).catch(() => {}));
  $("log-pause").addEventListener("click", () => {
    paused = !paused;
    waiting = 0;
    draw();
  });
  $("log-clear").addEventListener("click", () => {
    entries.length = 0;
    waiting = 0;
    $("log").replaceChildren();
    count();
  });
  $("log-level-apply").addEventListener("click", applyLevel);
  $("log-download").addEventListener("click", download);
  // First the stream, so that no event falls between the two.
  follow();
  failing(async () => {
    const [{ events }, level] = await Promise.all([getJson("/api/logs?limit=500"), getJson("/api/log-level")]);
    (events ?? []).forEach((event) => add(event, false));
    showLevel(level);
  }).finally(() => {
    early.forEach((event) => add(event, true));
    early = null;
  });
}

/** The tab became visible: lines that were added meanwhile can be scrolled to now. */
export const showLogs = () => draw();
