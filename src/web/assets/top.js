// The table of functions, with flat and cumulative values.

import { request, parameters, settings } from "./data.js";
import { make, quoted } from "./dom.js";
import { addressOf } from "./navigate.js";
import { clearSelection, selected, setSearched, toggle } from "./selection.js";
import { shareText, valueText } from "./units.js";

export const COLUMNS = [["flat", "Flat"], ["flat_percent", "Flat %"], ["cum", "Cum"], ["cum_percent", "Cum %"], ["name", "Name"]];

export async function show(view, info, signal) {
  clearSelection();
  const report = await request("report", settings({ report: "top" }));
  if (signal.aborted) return;
  const { unit, total } = report.profile;
  const rows = report.functions;
  const filter = searchField((expression) => draw(expression));
  const body = make("tbody");
  let order = parameters().get("sort") === "cum" ? "cum" : "flat";
  let isDown = true;
  const heads = COLUMNS.map(([name, text]) => make("th", { scope: "col" }, make("button", { onclick: () => {
    isDown = order === name ? !isDown : name !== "name";
    order = name;
    draw(filter.expression());
  } }, text)));
  const draw = (expression) => {
    const sign = isDown ? -1 : 1;
    const sorted = [...rows].sort((a, b) => sign * (order === "name" ? a.name.localeCompare(b.name) : Math.abs(a[order]) - Math.abs(b[order])));
    COLUMNS.forEach(([name], at) => heads[at].setAttribute("aria-sort", name !== order ? "none" : isDown ? "descending" : "ascending"));
    const shown = expression ? sorted.filter((row) => expression.test(row.name)) : sorted;
    body.replaceChildren(...shown.map((row) => line(row, unit, total)));
    filter.say(`${shown.length} of ${rows.length}`);
  };
  const more = report.more_functions ? make("p", { class: "quiet" }, `${report.more_functions.count.toLocaleString("en")} more functions are not shown (Refine, All options, Max rows).`) : null;
  view.replaceChildren(make("div", { class: "tools" }, filter.field, filter.found),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Functions" }, make("table", { class: "numbers functions" }, make("thead", {}, make("tr", {}, ...heads)), body)), more ?? "", notes(report) ?? "");
  draw(null);
}

/** The notes of a report. */
export function notes(report) {
  return report.notes?.length ? make("ul", { class: "quiet" }, ...report.notes.map((text) => make("li", {}, text))) : null;
}

/** A search field that calls `changed` with a regular expression, or null, on each input. */
export function searchField(changed) {
  const found = make("output", { class: "found" });
  let expression = null;
  const field = make("input", { type: "search", placeholder: "Search (regexp)   /", "aria-label": "Search by a regular expression", spellcheck: "false", autocapitalize: "off", oninput: () => {
    setSearched(field.value);
    try {
      expression = field.value ? new RegExp(field.value) : null;
      field.removeAttribute("aria-invalid");
      changed(expression);
    } catch {
      field.setAttribute("aria-invalid", "true");
    }
  } });
  return { field, found, say: (text) => (found.textContent = text), expression: () => expression };
}

function line(row, unit, total) {
  const exact = `^${quoted(row.name)}$`;
  const wanted = parameters().get("unit") ?? "";
  const number = (value) => make("td", { class: "number" }, valueText(value, unit, wanted));
  const share = (value) => make("td", { class: "number" }, meter(value, total), shareText(value, total));
  const choose = () => {
    toggle(row.name);
    element.setAttribute("aria-selected", String(selected().has(row.name)));
  };
  const name = make("td", { class: "name" }, make("a", { href: addressOf("peek", { re: exact }), "data-go": true }, row.name),
    row.inlined && row.inlined !== "no" ? make("small", {}, ` inlined`) : null);
  const element = make("tr", { onclick: (event) => event.target.closest("a") || choose() }, number(row.flat), share(row.flat), number(row.cum), share(row.cum), name);
  return element;
}

/** A bar behind a percentage. */
export function meter(value, total) {
  const bar = make("span", { class: "meter", "aria-hidden": "true" });
  bar.style.width = `${Math.min(100, (Math.abs(value) / Math.max(1, Math.abs(total))) * 100)}%`;
  return bar;
}
