// The frame: tabs, badges, theme, and what is asked how often.
import { $, tick } from "./dom.js";
import { showLogs, startLogs } from "./logs.js";
import { redraw, showMetrics, startMetrics } from "./metrics.js";
import { showOverview, showState, verdict } from "./overview.js";
import { showHarpoon, showOauth, showSystem, startPanels } from "./panels.js";

const BADGES_MS = 5000;
const OAUTH_MS = 15000;

/** What a tab shows, and how often while it is visible. */
const TABS = {
  overview: { show: () => { redraw(); return showOverview(); }, every: 10000 },
  metrics: { show: showMetrics },
  oauth: { show: showOauth },
  harpoon: { show: showHarpoon, every: 5000 },
  system: { show: showSystem, every: 10000 },
  logs: { show: showLogs },
};
const names = Object.keys(TABS);
let current;
let timer;

function select(name, focus) {
  const chosen = names.includes(name) ? name : "overview";
  if (location.hash !== `#${chosen}`) history.replaceState(null, "", `#${chosen}`);
  if (focus) $(`tab-${chosen}`).focus();
  if (chosen === current) return;
  current = chosen;
  for (const other of names) {
    const selected = other === chosen;
    $(`panel-${other}`).hidden = !selected;
    $(`tab-${other}`).setAttribute("aria-selected", selected);
    $(`tab-${other}`).tabIndex = selected ? 0 : -1;
  }
  clearInterval(timer);
  const { show, every } = TABS[chosen];
  show();
  if (every) timer = setInterval(() => document.hidden || show(), every);
}

function startTabs() {
  const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  names.forEach((name, at) => {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-controls", `panel-${name}`);
    $(`panel-${name}`).setAttribute("aria-labelledby", `tab-${name}`);
    tab.addEventListener("click", () => select(name));
    tab.addEventListener("keydown", (event) => {
      const to = event.key === "Home" ? 0 : event.key === "End" ? names.length - 1 : event.key in moves ? at + moves[event.key] : null;
      if (to == null) return;
      event.preventDefault();
      select(names[(to + names.length) % names.length], true);
    });
  });
  // A link to a tab leaves no step in the history either.
  addEventListener("click", (event) => {
    const { hash } = event.target;
    if (!hash) return;
    event.preventDefault();
    select(hash.slice(1), true);
  });
  addEventListener("hashchange", () => select(location.hash.slice(1)));
  document.addEventListener("visibilitychange", () => document.hidden || TABS[current].show());
  $("skip").addEventListener("click", () => $("main").focus());
  select(location.hash.slice(1));
}

async function ask(path) {
  try {
    const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(BADGES_MS - 500) });
    return { ok: reply.ok, text: (await reply.text()).trim() || `HTTP ${reply.status}` };
  } catch {
    return { ok: false, text: "error" };
  }
}

async function badges() {
  const [health, ready] = await Promise.all([ask("/healthz"), ask("/readyz")]);
  for (const [id, word, reply] of [["health", "Health", health], ["ready", "Ready", ready]]) {
    const badge = $(`badge-${id}`);
    const text = `${word}: ${reply.text}`;
    if (badge.textContent !== text) badge.textContent = text;
    badge.className = `badge ${verdict(reply.ok, id === "ready" ? reply.text : "")}`;
  }
  showState({ health, ready });
}

function startTheme() {
  const themes = ["system", "light", "dark"];
  const button = $("theme");
  let theme = localStorage.getItem("theme");
  const apply = () => {
    if (!themes.includes(theme)) theme = "system";
    document.documentElement.style.colorScheme = theme === "system" ? "" : theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    localStorage.setItem("theme", theme);
    apply();
  });
  apply();
}

startLogs();
startPanels();
startMetrics();
startTabs();
badges();
showMetrics();
showOauth();
setInterval(badges, BADGES_MS);
setInterval(showOauth, OAUTH_MS);
setInterval(tick, 1000);
// Last: a browser may keep the page from its storage.
startTheme();
