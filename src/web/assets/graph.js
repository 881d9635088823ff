// The call graph: the server draws it as SVG, this module moves and zooms it.

import { request, settings } from "./data.js";
import { make } from "./dom.js";
import { clearSelection, selected, toggle } from "./selection.js";
import { exports } from "./menus.js";
import { save } from "./dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const ELEMENTS = new Set(["svg", "g", "title", "polygon", "polyline", "path", "ellipse", "text", "a", "defs", "linearGradient", "stop"]);
const ATTRIBUTES = new Set(["id", "class", "transform", "fill", "stroke", "stroke-width", "stroke-dasharray", "points", "d", "cx", "cy",
  "rx", "ry", "x", "y", "text-anchor", "font-family", "font-size", "font-weight", "viewBox", "fill-opacity", "stroke-opacity"]);

/** A copy of a drawing with shapes and text only: no scripts, no links. */
function harmless(element) {
  const name = element.localName;
  if (!ELEMENTS.has(name)) return null;
  const copy = document.createElementNS(NAMESPACE, name === "a" ? "g" : name);
  for (const attribute of element.attributes) {
    if (ATTRIBUTES.has(attribute.name)) copy.setAttribute(attribute.name, attribute.value);
    if (attribute.name === "xlink:title") copy.dataset.title = attribute.value;
  }
  for (const child of element.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) copy.append(child.data);
    else if (child.nodeType === Node.ELEMENT_NODE) copy.append(harmless(child) ?? "");
  }
  return copy;
}

export async function show(view, info, signal) {
  clearSelection();
  const text = await request("graph", settings(), "text");
  if (signal.aborted) return;
  const drawn = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const svg = drawn.querySelector("parsererror") ? null : harmless(drawn);
  if (!svg) throw new Error("The drawing of the graph is not valid SVG.");
  for (const title of svg.querySelectorAll("title")) title.remove();
  // The paper: the page has its own background, light or dark.
  svg.querySelector("g.graph > polygon")?.setAttribute("fill", "none");
  nameNodes(svg);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Call graph");
  const frame = make("div", { class: "graph", tabindex: "0", role: "region", "aria-label": "Call graph: arrows move, plus and minus zoom" }, svg);
  const mover = new Mover(svg, frame, signal);
  const button = (text, label, action) => make("button", { class: "icon", "aria-label": label, title: label, onclick: action }, text);
  const found = make("output", { class: "found" });
  view.replaceChildren(make("div", { class: "tools" }, make("span", { class: "quiet" }, "Drag to move, wheel to zoom, click a box to select it."),
    found, make("span", { class: "grow" }), button("+", "Zoom in", () => mover.scale(0.8)), button("−", "Zoom out", () => mover.scale(1.25)),
    button("⤢", "Show all", () => mover.all())), frame);
  mover.begin();
  svg.addEventListener("click", (event) => choose(event, mover, found));
  exports.splice(0, exports.length, ["Graph (SVG)", () => save("graph.svg", "image/svg+xml", text)]);
  signal.addEventListener("abort", () => exports.splice(0));
}

/** Takes the name of each box from its Graphviz tooltip, which ends with the value. */
function nameNodes(svg) {
  for (const node of svg.querySelectorAll("g.node")) {
    const tip = node.querySelector("[data-title]")?.dataset.title;
    if (!tip) continue;
    node.dataset.name = tip.replace(/ \([^()]*\)$/, "");
    const title = document.createElementNS(NAMESPACE, "title");
    title.textContent = tip;
    node.prepend(title);
  }
  for (const edge of svg.querySelectorAll("g.edge")) {
    const tip = edge.querySelector("[data-title]")?.dataset.title;
    if (!tip) continue;
    const title = document.createElementNS(NAMESPACE, "title");
    title.textContent = tip;
    edge.prepend(title);
  }
}

function choose(event, mover, found) {
  const node = event.target.closest("g.node[data-name]");
  if (!node || mover.moved) return;
  toggle(node.dataset.name);
  node.classList.toggle("chosen", selected().has(node.dataset.name));
  found.textContent = selected().size ? `${selected().size} selected: use the Refine menu` : "";
}

/** Moves and zooms a drawing by changing its visible part. */
class Mover {
  constructor(svg, frame, signal) {
    this.svg = svg;
    this.frame = frame;
    [this.x, this.y, this.width, this.height] = (svg.getAttribute("viewBox") ?? "0 0 100 100").split(/[ ,]+/).map(Number);
    this.whole = [this.x, this.y, this.width, this.height];
    this.pointers = new Map();
    frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.down(event));
    frame.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) frame.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    frame.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("resize", () => this.apply(), { signal });
  }

  all() {
    this.fit(Infinity);
  }

  /** Shows the top at a readable size; all of it if that is readable. */
  begin() {
    this.fit(1.5);
    const boxes = [...this.svg.querySelectorAll("g.node[data-name]")].map((node) => node.getBBox());
    if (!boxes.length || this.width >= this.whole[2]) return;
    const root = boxes.reduce((top, box) => (box.y < top.y ? box : top));
    this.x = root.x + root.width / 2 - this.width / 2;
    this.apply();
  }

  /** Shows all, with at most `max` units per pixel. */
  fit(max) {
    const [x, y, width, height] = this.whole;
    const box = this.frame.getBoundingClientRect();
    // A graph of two boxes should not fill the window.
    const scale = Math.min(Math.max(width / box.width, height / box.height, 0.75), max);
    this.width = box.width * scale;
    this.height = box.height * scale;
    this.x = x - (this.width - width) / 2;
    this.y = y;
    this.apply();
  }

  apply() {
    this.svg.setAttribute("viewBox", `${this.x} ${this.y} ${this.width} ${this.height}`);
  }

  /** Shows `factor` times as much around a point of the frame, given as shares of its size. */
  scale(factor, acrossX = 0.5, acrossY = 0.5) {
    const width = Math.min(Math.max(this.width * factor, 60), this.whole[2] * 20);
    const used = width / this.width;
    this.x += this.width * acrossX * (1 - used);
    this.y += this.height * acrossY * (1 - used);
    this.width = width;
    this.height *= used;
    this.apply();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.frame.getBoundingClientRect();
    this.scale(1.0015 ** event.deltaY, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }

  down(event) {
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.moved = false;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    if (Math.abs(dx) + Math.abs(dy) > 2) this.moved = true;
    const box = this.frame.getBoundingClientRect();
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const [ox, oy] = others[0][1];
      const distance = (x, y) => Math.hypot(x - ox, y - oy) || 1;
      this.scale(distance(...before) / distance(event.clientX, event.clientY), (ox - box.left) / box.width, (oy - box.top) / box.height);
    } else {
      this.x -= (dx * this.width) / box.width;
      this.y -= (dy * this.height) / box.height;
      this.apply();
    }
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      this.x += step[0] * this.width * 0.1;
      this.y += step[1] * this.height * 0.1;
      this.apply();
    } else if (event.key === "+" || event.key === "=") this.scale(0.8);
    else if (event.key === "-") this.scale(1.25);
    else if (event.key === "0") this.all();
    else return;
    event.preventDefault();
  }
}
