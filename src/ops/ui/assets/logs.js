// The log: the last events, then each new one; what is kept here is not what the client keeps.
import { $, copyButton, get, getJson, h, showing } from "./dom.js";

const KEPT = 5000;
const TROUBLE = 8;
const LEVELS = ["", "DEBUG", "INFO", "WARN", "ERROR"];
const HINTS = [["request_id", "req"], ["tunnel_request_id", "ts"], ["session_id", "sess"], ["error"], ["retry_in_ms"], ["poll_timeout_ms"]];

/** Events as `{event, text, search, line}`, oldest first; `line` once it is on the page. */
const entries = [];
/** The newest warnings and errors, which no flood of other events pushes out. */
const trouble = [];
/** Lines that a pause keeps in view though their events are no longer kept. */
const frozen = [];
let lastSeq = 0;
/** The client that numbered the events. */
let instance;
/** Live events that came before the older ones were loaded. */
let early;
let paused = false;
let waiting = 0;
let scheduled = false;

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const head = ({ time, level, message, attrs }) => [`${new Date(time).toISOString()} ${level}`, attrs?.component && ` [${attrs.component}]`, ` ${message}`];
const hints = ({ attrs = {} }) => HINTS.filter(([name]) => (attrs[name] ?? "") !== "").map(([name, short = name]) => ` ${short}=${plain(attrs[name])}`).join("");

function add(event, live) {
  const id = event.attrs?.client_instance_id;
  // A new process counts anew.
  if (id && id !== instance) [instance, lastSeq] = [id, 0];
  if (event.seq <= lastSeq) return;
  lastSeq = event.seq;
  const text = head(event).join("") + hints(event);
  entries.push({ event, search: `${text} ${event.attrs ? JSON.stringify(event.attrs) : ""}`.toLowerCase() });
  if (LEVELS.indexOf(event.level) >= 3) trouble.push(text);
  if (trouble.length > TROUBLE) trouble.shift();
  if (paused && live) waiting += 1;
  while (entries.length > KEPT) {
    const old = entries.shift();
    if (old.line && paused) frozen.push(old);
    else old.line?.remove();
  }
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
  return h("div", { class: event.level }, h("i", {}, time.slice(0, 25)), h("b", {}, time.slice(25)), component, message, h("u", {}, hints(event)));
}

/** Whether a line is to be seen, and its attributes: these are made when they are asked for. */
function adjust(entry) {
  const { line, event } = entry;
  line.hidden = !wanted(entry);
  const attrs = line.querySelector(".attrs");
  const show = $("log-attrs").checked && event.attrs && !line.hidden;
  if (show && !attrs) line.append(h("i", { class: "attrs" }, `  ${Object.entries(event.attrs).map(([name, value]) => `${name}=${plain(value)}`).join(" ")}`));
  else if (!show && attrs) attrs.remove();
}

function wanted({ event, search }) {
  return LEVELS.indexOf(event.level) >= Number($("log-min").value) && search.includes($("log-filter").value.toLowerCase());
}

function draw() {
  const place = $("log");
  if (place.closest("[hidden]")) return;
  const fresh = document.createDocumentFragment();
  if (!paused) {
    for (const { line } of frozen.splice(0)) line.remove();
    for (const entry of entries) {
      if (entry.line) continue;
      entry.line = lineOf(entry);
      adjust(entry);
      fresh.append(entry.line);
    }
    place.append(fresh);
    if ($("log-scroll").checked) place.scrollTop = place.scrollHeight;
  }
  count();
}

/** Applies filter, level and attributes to the lines that are there. */
function refilter() {
  [...frozen, ...entries].filter(({ line }) => line).forEach(adjust);
  if ($("log-scroll").checked) $("log").scrollTop = $("log").scrollHeight;
  count();
}

function count() {
  const shown = entries.filter((entry) => entry.line && !entry.line.hidden).length;
  $("log-count").textContent = `${shown} of ${entries.length} events`;
  $("log-pause").textContent = !paused ? "Pause" : waiting ? `Resume (${waiting} new)` : "Resume";
}

/** They, newest first. */
export const recentTrouble = () => [...trouble].reverse();

function note(text) {
  $("log").append(h("div", { class: "WARN" }, h("b", {}, text)));
}

function follow() {
  const source = new EventSource("/api/logs/stream");
  const show = (connected) => {
    $("badge-logs").textContent = `Logs: ${connected ? "connected" : "connecting"}`;
    $("badge-logs").className = `badge ${connected ? "ok" : "wait"}`;
  };
  source.addEventListener("open", () => {
    show(true);
    load();
  });
  source.addEventListener("log", ({ data }) => {
    const event = JSON.parse(data);
    if (early) early.push(event);
    else add(event, true);
  });
  source.addEventListener("gap", ({ data }) => note(`${JSON.parse(data).dropped} events were dropped`));
  source.addEventListener("error", () => {
    show(false);
    // Refused for good (too many streams, another rule): try again ourselves.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

/** The last events and the level, now and whenever the stream is back: events that came meanwhile follow them. */
function load() {
  if (early) return;
  early = [];
  showing("log-error", async () => {
    const [{ events }, level] = await Promise.all([getJson("/api/logs?limit=500"), getJson("/api/log-level")]);
    (events ?? []).forEach((event) => add(event, false));
    showLevel(level);
  }).finally(() => {
    early.forEach((event) => add(event, true));
    early = null;
  });
}

function showLevel({ level, supported_levels: levels }) {
  const select = $("log-level");
  select.replaceChildren(...levels.map((name) => h("option", { selected: name === level }, name)));
  $("log-level-now").textContent = `runtime log level: ${level}`;
}

const applyLevel = () => showing("log-error", async () => {
  showLevel(await getJson("/api/log-level", { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ level: $("log-level").value }) }));
});

const download = () => showing("log-error", async () => {
  const [status, { level }] = await Promise.all([getJson("/api/status"), getJson("/api/log-level")]);
  const question = "Raw HTTP logging is on at level debug: the bundle may hold payloads of callers. Download it?";
  if (status.raw_http_logging_enabled && level === "debug" && !confirm(question)) return;
  $("log-download-state").textContent = "making the bundle…";
  try {
    const format = $("log-format").value;
    const reply = await get(`/api/logs/export?minutes=${$("log-minutes").value}${format && `&format=${format}`}`, { signal: null });
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
  $("log-curl").after(copyButton("log-curl", curl));
  $("log-pause").addEventListener("click", () => {
    paused = !paused;
    waiting = 0;
    draw();
  });
  $("log-clear").addEventListener("click", () => {
    entries.length = frozen.length = waiting = 0;
    $("log").replaceChildren();
    count();
  });
  $("log-level-apply").addEventListener("click", applyLevel);
  $("log-download").addEventListener("click", download);
  follow();
  load();
}

/** The tab became visible: lines that were added meanwhile can be scrolled to now. */
export const showLogs = () => draw();
