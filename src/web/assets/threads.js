// Threads and goroutines grouped by stack, with their states and waits.

import { request, parameters, settings } from "./data.js";
import { make } from "./dom.js";
import { clearSelection } from "./selection.js";
import { notes, searchField } from "./top.js";
import { shareText, valueText } from "./units.js";

export async function show(view, info, signal) {
  clearSelection();
  const report = await request("threads", settings());
  if (signal.aborted) return;
  if (!report.groups.length) {
    return view.replaceChildren(make("p", { class: "quiet" },
      "The samples of this profile have no thread labels. Profiles of rprof dump and rprof attach have them."));
  }
  const { unit } = report;
  const box = make("div");
  const filter = searchField((expression) => draw(expression));
  const draw = (expression) => {
    const matches = (group) => !expression || [...group.states, ...group.names, ...group.frames].some((text) => expression.test(text));
    const shown = report.groups.filter(matches);
    filter.say(`${shown.length} of ${report.groups.length} groups`);
    box.replaceChildren(...shown.map((group) => card(group, unit, report.total)));
  };
  view.replaceChildren(make("div", { class: "tools" }, filter.field, filter.found), states(report, unit), box, notes(report) ?? "");
  draw(null);
}

/** The sum of each state. */
function states(report, unit) {
  if (!report.states.length) return "";
  const items = report.states.map(({ name, value }) => make("li", {}, make("strong", {}, valueText(value, unit)), ` ${name}`));
  return make("ul", { class: "chips" }, ...items);
}

function card(group, unit, total) {
  const value = valueText(group.value, unit, parameters().get("unit") ?? "");
  const head = group.states.join(", ");
  const names = group.names.slice(0, 12).join(", ") + (group.names.length > 12 ? ` and ${group.names.length - 12} more` : "");
  const waited = group.waited_ns > 0 ? ` · waits up to ${valueText(group.waited_ns, "nanoseconds")}` : "";
  return make("details", { class: "card", open: group.frames.length <= 12 },
    make("summary", {}, make("strong", {}, `${value} (${shareText(group.value, total)})`), ` ${head}${waited}`),
    names ? make("p", { class: "quiet" }, names) : null,
    make("ol", { class: "stack" }, ...group.frames.map((frame) => make("li", {}, frame))));
}
