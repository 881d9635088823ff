// The bar above every view: links to the views, menus, active filters.

import { make } from "./dom.js";
import { addressOf, change } from "./navigate.js";
import { parameters } from "./data.js";
import { themeButton } from "./theme.js";
import { sampleMenu, refineMenu, configMenu, downloadMenu } from "./menus.js";
import { titleButton, profileChooser } from "./about.js";

export const VIEW_NAMES = {
  flamegraph: "Flame graph",
  top: "Top",
  graph: "Graph",
  peek: "Peek",
  source: "Source",
  disasm: "Disassembly",
  tags: "Tags",
  threads: "Threads",
  timeline: "Timeline",
  diff: "Diff",
};

/** The names of filters, by their URL parameters. */
const FILTERS = {
  f: "focus", i: "ignore", h: "hide", s: "show", sf: "show from", prunefrom: "prune from",
  tf: "tag focus", ti: "tag ignore", ts: "tag show", th: "tag hide",
};

export function buildBar(bar, info, view) {
  const links = Object.entries(VIEW_NAMES).map(([name, text]) =>
    make("a", { href: addressOf(name, { p: null, re: null, around: null }), "data-go": true, "aria-current": name === view ? "page" : null }, text));
  bar.replaceChildren(
    make("div", { class: "line" }, info.made_at ? make("a", { class: "back", href: info.made_at }, "‹ Capture") : null, titleButton(info), profileChooser(info),
      make("div", { class: "menus" }, sampleMenu(info), refineMenu(), info.can_save ? configMenu() : null, downloadMenu(), themeButton())),
    make("nav", { "aria-label": "Views" }, ...links),
    filterChips() ?? "",
  );
}

function filterChips() {
  const query = parameters();
  const chips = Object.entries(FILTERS).filter(([name]) => query.get(name)).map(([name, text]) =>
    make("li", {},
      make("span", { class: "what" }, text), make("code", {}, query.get(name)),
      make("button", { class: "plain", "aria-label": `Remove ${text}`, onclick: () => change({ [name]: null }) }, "×")));
  if (!chips.length) return null;
  const all = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, null]));
  return make("ul", { class: "chips", "aria-label": "Filters" }, ...chips,
    make("li", { class: "bare" }, make("button", { class: "plain", onclick: () => change(all) }, "Clear all")));
}
