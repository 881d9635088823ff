// The comparison of two profiles: which functions grew or shrank, and whether that is significant.

import { request, parameters, settings } from "./data.js";
import { make, quoted } from "./dom.js";
import { addressOf, change } from "./navigate.js";
import { clearSelection } from "./selection.js";
import { notes, searchField } from "./top.js";
import { valueText } from "./units.js";

export async function show(view, info, signal) {
  clearSelection();
  const chooser = choose(info);
  const report = await request("diff", settings(parameters().get("all") ? { all: 1 } : {})).catch((error) => ({ error }));
  if (signal.aborted) return;
  if (report.error) return view.replaceChildren(chooser ?? "", make("p", { class: "quiet", role: "status" }, report.error.message));
  const { unit } = report.profile;
  const body = make("tbody");
  const filter = searchField((expression) => draw(expression));
  const draw = (expression) => {
    const shown = report.changes.filter((row) => !expression || expression.test(row.name));
    filter.say(shown.length ? `${shown.length} ${shown.length === 1 ? "change" : "changes"}` : "all changes are within noise");
    body.replaceChildren(...shown.map((row) => line(row, unit)));
  };
  const all = Boolean(parameters().get("all"));
  const hidden = report.method.not_significant_left_out;
  const toggle = all || hidden ? make("button", { "aria-pressed": String(all), onclick: () => change({ all: all ? null : 1 }) },
    all ? "Significant only" : `Show ${hidden.toLocaleString("en")} within noise`) : "";
  const heads = ["Change", "", "Base", "New", "q", "Name"].map((text) => make("th", { scope: "col", title: text === "q" ? "False discovery rate" : null }, text || make("span", { class: "unseen" }, "Direction")));
  view.replaceChildren(chooser ?? "", make("p", { class: "quiet" }, `Change of each function's share of the total, in percentage points: ${report.base.name} → ${report.new.name}. q: estimated share of noise among the changes with this q or a lower one. `,
    make("a", { href: addressOf("flamegraph", { all: null }), "data-go": true }, "Show as a red and green flame graph")),
    make("div", { class: "tools" }, filter.field, filter.found, toggle),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes" }, make("table", { class: "numbers" }, make("thead", {}, make("tr", {}, ...heads)), body)), notes(report) ?? "");
  draw(null);
}

/** The verdict on a change within noise; such rows are pale. */
const NOT_SIGNIFICANT = "not significant";

function choose(info) {
  if (info.profiles.length < 2) return null;
  const query = parameters();
  const select = (name, label) => make("label", {}, `${label} `, make("select", { onchange: (event) => change({ [name]: event.target.value }) },
    ...(name === "vs" ? [make("option", { value: "", selected: !query.get("vs") }, "–")] : []),
    ...info.profiles.map((one) => make("option", { value: String(one.number), selected: String(one.number) === (name === "in" ? String(info.number) : query.get(name)) }, one.name))));
  return make("div", { class: "tools" }, select("vs", "Base"), select("in", "New"));
}

function line(row, unit) {
  const change = row.change ?? 0;
  const sign = change > 0 ? "+" : "";
  const bar = make("span", { class: change > 0 ? "more" : "less", "aria-hidden": "true" });
  bar.style.width = `${Math.min(60, Math.abs(change) * 3)}px`;
  const value = (number, percent) => `${valueText(number ?? 0, unit)} (${(percent ?? 0).toFixed(2)}%)`;
  return make("tr", { class: row.verdict === NOT_SIGNIFICANT ? "noise" : null }, make("td", { class: "number" }, `${sign}${change.toFixed(2)} pp`), make("td", {}, bar),
    make("td", { class: "number" }, value(row.base, row.base_percent)), make("td", { class: "number" }, value(row.new, row.new_percent)),
    make("td", { class: "number" }, row.q === undefined ? "" : row.q < 0.0001 ? "<0.0001" : row.q.toFixed(4)),
    make("td", { class: "name" }, make("a", { href: addressOf("peek", { re: `^${quoted(row.name)}$` }), "data-go": true }, row.name), row.verdict && row.verdict !== NOT_SIGNIFICANT ? make("small", {}, ` ${row.verdict}`) : null));
}
