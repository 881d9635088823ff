// Source lines or instructions with their values.

import { request, parameters, settings } from "./data.js";
import { make } from "./dom.js";
import { expressionForm } from "./expression.js";
import { clearSelection } from "./selection.js";
import { meter, notes } from "./top.js";
import { shareText, valueText } from "./units.js";

/** The number of functions that are open at first; a click opens the others. */
const OPEN = 3;

export async function show(view, info, signal, name) {
  clearSelection();
  const isSource = name === "source";
  const expression = parameters().get("re") ?? "";
  const form = expressionForm(isSource ? "show the source of" : "disassemble", expression);
  const query = { report: isSource ? "list" : "disasm", re: expression, n: parameters().get("n") ?? "25" };
  const report = await request("report", settings(query)).catch((error) => ({ error }));
  if (signal.aborted) return;
  if (report.error) return view.replaceChildren(form, make("p", { class: "quiet", role: "alert" }, report.error.message));
  const shown = [...report.functions].sort((a, b) => b.flat - a.flat || b.cum - a.cum);
  const parts = shown.map((one, at) => part(one, report.profile, isSource, at < OPEN));
  const left = report.more_functions?.count;
  view.replaceChildren(form, ...parts, left ? make("p", { class: "quiet" }, `${left.toLocaleString("en")} more functions match.`) : "", notes(report) ?? "");
}

function part(one, { unit, total }, isSource, isOpen) {
  const value = (number) => (number ? valueText(number, unit, parameters().get("unit") ?? "") : "");
  const facts = `${value(one.flat) || 0} flat, ${value(one.cum) || 0} cum (${shareText(one.cum, total)})`;
  const rows = isSource ? one.lines : one.instructions;
  const fill = () => table(rows ?? [], one, isSource, value);
  const details = make("details", { class: "card", open: isOpen }, make("summary", {}, make("strong", {}, one.name), make("span", { class: "quiet" }, ` ${facts}`)),
    make("p", { class: "quiet" }, one.missing || one.file || ""));
  if (isOpen) details.append(fill());
  else details.addEventListener("toggle", () => details.append(fill()), { once: true });
  return details;
}

function table(rows, one, isSource, value) {
  const max = rows.reduce((sum, row) => Math.max(sum, row.cum), 1);
  const lines = rows.map((row) => make("tr", { class: row.cum ? "hot" : null },
    make("td", { class: "number" }, value(row.flat)), make("td", { class: "number" }, meter(row.cum, max), value(row.cum)),
    make("td", { class: "number quiet" }, isSource ? row.line : row.address),
    make("td", { class: "code" }, isSource ? (row.source ?? "").replaceAll("\t", "    ") : row.text),
    isSource ? null : make("td", { class: "quiet" }, row.file ? `${row.function && row.function !== one.name ? `${row.function} ` : ""}${row.file}:${row.line}` : "")));
  const heads = ["Flat", "Cum", isSource ? "Line" : "Address", isSource ? "Source" : "Instruction", ...(isSource ? [] : ["Source line"])];
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${one.name}` },
    make("table", { class: "listing" }, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...lines)));
}
