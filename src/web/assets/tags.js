// Labels of samples, and how much each of their values has.

import { ask, parameters, settings } from "./data.js";
import { make, quoted } from "./dom.js";
import { addressOf } from "./navigate.js";
import { clearSelection } from "./selection.js";
import { meter, notes } from "./top.js";
import { shareText, valueText } from "./units.js";

export async function show(view, info, signal) {
  clearSelection();
  const report = await ask("report", settings({ report: "tags" }));
  if (signal.aborted) return;
  if (!report.labels.length) return view.replaceChildren(make("p", { class: "quiet" }, "No sample of this profile has labels."));
  view.replaceChildren(make("p", { class: "quiet" }, "Labels that programs and profilers put on samples. A click shows only samples with that value."),
    make("div", { class: "cards" }, ...report.labels.map((label) => card(label, report.profile))), notes(report) ?? "");
}

function card(label, { unit, total }) {
  const rows = label.values.map((one) => {
    const filter = `${label.key}=^${quoted(one.text)}$`;
    // A number is asked for as it is, a text as an expression.
    const asked = /^-?[\d.]+ ?[a-zA-Z]*$/.test(one.text) ? `${label.key}=${one.text}` : filter;
    return make("tr", {},
      make("td", { class: "number" }, valueText(one.value, unit, parameters().get("unit") ?? "")),
      make("td", { class: "number" }, meter(one.value, label.value), shareText(one.value, label.value)),
      make("td", { class: "name" }, make("a", { href: addressOf("flamegraph", { tf: asked, p: null }), "data-go": true }, one.text || "(empty)")));
  });
  const more = label.more_values ? make("p", { class: "quiet" }, `and ${label.more_values.count.toLocaleString("en")} more values`) : null;
  return make("section", { class: "card" }, make("h2", {}, label.key),
    make("p", { class: "quiet" }, `${shareText(label.value, total)} of the profile has this label`), make("table", {}, make("tbody", {}, ...rows)), more);
}
