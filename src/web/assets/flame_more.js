// The menu of a box, and the view of its callers and callees.

import { request, settings } from "./data.js";
import { make, quoted } from "./dom.js";
import { FlameCanvas } from "./flame.js";
import { FlameTree } from "./flame_tree.js";
import { item, moveFocus, refineItems } from "./menus.js";
import { addressOf, goTo } from "./navigate.js";
import { shareText, valueText } from "./units.js";

/** Opens the menu of a node at a position in the window. */
export function boxMenu(flame, at, x, y) {
  document.querySelector(".box-menu")?.remove();
  const { tree } = flame;
  const name = tree.name(at);
  const exact = `^${quoted(name)}$`;
  // The disassembly matches the expression with a line of text in which the name is one word.
  const asWord = `(^| )${quoted(name)}( |$)`;
  const number = String(tree.frames.id[tree.frame[at]]);
  const items = [
    make("p", { class: "hint" }, name),
    item("Zoom", () => flame.zoom(at)),
    item("Callers and callees", () => goTo(addressOf("flamegraph", { around: number, p: null }))),
    item("Source", () => goTo(addressOf("source", { re: exact, p: null }))),
    item("Disassembly", () => goTo(addressOf("disasm", { re: asWord, p: null }))),
    item("Peek", () => goTo(addressOf("peek", { re: exact, p: null }))),
    make("hr"),
    ...refineItems(exact),
    make("hr"),
    item("Copy name", () => navigator.clipboard?.writeText(name)),
  ];
  const list = make("div", { class: "menu-items box-menu", role: "menu", "aria-label": `Actions for ${name}` }, ...items);
  const close = () => {
    list.remove();
    document.removeEventListener("pointerdown", outside, true);
    flame.canvas.canvas.focus();
  };
  const outside = (event) => {
    if (!list.contains(event.target)) close();
  };
  list.addEventListener("click", (event) => event.target.closest("[role=menuitem]") && close());
  list.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else moveFocus(event, [...list.querySelectorAll("[role=menuitem]")]);
  });
  document.body.append(list);
  document.addEventListener("pointerdown", outside, true);
  list.style.left = `${Math.max(4, Math.min(x, window.innerWidth - list.offsetWidth - 8))}px`;
  list.style.top = `${Math.max(4, Math.min(y, window.innerHeight - list.offsetHeight - 8))}px`;
  list.querySelector("[role=menuitem]").focus();
}

/** Shows the callers of a function (above, growing upward) and its callees (below). */
export async function sandwich(view, info, signal, number) {
  const [up, down] = await Promise.all([request("flame", settings({ around: number, up: 1 })), request("flame", settings({ around: number }))]);
  if (signal.aborted) return;
  const title = down.around;
  const { unit } = down.kind;
  const weight = down.nodes.weight[0];
  const back = make("a", { href: addressOf("flamegraph", { around: null }), "data-go": true }, "← Whole flame graph");
  const halves = [["Callers", up, true], ["Callees", down, false]].map(([name, sent, upward]) => half(name, sent, upward, title, signal));
  view.replaceChildren(make("div", { class: "tools" }, back, make("strong", {}, title),
    make("span", {}, `${valueText(weight, unit)} (${shareText(weight, down.total)})`)), ...halves.map(({ section }) => section));
  for (const half of halves) half.start();
}

function half(name, sent, upward, title, signal) {
  const tree = new FlameTree({ ...sent, frames: sent.frames });
  tree.rootName = title;
  const canvas = make("canvas", { tabindex: "0", role: "application", "aria-label": `${name} of ${title}` });
  const detail = make("p", { class: "detail" }, `${name} of ${title}`);
  const describe = (at) => `${tree.name(at)} ${valueText(tree.weight[at], sent.kind.unit)} (${shareText(tree.weight[at], tree.weight[0])} of ${name.toLowerCase()})`;
  const flame = new FlameCanvas(canvas, {
    zoom: (at) => {
      flame.zoomed = at;
      flame.focused = at;
      flame.draw();
    },
    hover: (at) => (detail.textContent = at < 0 ? `${name} of ${title}` : describe(at)),
    menu: (at, x, y) => boxMenu({ tree, canvas: flame, zoom: (node) => goTo(addressOf("flamegraph", { around: String(tree.frames.id[tree.frame[node]]) })) }, at, x, y),
  });
  flame.upward = upward;
  window.addEventListener("resize", () => flame.resize(), { signal });
  window.addEventListener("rprof:theme", () => flame.draw(), { signal });
  const section = make("section", {}, make("h2", {}, name), detail, make("div", { class: "flame" }, canvas));
  return { section, start: () => flame.show(tree) };
}
