// A flame graph on a canvas.
//
// Not here: menus, search fields, other views (flame_view.js).

import { Colors, packageOf, withoutSuffixes } from "./colors.js";

const ROW = 21;
const MIN_WIDTH = 0.35;
const MIN_TEXT_WIDTH = 26;

export class FlameCanvas {
  /** Calls `on.zoom(node)`, `on.hover(node, x, y)` and `on.menu(node, x, y)`; node -1 is none. */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.on = on;
    this.upward = false;
    this.zoomed = 0;
    this.focused = 0;
    this.hovered = -1;
    this.matches = null;
    this.rows = [];
    this.listen();
  }

  /** Shows a tree, zoomed to one of its nodes. */
  show(tree, zoomed = 0) {
    this.tree = tree;
    this.zoomed = zoomed;
    this.focused = zoomed;
    this.hovered = -1;
    // A key may be pressed before the first painting.
    this.above = new Set([0, ...tree.path(zoomed)]);
    this.deepest = tree.depth.reduce((most, depth) => Math.max(most, depth), 0);
    this.resize();
  }

  resize() {
    if (!this.tree) return;
    const width = Math.max(50, this.canvas.parentElement.clientWidth);
    const height = (this.deepest + 2) * ROW + 2;
    const ratio = Math.min(window.devicePixelRatio || 1, 32_000 / height);
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    this.draw();
  }

  /** Schedules one painting of everything. */
  draw() {
    if (this.scheduled) return;
    this.scheduled = requestAnimationFrame(() => {
      this.scheduled = 0;
      const began = performance.now();
      this.paint(this.context, this.ratio);
      this.tookMs = performance.now() - began;
    });
  }

  theme() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const dark = style.colorScheme === "dark";
    if (!this.colors || this.colors.dark !== dark) this.colors = new Colors(dark);
    return {
      dark,
      page: color("--page"),
      faint: color("--quiet"),
      text: color("--text"),
      quiet: color("--line"),
      match: color("--match"),
      focus: color("--accent"),
      root: color("--raised"),
    };
  }

  /** The left edge and the width of a node, in pixels. */
  extent(at) {
    const { tree, zoomed, width } = this;
    const scale = width / Math.max(1, tree.weight[zoomed]);
    if (this.isAbove(at)) return [0, width];
    return [(tree.start[at] - tree.start[zoomed]) * scale, tree.weight[at] * scale];
  }

  /** Whether a node is the zoomed one or one of its callers. */
  isAbove(at) {
    return this.above.has(at);
  }

  top(at) {
    const row = this.tree.depth[at];
    return this.upward ? this.height - (row + 1) * ROW : row * ROW;
  }

  paint(context, ratio) {
    const { tree } = this;
    const theme = this.theme();
    this.above = new Set([0, ...tree.path(this.zoomed)]);
    this.rows = [];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = theme.page;
    context.fillRect(0, 0, this.width, this.height);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const at of this.above) this.box(context, theme, at, 0, this.width);
    this.rest(context, theme, this.zoomed, 0, this.width);
    const nodes = tree.children(this.zoomed);
    while (nodes.length) {
      const at = nodes.pop();
      const [x, width] = this.extent(at);
      if (width < MIN_WIDTH) continue;
      this.box(context, theme, at, x, width);
      this.rest(context, theme, at, x, width);
      for (let child = tree.first[at]; child >= 0; child = tree.next[child]) nodes.push(child);
    }
    this.outline(context, theme);
  }

  box(context, theme, at, x, width) {
    const { tree } = this;
    const y = this.top(at);
    const row = tree.depth[at];
    (this.rows[row] ??= []).push(at);
    const matched = this.matches && at > 0 && this.matches[tree.frame[at]];
    const faded = (this.isAbove(at) && at !== this.zoomed) || (this.matches && !matched && at > 0);
    context.globalAlpha = faded ? 0.45 : 1;
    context.fillStyle = matched ? theme.match : this.color(at, theme);
    const gap = width > 3 ? 1 : 0;
    context.fillRect(x, y, width - gap, ROW - 1);
    if (tree.inlined[at] && width > 3) {
      // A bar marks a function that is inlined into its caller.
      context.fillStyle = theme.text;
      context.globalAlpha *= 0.55;
      context.fillRect(x, this.upward ? y + ROW - 3 : y, width - gap, 2);
      context.globalAlpha = faded ? 0.45 : 1;
    }
    if (width >= MIN_TEXT_WIDTH) this.label(context, theme, at, x, y, width, matched);
    context.globalAlpha = 1;
  }

  color(at, theme) {
    if (at === 0) return theme.root;
    if (this.tree.net) return this.colors.ofChange(this.tree.change(at));
    return this.colors.ofPackage(packageOf(this.tree.shortName(at), this.tree.module(at)));
  }

  label(context, theme, at, x, y, width, matched) {
    const text = this.shown(context, at, width - 8);
    if (!text) return;
    context.fillStyle = matched ? "#111" : theme.text;
    context.fillText(text, Math.max(x, 0) + 4, y + ROW / 2);
  }

  /** The name in a box: without the path of its package, and then without the package, if space is short. */
  shown(context, at, width) {
    const forms = [this.tree.name(at), ...shortened(this.tree.shortName(at))];
    const fits = forms.find((text) => context.measureText(text).width <= width);
    return fits ?? fitted(context, forms.at(-1), width);
  }

  /** Draws one box for all callees that are too narrow to be sent. */
  rest(context, theme, at, x, width) {
    const { tree } = this;
    const below = tree.weight[at] - tree.own[at] - tree.childSum[at];
    if (!tree.hidden[at] || below <= 0) return;
    const space = (below / Math.max(1, tree.weight[at])) * width;
    if (space < 4) return;
    const left = x + (tree.childSum[at] / Math.max(1, tree.weight[at])) * width;
    const y = this.upward ? this.top(at) - ROW : this.top(at) + ROW;
    context.fillStyle = theme.root;
    context.fillRect(left, y, space - 1, ROW - 1);
    if (space < 60) return;
    context.fillStyle = theme.faint;
    context.fillText(fitted(context, `${tree.hidden[at].toLocaleString("en")} narrow callees`, space - 8), left + 4, y + ROW / 2);
  }

  outline(context, theme) {
    for (const [at, width] of [[this.hovered, 1], [this.focused, 2]]) {
      if (at < 0 || (at === this.focused && width === 2 && !this.canvas.matches(":focus"))) continue;
      const [x, boxWidth] = this.extent(at);
      context.strokeStyle = theme.focus;
      context.lineWidth = width;
      context.strokeRect(x + width / 2, this.top(at) + width / 2, Math.max(1, boxWidth - width - 1), ROW - 1 - width);
    }
  }

  /** The node at a position; -1: none. */
  at(x, y) {
    const row = Math.floor((this.upward ? this.height - y : y) / ROW);
    for (const at of this.rows[row] ?? []) {
      const [start, width] = this.extent(at);
      if (x >= start && x < start + Math.max(width, 1)) return at;
    }
    return -1;
  }

  listen() {
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return this.at(event.clientX - box.left, event.clientY - box.top);
    };
    this.canvas.addEventListener("mousemove", (event) => this.hover(place(event), event.clientX, event.clientY));
    this.canvas.addEventListener("mouseleave", () => this.hover(-1, 0, 0));
    this.canvas.addEventListener("click", (event) => {
      const at = place(event);
      if (at >= 0) this.on.zoom(at);
    });
    this.canvas.addEventListener("contextmenu", (event) => {
      const at = place(event);
      if (at <= 0) return;
      event.preventDefault();
      this.focused = at;
      this.on.menu(at, event.clientX, event.clientY);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) this.canvas.addEventListener(name, () => this.tree && this.draw());
  }

  hover(at, x, y) {
    if (at !== this.hovered) {
      this.hovered = at;
      this.draw();
    }
    this.on.hover(at, x, y);
  }

  key(event) {
    if (!this.tree) return;
    const down = this.upward ? "ArrowUp" : "ArrowDown";
    const up = this.upward ? "ArrowDown" : "ArrowUp";
    const moved = { [down]: () => this.tree.first[this.focused], [up]: () => this.tree.parent[this.focused],
      ArrowRight: () => this.tree.next[this.focused], ArrowLeft: () => this.before(this.focused) }[event.key];
    if (moved) {
      const to = moved();
      if (to >= 0 && this.extent(to)[1] >= MIN_WIDTH) this.focus(to);
    } else if (event.key === "Enter" || event.key === " ") this.on.zoom(this.focused);
    else if (event.key === "Escape") this.on.zoom(0);
    else if (event.key === "ContextMenu" || (event.key === "F10" && event.shiftKey)) {
      const [x, width] = this.extent(this.focused);
      const box = this.canvas.getBoundingClientRect();
      this.on.menu(this.focused, box.left + x + Math.min(width, 60) / 2, box.top + this.top(this.focused) + ROW);
    } else return;
    event.preventDefault();
  }

  before(at) {
    const siblings = this.tree.children(this.tree.parent[at]);
    return siblings[siblings.indexOf(at) - 1] ?? -1;
  }

  focus(at) {
    this.focused = at;
    const box = this.canvas.getBoundingClientRect();
    const y = box.top + this.top(at);
    if (y < 120) window.scrollBy(0, y - 160);
    else if (y > window.innerHeight - 40) window.scrollBy(0, y - window.innerHeight + 80);
    this.on.hover(at, box.left + Math.max(0, this.extent(at)[0]) + 20, box.top + this.top(at) + ROW);
    this.draw();
  }
}

/** A name, and ever shorter forms: without compiler suffixes, without the path of its package, without its package. */
export function shortened(name) {
  const plain = withoutSuffixes(name);
  const parameters = plain.indexOf("(");
  const short = plain.slice(plain.lastIndexOf("/", parameters < 0 ? plain.length : parameters) + 1);
  return [name, plain, short, short.replace(/^[\w$-]+(\.|::)(?=.)/, "")];
}

/** The text shortened to a width, with an ellipsis; empty if hardly anything fits. */
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const estimate = Math.floor((width / context.measureText(text).width) * text.length) - 1;
  for (let length = estimate; length > 1; length--) {
    const shortened = `${text.slice(0, length)}…`;
    if (context.measureText(shortened).width <= width) return shortened;
  }
  return "";
}
