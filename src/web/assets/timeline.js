// The timeline: samples by their times; for a trace, the states of each thread.

import { request, parameters, settings } from "./data.js";
import { make } from "./dom.js";
import { change } from "./navigate.js";
import { clearSelection } from "./selection.js";
import { valueText } from "./units.js";

const HEIGHT = 26;
/** A drag over less than this share of the width is a click. */
const MIN_DRAG = 0.005;
/** The shortest visible time range. */
const MIN_NS = 1000;
/** The colours of the states of rprof's traces; other states take the other colours in turn. */
const STATE_COLORS = { runs: "--runs", ready: "--ready", waits: "--waits" };
/** The names of the states of rprof's traces, by their label values. */
const STATE_NAMES = { runs: "running", ready: "runnable", waits: "waiting" };
const OTHER_COLORS = ["--accent", "--ready", "--waits", "--quiet", "--bad", "--match"];

export async function show(view, info, signal) {
  clearSelection();
  const { from, until } = Object.fromEntries(parameters());
  const sent = await request("timeline", settings({ from: from ?? null, until: until ?? null }));
  if (signal.aborted) return;
  if (!sent.rows.length && sent.why) return view.replaceChildren(make("p", { class: "quiet" }, sent.why));
  const detail = make("p", { class: "detail", "aria-live": "polite" }, "Point at a row for details; drag to zoom into a time range.");
  const lanes = make("div", { class: "timeline" }, ...sent.rows.flatMap((row) => line(row, sent, detail)), ...axis(sent));
  const hidden = sent.row_count - sent.rows.length;
  view.replaceChildren(tools(sent), legend(sent), detail, lanes,
    make("p", { class: "quiet" }, sent.rows.length ? (hidden > 0 ? `${hidden} threads with smaller values are not shown.` : "") : "There are no samples in this time range."));
  zoomByDragging(lanes, sent);
}

/** Shows another time range. */
function zoom(from, until, sent) {
  const length = sent.length_ns + 1;
  const span = Math.min(length, Math.max(MIN_NS, Math.round(until - from)));
  const start = Math.max(0, Math.min(Math.round(from), length - span));
  const whole = span >= length;
  change({ from: whole ? null : start, until: whole ? null : start + span });
}

function tools(sent) {
  const { from_ns: from, until_ns: until } = sent;
  const span = until - from;
  const button = (text, title, changed, disabled = false) => make("button", { type: "button", title, disabled, onclick: changed }, text);
  const isWhole = from === 0 && until > sent.length_ns;
  return make("div", { class: "tools" },
    button("Zoom in", "Show the middle half of this range", () => zoom(from + span / 4, until - span / 4, sent), span <= MIN_NS),
    button("Zoom out", "Show a range twice as long", () => zoom(from - span / 2, until + span / 2, sent), isWhole),
    button("‹ Earlier", "Move back by half of this range", () => zoom(from - span / 2, until - span / 2, sent), from === 0),
    button("Later ›", "Move forward by half of this range", () => zoom(from + span / 2, until + span / 2, sent), until > sent.length_ns),
    button("All", "Show the whole time", () => zoom(0, sent.length_ns + 1, sent), isWhole),
    make("span", { class: "quiet" }, `${time(span)} of ${time(sent.length_ns)}`));
}

function time(nanoseconds) {
  return valueText(nanoseconds, "nanoseconds");
}

function stateName(state) {
  return STATE_NAMES[state] ?? state;
}

function isOfStates(sent) {
  return sent.states.some((state) => state !== "");
}

function colorOf(state, at) {
  const name = STATE_COLORS[state] ?? OTHER_COLORS[at % OTHER_COLORS.length];
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The colours of the states. */
function legend(sent) {
  if (!isOfStates(sent)) return make("p", { class: "quiet" }, "Darker means more samples. One row per thread.");
  const items = sent.states.map((state, at) => {
    const swatch = make("canvas", { class: "swatch", width: "1", height: "1", "aria-hidden": "true" });
    const context = swatch.getContext("2d");
    context.fillStyle = colorOf(state, at);
    context.fillRect(0, 0, 1, 1);
    return make("li", { class: "bare" }, swatch, stateName(state) || "no state");
  });
  return make("ul", { class: "chips" }, ...items);
}

function line(row, sent, detail) {
  const canvas = make("canvas", { width: sent.columns, height: HEIGHT, role: "img", "aria-label": `${row.name}: ${amount(row, sent)}` });
  const context = canvas.getContext("2d");
  if (isOfStates(sent)) drawStates(context, row, sent);
  else drawAmounts(context, row, sent);
  const step = (sent.until_ns - sent.from_ns) / sent.columns;
  canvas.addEventListener("mousemove", (event) => {
    const at = Math.max(0, Math.min(sent.columns - 1, Math.floor((event.offsetX / canvas.clientWidth) * sent.columns)));
    detail.textContent = `${row.name} at ${time(sent.from_ns + at * step)}: ${described(row, at, sent)}`;
  });
  return [make("span", { class: "row-name", title: row.name }, row.name), make("div", { class: "lane" }, canvas, make("div", { class: "mark", hidden: true })),
    make("span", { class: "number" }, amount(row, sent))];
}

/** Draws the states of each step on top of each other, as high as their share of the time. */
function drawStates(context, row, sent) {
  const step = (sent.until_ns - sent.from_ns) / sent.columns;
  const used = new Float64Array(sent.columns);
  row.values.forEach((values, state) => {
    context.fillStyle = colorOf(sent.states[state], state);
    values.forEach((value, at) => {
      if (!value) return;
      // A part that is too small to be visible is drawn as a line.
      const part = Math.min(1 - used[at], Math.max(value / step, 1.5 / HEIGHT));
      context.fillRect(at, HEIGHT * (1 - used[at] - part), 1, HEIGHT * part);
      used[at] += part;
    });
  });
}

function drawAmounts(context, row, sent) {
  const most = Math.max(1, ...sent.rows.flatMap((other) => other.values.flat()));
  context.fillStyle = colorOf("", 0);
  (row.values[0] ?? []).forEach((value, at) => {
    if (!value) return;
    context.globalAlpha = 0.15 + 0.85 * Math.min(1, value / most);
    context.fillRect(at, 0, 1, HEIGHT);
  });
}

/** Describes a step of a thread. */
function described(row, at, sent) {
  const unit = parameters().get("unit") ?? "";
  const parts = row.values
    .map((values, state) => [values[at], sent.states[state]])
    .filter(([value]) => value)
    .map(([value, state]) => `${state ? `${stateName(state)} ` : ""}${valueText(value, sent.unit, unit)}`);
  const most = sent.names[row.most[at]];
  return (parts.join(", ") || "nothing") + (most ? `; mostly in ${most}` : "");
}

/** The start of the range, and the times after it. */
function axis(sent) {
  const span = sent.until_ns - sent.from_ns;
  const after = [0.25, 0.5, 0.75, 1].map((part) => make("span", {}, `${sent.from_ns ? "+" : ""}${time(span * part)}`));
  return [make("span"), make("div", { class: "ticks" }, make("span", {}, time(sent.from_ns)), ...after), make("span")];
}

/** The total of a row; for a trace, the share of the time that the thread runs. */
function amount(row, sent) {
  const runs = row.values[sent.states.indexOf("runs")];
  if (!isOfStates(sent)) return valueText(row.value, sent.unit);
  const ran = (runs ?? []).reduce((sum, value) => sum + value, 0);
  return `${((ran / (sent.until_ns - sent.from_ns)) * 100).toFixed(1)}% running`;
}

function zoomByDragging(lanes, sent) {
  let begun = null;
  const part = (lane, event) => {
    const box = lane.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const mark = (from, until) => {
    for (const shown of lanes.querySelectorAll(".mark")) {
      shown.hidden = until - from < MIN_DRAG;
      shown.style.left = `${from * 100}%`;
      shown.style.width = `${(until - from) * 100}%`;
    }
  };
  lanes.addEventListener("pointerdown", (event) => {
    const lane = event.target.closest(".lane");
    if (!lane || event.button !== 0) return;
    begun = { lane, from: part(lane, event) };
    lane.setPointerCapture(event.pointerId);
  });
  lanes.addEventListener("pointermove", (event) => {
    if (!begun) return;
    const to = part(begun.lane, event);
    mark(Math.min(begun.from, to), Math.max(begun.from, to));
  });
  lanes.addEventListener("pointercancel", () => {
    begun = null;
    mark(0, 0);
  });
  lanes.addEventListener("pointerup", (event) => {
    if (!begun) return;
    const to = part(begun.lane, event);
    const [from, until] = [Math.min(begun.from, to), Math.max(begun.from, to)];
    begun = null;
    mark(0, 0);
    const span = sent.until_ns - sent.from_ns;
    if (until - from >= MIN_DRAG) zoom(sent.from_ns + span * from, sent.from_ns + span * until, sent);
  });
}
