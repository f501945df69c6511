// Elements, requests and words. All server data goes through `h`, which makes text of it, never markup.

export const $ = (id) => document.getElementById(id);
export const DASH = "—";

/** An element; `props` are attributes, functions among them listeners. Children that say nothing are left out. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child != null && child !== false));
  return element;
}

/** The reply of a GET that no cache may answer; throws with the server's words, or when there is none. */
export async function get(path, options) {
  const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(9000), ...options });
  if (!reply.ok) throw new Error((await reply.text()).trim() || `HTTP ${reply.status}`);
  return reply;
}
export const getJson = async (path, options) => (await get(path, options)).json();

/** Runs `load` and shows its failure in the element `id`, or clears it. */
export async function showing(id, load) {
  try {
    await load();
    $(id).textContent = "";
  } catch (error) {
    $(id).textContent = `error: ${error.message}`;
  }
}

const opened = new Set();

/** A part that opens; it stays open over the next `render` of its place. */
export function expand(key, summary, ...body) {
  const remember = (event) => opened[event.target.open ? "add" : "delete"](key);
  return h("details", { open: opened.has(key), toggle: remember }, h("summary", { "data-key": key }, summary), body);
}

const shown = new WeakMap();

/** Replaces what is in `place`, unless `data` is what it shows already; keeps the keyboard's place. */
export function render(place, data, make) {
  const text = JSON.stringify(data);
  if (shown.get(place) === text) return;
  shown.set(place, text);
  const key = place.contains(document.activeElement) && document.activeElement.dataset.key;
  place.replaceChildren(...[make(data)].flat());
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  tick();
}

export const card = (title, ...body) => h("section", { class: "card" }, h("h2", {}, title), body);
export const badge = (kind, text) => h("span", { class: `badge ${kind}` }, text);
export const mark = (kind, text) => h("span", { class: kind }, text);
/** What a place shows of a value, or of several: a dash if that is nothing. */
function content(value) {
  const kept = [value].flat(9).filter((part) => part != null && part !== false && part !== "");
  return kept.length ? kept : DASH;
}
export const mono = (value) => (value == null || value === "" ? DASH : h("code", {}, String(value)));
export const list = (pairs) => h("dl", {}, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, content(value))]));
export const rawJson = (key, data) => expand(key, "Raw JSON", h("pre", {}, JSON.stringify(data, null, 2)));

/** A table whose cells carry the name of their column, for narrow screens. What opens takes the width below its row. */
export function table(columns, rows) {
  const cells = (row) => row.map((cell, at) => {
    const shown = content(cell);
    return h("td", { "data-name": columns[at], class: [shown].flat().every((part) => part === DASH) ? "none" : null }, h("div", {}, shown));
  });
  const lines = (row) => (row.at(-1)?.tagName === "DETAILS"
    ? [h("tr", {}, cells(row.slice(0, -1))), h("tr", { class: "more" }, h("td", { colspan: columns.length }, row.at(-1)))]
    : h("tr", {}, cells(row)));
  return h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows.map(lines)));
}

export function copyButton(key, text) {
  const copy = async (event) => {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed here";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  return h("button", { "data-key": key, click: copy }, "Copy");
}

/** `1d 2h 3m 4s` */
export function span(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) {
    if (rest >= size || parts.length) parts.push(`${Math.floor(rest / size)}${unit}`);
    rest %= size;
  }
  return [...parts, `${rest}s`].join(" ");
}

const known = (time) => time && !String(time).startsWith("0001-");
const iso = (time) => new Date(time).toISOString();

/** A moment: ISO time and a distance that keeps itself up to date. */
export function moment(time, form = "ago") {
  if (!known(time)) return DASH;
  const at = iso(time);
  return h("time", { datetime: at, "data-form": form, title: at });
}
/** The same with the ISO time in front. */
export const fullMoment = (time) => (known(time) ? [h("code", {}, iso(time)), " · ", moment(time)] : DASH);

export function tick() {
  for (const element of document.querySelectorAll("time[data-form]")) {
    const seconds = (Date.now() - Date.parse(element.dateTime)) / 1000;
    const text = element.dataset.form === "for" ? span(seconds) : seconds < 0 ? `in ${span(-seconds)}` : `${span(seconds)} ago`;
    if (element.textContent !== text) element.textContent = text;
  }
}
