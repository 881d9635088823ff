// The frame around all views: selects the view that the URL names, and builds the bar above it.

import { request, parameters, settings } from "./data.js";
import { make, say } from "./dom.js";
import { buildBar } from "./bar.js";
import { goTo } from "./navigate.js";
import { startTheme } from "./theme.js";

/** The modules of the views, by the last part of the URL. */
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
    shownInfo = await request("info", settings());
    infoFor = wanted;
  }
  return shownInfo;
}

/** Shows the view that the URL names. */
async function show() {
  const view = document.getElementById("view");
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  view.replaceChildren(make("p", { class: "quiet" }, "Loading …"));
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
    view.replaceChildren(make("p", { class: "quiet" }, "This page cannot be shown. ", make("a", { href: "." }, "Go to the first page")));
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
