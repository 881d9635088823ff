// Functions with their callers and callees.

import { request, parameters, settings } from "./data.js";
import { make, quoted } from "./dom.js";
import { addressOf } from "./navigate.js";
import { expressionForm } from "./expression.js";
import { clearSelection } from "./selection.js";
import { meter, notes } from "./top.js";
import { shareText, valueText } from "./units.js";

export async function show(view, info, signal) {
  clearSelection();
  const expression = parameters().get("re") ?? "";
  const form = expressionForm("peek", expression);
  const report = await request("report", settings({ report: "peek", re: expression, n: parameters().get("n") ?? "40" })).catch((error) => ({ error }));
  if (signal.aborted) return;
  if (report.error) return view.replaceChildren(form, make("p", { class: "quiet", role: "alert" }, report.error.message));
  const { unit, total } = report.profile;
  const left = report.more_functions?.count;
  view.replaceChildren(form, ...report.functions.map((one) => card(one, unit, total)),
    left ? make("p", { class: "quiet" }, `${left.toLocaleString("en")} more functions match.`) : "", notes(report) ?? "");
}

function card(one, unit, total) {
  const value = (number) => valueText(number, unit, parameters().get("unit") ?? "");
  return make("section", { class: "card" },
    make("h2", {}, one.name, one.inlined && one.inlined !== "no" ? make("small", {}, " inlined") : null),
    make("p", { class: "quiet" }, `${value(one.flat)} (${shareText(one.flat, total)}) flat · ${value(one.cum)} (${shareText(one.cum, total)}) cum`,
      one.file ? ` · ${one.file}` : ""),
    make("div", { class: "two" }, side("Called by", one.callers, one.cum, value), side("Calls", one.callees, one.cum, value)));
}

function side(title, rows, cum, value) {
  if (!rows?.length) return make("div", {}, make("h3", {}, title), make("p", { class: "quiet" }, title === "Calls" ? "no callees" : "no callers"));
  const lines = rows.map((row) => make("tr", {},
    make("td", { class: "number" }, value(row.value)),
    make("td", { class: "number" }, meter(row.value, cum), shareText(row.value, cum)),
    make("td", { class: "name" }, make("a", { href: addressOf("peek", { re: `^${quoted(row.name)}$` }), "data-go": true }, row.name),
      row.inlined === "yes" ? make("small", {}, " inlined") : null)));
  return make("div", {}, make("h3", {}, title), make("table", {}, make("tbody", {}, ...lines)));
}
