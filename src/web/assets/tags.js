// The labels of samples, with the sum of each label value.

import { request, parameters, settings } from "./data.js";
import { make, quoted } from "./dom.js";
import { addressOf } from "./navigate.js";
import { clearSelection } from "./selection.js";
import { meter, notes } from "./top.js";
import { shareText, valueText } from "./units.js";

export async function show(view, info, signal) {
  clearSelection();
  const report = await request("report", settings({ report: "tags" }));
  if (signal.aborted) return;
  if (!report.labels.length) return view.replaceChildren(make("p", { class: "quiet" }, "The samples of this profile have no labels."));
  view.replaceChildren(make("p", { class: "quiet" }, "Labels of the samples, set by the program or the profiler. Click a value to show only its samples."),
    make("div", { class: "cards" }, ...report.labels.map((label) => card(label, report.profile))), notes(report) ?? "");
}

function card(label, { unit, total }) {
  const rows = label.values.map((one) => {
    const filter = `${label.key}=^${quoted(one.text)}$`;
    // A number is matched as it is, a text as an expression.
    const term = /^-?[\d.]+ ?[a-zA-Z]*$/.test(one.text) ? `${label.key}=${one.text}` : filter;
    return make("tr", {},
      make("td", { class: "number" }, valueText(one.value, unit, parameters().get("unit") ?? "")),
      make("td", { class: "number" }, meter(one.value, label.value), shareText(one.value, label.value)),
      make("td", { class: "name" }, make("a", { href: addressOf("flamegraph", { tf: term, p: null }), "data-go": true }, one.text || "(empty)")));
  });
  const more = label.more_values ? make("p", { class: "quiet" }, `and ${label.more_values.count.toLocaleString("en")} more values`) : null;
  return make("section", { class: "card" }, make("h2", {}, label.key),
    make("p", { class: "quiet" }, `${shareText(label.value, total)} of the profile has this label`), make("table", {}, make("tbody", {}, ...rows)), more);
}
