// The bar above every view: links to the views, menus, active filters.

import { make } from "./dom.js";
import { addressOf, change } from "./navigate.js";
import { parameters } from "./data.js";
import { themeButton } from "./theme.js";
import { sampleMenu, refineMenu, configMenu, downloadMenu } from "./menus.js";
import { valueText } from "./units.js";
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
  // A profile without times has no timeline.
  const views = Object.entries(VIEW_NAMES).filter(([name]) => name !== "timeline" || info.has_times || view === "timeline");
  const links = views.map(([name, text]) =>
    make("a", { href: addressOf(name, { p: null, re: null, around: null }), "data-go": true, "aria-current": name === view ? "page" : null }, text));
  bar.replaceChildren(
    make("div", { class: "line" }, info.made_at ? make("a", { class: "back", href: info.made_at }, "‹ Capture") : null, titleButton(info), profileChooser(info),
      make("div", { class: "menus" }, sampleMenu(info), refineMenu(), info.can_save ? configMenu() : null, downloadMenu(), themeButton())),
    factsLine(info) ?? "",
    make("nav", { "aria-label": "Views" }, ...links),
    filterChips() ?? "",
  );
}

/** Shares that are more uncertain than this, in percentage points, are warned of. */
const UNCERTAIN_POINTS = 7;
/** A larger share of frames without names is warned of, in percent. */
const MANY_UNNAMED = 10;

/** What was profiled, when, for how long, and how far to trust it. */
function factsLine(info) {
  const { targets, sampler, unnamed_percent: unnamed, error_points: points, time_ns: time, lost } = info.facts;
  const isDifference = info.name.includes(" → ");
  if (isDifference || !(targets.length || time || info.duration_ns)) return null;
  const warn = (isBad, text) => (isBad ? make("strong", { class: "warn" }, text) : text);
  const parts = [];
  if (targets.length) parts.push(targets.slice(0, 2).join(", ") + (targets.length > 2 ? ` and ${targets.length - 2} more` : ""));
  const kind = info.kinds[info.default_kind]?.name;
  if (kind) parts.push(kind);
  if (time) parts.push(new Date(time / 1e6).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }));
  if (info.duration_ns) parts.push(valueText(info.duration_ns, "nanoseconds"));
  if (info.kinds.some((kind) => kind.name === "samples") && info.samples) {
    const count = `${info.samples.toLocaleString("en")} ${info.samples === 1 ? "sample" : "samples"}`;
    parts.push(warn(points > UNCERTAIN_POINTS, `${count}: ±${points < 1 ? points.toFixed(1) : points.toFixed(0)} %`));
  }
  if (unnamed) parts.push(warn(unnamed > MANY_UNNAMED, `${unnamed.toFixed(1)}% of frames unnamed${unnamed > MANY_UNNAMED ? ": add names with rprof symbolize" : ""}`));
  if (lost && !/^0 /.test(lost)) parts.push(warn(true, `${lost} lost`.replace(" samples lost", " samples lost")));
  if (sampler) parts.push(sampler.replace(/ \(.*/, ""));
  return make("p", { class: "facts-line", "aria-label": "Facts about the profile" }, ...parts.flatMap((part, at) => (at ? [" · ", part] : [part])));
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
