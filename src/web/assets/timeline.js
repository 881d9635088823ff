// What was measured when: samples by their times, where a profile has them.

import { ask, parameters, settings } from "./data.js";
import { make } from "./dom.js";
import { clearSelection } from "./selection.js";
import { valueText } from "./units.js";

const HEIGHT = 26;

export async function show(view, info, signal) {
  clearSelection();
  const sent = await ask("timeline", settings());
  if (signal.aborted) return;
  if (!sent.rows.length) return view.replaceChildren(make("p", { class: "quiet" }, sent.why));
  const head = make("p", { class: "quiet" }, `${valueText(sent.end_ns - sent.start_ns, "nanoseconds")} in ${sent.columns} steps; darker: more. One row a thread.`);
  const detail = make("p", { class: "detail", "aria-live": "polite" });
  view.replaceChildren(head, detail, make("div", { class: "timeline" }, ...sent.rows.flatMap((row) => line(row, sent, detail))));
}

function line(row, sent, detail) {
  const canvas = make("canvas", { width: sent.columns, height: "1", role: "img", "aria-label": `${row.name}: ${valueText(row.value, sent.unit)}` });
  const most = Math.max(1, ...sent.rows.flatMap((other) => other.values));
  const context = canvas.getContext("2d");
  const hue = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  row.values.forEach((value, at) => {
    if (!value) return;
    context.globalAlpha = 0.15 + 0.85 * Math.min(1, value / most);
    context.fillStyle = hue;
    context.fillRect(at, 0, 1, 1);
  });
  canvas.style.height = `${HEIGHT}px`;
  const step = (sent.end_ns - sent.start_ns) / sent.columns;
  canvas.addEventListener("mousemove", (event) => {
    const at = Math.floor((event.offsetX / canvas.clientWidth) * sent.columns);
    detail.textContent = `${row.name} at ${valueText(at * step, "nanoseconds")}: ${valueText(row.values[at] ?? 0, sent.unit, parameters().get("unit") ?? "")}`;
  });
  return [make("span", { class: "row-name" }, row.name), canvas, make("span", { class: "number" }, valueText(row.value, sent.unit))];
}
