// What /metrics tells: parsed, sampled over the last minutes, and drawn.
import { $, DASH, badge, card, expand, fullMoment, get, h, list, moment, render, showing, span, tick } from "./dom.js";

const EVERY_MS = 2000;
const KEPT_MS = 5 * 60 * 1000;
const LATENCY = "command_end_to_end_latency_milliseconds";
/** Quantiles are taken over so many samples: ten seconds. */
const WINDOW = 5;

/** Series by family: `[{labels, value}]`. */
function parse(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    if (!families.has(found[1])) families.set(found[1], []);
    families.get(found[1]).push({ labels, value: Number(found[3]) });
  }
  return families;
}

/** A family by its name, else by the end of one, else by a part of one. */
function family(families, name) {
  const names = [...families.keys()];
  const found = names.find((n) => n === name) ?? names.find((n) => n.endsWith(name)) ?? names.find((n) => n.includes(name));
  return families.get(found) ?? [];
}
const sum = (series, keep = () => true) => series.filter(keep).reduce((total, { value }) => total + value, 0);
const first = (families, name) => family(families, name)[0]?.value;

function sample(families) {
  const answered = (s) => s.labels.latency_type === "poll_to_response";
  const counts = (families.get(`${LATENCY}_count`) ?? []).filter(answered);
  const buckets = new Map();
  for (const { labels, value } of (families.get(`${LATENCY}_bucket`) ?? []).filter(answered)) {
    const le = Number(labels.le.replace("+Inf", "Infinity"));
    buckets.set(le, (buckets.get(le) ?? 0) + value);
  }
  return {
    at: Date.now(),
    calls: sum(counts),
    failed: sum(counts, (s) => Number(s.labels.tunnel_service_status) >= 400),
    buckets: [...buckets].sort((a, b) => a[0] - b[0]),
    queue: first(families, "commands_queue_length"),
    capacity: first(families, "commands_queue_capacity"),
    busy: first(families, "dispatcher_worker_pool_occupancy"),
    workers: first(families, "dispatcher_worker_pool_capacity"),
    cycles: first(families, "commands_poll_cycles_total"),
    pollErrors: sum(family(families, "commands_poll_errors_total")),
    lastPoll: first(families, "commands_poll_last_successful_timestamp_seconds"),
    started: first(families, "process_start_time_seconds"),
    memory: first(families, "process_resident_memory_bytes"),
    cpu: first(families, "process_cpu_seconds_total"),
    descriptors: first(families, "process_open_fds"),
  };
}

/** The value below which the share `q` of what was observed between two samples lies; null without any. */
function quantile(q, from, to) {
  const before = new Map(from.buckets);
  const grown = to.buckets.map(([le, count]) => [le, count - (before.get(le) ?? 0)]);
  const total = grown.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let [low, below] = [0, 0];
  for (const [le, count] of grown) {
    if (count >= q * total && count > below) {
      return le === Infinity ? low : low + ((le - low) * (q * total - below)) / (count - below);
    }
    [low, below] = [le, count];
  }
  return low;
}

const samples = [];
export const latest = () => samples.at(-1);

/** Takes a sample; only while the page can be seen. */
async function take() {
  if (document.hidden) return;
  const now = sample(parse(await (await get("/metrics")).text()));
  // Another process answers now: its counters have begun anew.
  if (samples.length && (samples.at(-1).started !== now.started || samples.at(-1).calls > now.calls)) samples.length = 0;
  samples.push(now);
  while (samples[0].at < now.at - KEPT_MS) samples.shift();
  $("charts").classList.remove("stale");
  draw();
}

const digits = (value) => (value === 0 || value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
export const milliseconds = (value) => (value == null ? DASH : value <= 5 ? "≤ 5 ms" : value >= 1000 ? `${digits(value / 1000)} s` : `${digits(value)} ms`);
const bytes = (value) => (value == null ? DASH : `${digits(value / 1048576)} MiB`);
const whole = (value) => (value == null ? DASH : value.toLocaleString("en"));

/** Points `[at, value]` of what `of` makes of each sample and the one `back` before it. */
function series(back, of) {
  return samples.slice(1).map((now, index) => [now.at, of(samples[Math.max(0, index + 1 - back)], now)]);
}
const rate = (what) => (from, to) => ((to[what] - from[what]) * 1000) / (to.at - from.at);

const svg = (tag, props) => {
  const element = document.createElementNS("http" + "://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  return element;
};
const WIDTH = 300;
const HEIGHT = 80;

/** A line for each of `lines`, the first one solid, the second dashed. */
function chart(label, lines, unit) {
  const end = samples.at(-1)?.at ?? Date.now();
  const values = lines.flat().map(([, value]) => value ?? 0);
  const highest = Math.max(...values, 0);
  const top = nice(highest);
  const peak = highest > 0 && `peak ${unit(highest)}`;
  const x = (at) => WIDTH - ((end - at) * WIDTH) / KEPT_MS;
  const y = (value) => HEIGHT - 2 - (value * (HEIGHT - 6)) / top;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  picture.append(svg("line", { class: "rule", x1: 0, x2: WIDTH, y1: y(top), y2: y(top) }));
  lines.forEach((points, index) => {
    let [path, area, from, last] = ["", "", null, -Infinity];
    const close = () => { if (from != null) area += `L${x(last).toFixed(1)} ${HEIGHT}L${from} ${HEIGHT}Z`; };
    for (const [at, value] of points) {
      if (value == null) continue;
      const place = `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      if (at - last > 4 * EVERY_MS) {
        close();
        path += `M${place}h.1`;
        area += `M${place}`;
        from = x(at).toFixed(1);
      } else {
        path += `L${place}`;
        area += `L${place}`;
      }
      last = at;
    }
    close();
    if (index === 0) picture.append(svg("path", { class: "area", d: area }));
    picture.append(svg("path", { class: index ? "second" : "first", d: path }));
  });
  return h("figure", { class: "chart" }, h("span", { class: "top" }, unit(top).replace(/\.0+(?=\D|$)/, "")), picture, h("figcaption", {}, h("span", {}, "5 min ago"), h("span", {}, peak), h("span", {}, samples.length < 2 ? "collecting…" : "now")));
}

/** The next of 1, 2, 5, 10, … */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5].find((step) => value <= step * power) ?? 10);
}

const gauge = (label, value, max) => [
  h("div", {}, `${label} `, h("b", {}, `${whole(value)} / ${whole(max)}`)),
  h("progress", { value: value ?? 0, max: max || 1, "aria-label": `${label}: ${whole(value)} of ${whole(max)}` }),
];

function draw() {
  const place = $("charts");
  if (place.closest("[hidden]")) return;
  const now = samples.at(-1);
  const calls = series(1, rate("calls"));
  const recent = samples[Math.max(0, samples.length - 1 - WINDOW)];
  const speed = samples.length > 1 ? rate("calls")(recent, now) : null;
  const p50 = series(WINDOW, (from, to) => quantile(0.5, from, to));
  const p95 = series(WINDOW, (from, to) => quantile(0.95, from, to));
  const [q50, q95] = samples.length > 1 ? [quantile(0.5, recent, now), quantile(0.95, recent, now)] : [];
  const perSecond = (value) => `${digits(value)}/s`;
  const speedText = speed == null ? DASH : digits(speed);
  const [done, failed] = ["calls", "failed"].map((what) => now[what] - samples[0][what]);
  const share = done ? (failed * 100) / done : 0;
  const failing = failed ? badge("warn", `${share < 0.1 ? "< 0.1" : digits(share)} % failed`) : badge("ok", "no errors");
  const ago = now.lastPoll ? moment(now.lastPoll * 1000) : DASH;
  const late = !now.lastPoll || Date.now() / 1000 - now.lastPoll > 120;
  place.replaceChildren(
    card("Calls per second",
      h("div", { class: "big" }, speedText, h("small", {}, ` now · ${whole(now.calls)} answered `), h("small", {}, failing)),
      chart(`Calls per second over the last five minutes; now ${speedText}`, [calls], perSecond)),
    card("Latency, from poll to delivered answer",
      h("div", { class: "big" }, milliseconds(q50), h("small", {}, " p50 · "), milliseconds(q95), h("small", {}, " p95")),
      chart(`Latency over the last five minutes; now median ${milliseconds(q50)}, 95th percentile ${milliseconds(q95)}`, [p50, p95], milliseconds),
      h("div", { class: "dim" }, h("span", { class: "key" }), "p50 ", h("span", { class: "key second" }), "p95")),
    card("Queue and workers",
      gauge("Queue", now.queue, now.capacity),
      gauge("Workers busy", now.busy, now.workers),
      list([
        ["Last good poll", late ? [badge("bad", "late"), " ", ago] : ago],
        ["Polls", `${whole(now.cycles)} started, ${whole(now.pollErrors)} failed`],
        ["Memory", `${bytes(now.memory)} · ${whole(now.descriptors)} descriptors`],
      ])),
  );
  tick();
}

/** The tab with the figures and the text. */
export const showMetrics = () => showing("metrics-error", async () => {
  const text = await (await get("/metrics")).text();
  const now = sample(parse(text));
  render($("metrics"), text, () => [
    card("Now", list([
      ["Last poll success", now.lastPoll ? fullMoment(now.lastPoll * 1000) : DASH],
      ["Poll cycles", whole(now.cycles)],
      ["Queue", `${whole(now.queue)} / ${whole(now.capacity)}`],
      ["Worker pool", `${whole(now.busy)} / ${whole(now.workers)}`],
      ["Poll errors", whole(now.pollErrors)],
      ["Answered", `${whole(now.calls)}, ${whole(now.failed)} of them with an error`],
      ["Latency", `p50 ${milliseconds(quantile(0.5, { buckets: [] }, now))}, p95 ${milliseconds(quantile(0.95, { buckets: [] }, now))} since the start`],
      ["CPU time", now.cpu != null && `${digits(now.cpu)} s`],
      ["Running for", now.started && span(Date.now() / 1000 - now.started)],
    ])),
    h("div", { class: "card" }, expand("metrics-text", "Raw text", h("pre", {}, text))),
  ]);
});

export function startMetrics() {
  $("metrics-refresh").addEventListener("click", showMetrics);
  const again = () => take().catch(() => $("charts").classList.add("stale")).finally(() => setTimeout(again, EVERY_MS));
  again();
}
export const redraw = () => samples.length && draw();
