// The frame around all views: which one the address names, the bar above it, light and dark.

import { ask, parameters, settings } from "./data.js";
import { make, say } from "./dom.js";
import { buildBar } from "./bar.js";
import { goTo } from "./navigate.js";
import { startTheme } from "./theme.js";

/** Views by the last part of the address: the module that shows it. */
const VIEWS = {
  flamegraph: () => import("./flame_view.js"),
  top: () => import("./top.js"),
  graph: () => import("./graph.js"),
  peek: () => import("./peek.js"),
  source: () => import("./source.js"),
  disasm: () => import("./source.js"),
  tags: () => import("./tags.js"),
  threads: () => import("./threads.js"),
  timeline: () => import("./timeline.js"),
  diff: () => import("./diff.js"),
};

export function currentView() {
  const name = location.pathname.split("/").pop();
  return name in VIEWS ? name : "flamegraph";
}

let shownInfo = null;
let infoFor = "";
let running = null;

async function info() {
  const wanted = parameters().get("in") ?? "";
  if (!shownInfo || infoFor !== wanted) {
    shownInfo = await ask("info", settings());
    infoFor = wanted;
  }
  return shownInfo;
}

/** Shows what the address says. */
async function show() {
  const view = document.getElementById("view");
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  view.replaceChildren(make("p", { class: "quiet" }, "One moment …"));
  view.className = `view-${currentView()}`;
  try {
    const known = await info();
    document.title = `${known.name} · ${currentView()} · rprof`;
    buildBar(document.getElementById("bar"), known, currentView());
    const module = await VIEWS[currentView()]();
    if (signal.aborted) return;
    say("");
    await module.show(view, known, signal, currentView());
  } catch (error) {
    if (signal.aborted) return;
    view.replaceChildren(make("p", { class: "quiet" }, "There is nothing to show. ", make("a", { href: "." }, "To the first page")));
    say(error.message, true);
  }
}

startTheme();
window.addEventListener("popstate", show);
window.addEventListener("rprof:go", show);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-go]");
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  goTo(link.getAttribute("href"));
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(input|select|textarea)$/i.test(event.target.tagName)) return;
  const field = document.querySelector("#view input[type=search]");
  if (!field) return;
  event.preventDefault();
  field.focus();
});
show();
