// The flame graph view: search, zoom, menu of a box, callers and callees, export.

import { request, parameters, settings } from "./data.js";
import { make, quoted, say } from "./dom.js";
import { packageOf } from "./colors.js";
import { FlameCanvas } from "./flame.js";
import { flameExports } from "./flame_export.js";
import { FlameTree } from "./flame_tree.js";
import { boxMenu, sandwich } from "./flame_more.js";
import { exports } from "./menus.js";
import { note } from "./navigate.js";
import { clearSelection, setSearched } from "./selection.js";
import { shareText, valueText } from "./units.js";

export async function show(view, info, signal) {
  clearSelection();
  const around = parameters().get("around");
  if (around) return sandwich(view, info, signal, around);
  if (!info.samples) return view.replaceChildren(make("p", { class: "quiet", role: "status" }, "This profile has no samples: the events it counts did not occur during the capture."));
  const upside = parameters().get("up");
  const sent = await request("flame", settings(upside ? { up: 1 } : {}));
  if (signal.aborted) return;
  new FlameView(view, sent, info, signal);
}

class FlameView {
  constructor(view, sent, info, signal) {
    this.signal = signal;
    this.info = info;
    this.whole = new FlameTree(sent);
    this.tree = this.whole;
    this.prefix = [];
    this.unit = parameters().get("unit") ?? "";
    this.build(view);
    for (const message of sent.messages) say(message);
    this.canvas.show(this.tree);
    this.explainColors();
    this.restore();
    exports.splice(0, exports.length, ...flameExports(this));
    signal.addEventListener("abort", () => exports.splice(0));
  }

  build(view) {
    this.search = make("input", {
      type: "search", placeholder: "Search (regexp)   /", title: "A regular expression of function names; module:libc searches binaries, file:sort.c source files", "aria-label": "Search functions by a regular expression",
      spellcheck: "false", autocapitalize: "off", oninput: () => this.searchSoon(),
    });
    this.found = make("output", { class: "found" });
    this.reset = make("button", { disabled: true, onclick: () => this.zoom(0) }, "Reset zoom");
    const flip = make("button", { "aria-pressed": "false", title: "Draw the root at the bottom", onclick: () => {
      this.canvas.upward = !this.canvas.upward;
      flip.setAttribute("aria-pressed", String(this.canvas.upward));
      this.canvas.draw();
    } }, "Upward");
    const up = Boolean(parameters().get("up"));
    const invert = make("button", { "aria-pressed": String(up), title: "Group stacks by leaf: which callers lead to hot functions", onclick: () => {
      note({ up: up ? null : 1, p: null }, true);
      window.dispatchEvent(new Event("rprof:go"));
    } }, "Bottom-up");
    const help = make("button", { class: "icon", "aria-label": "Keys", title: "Keys (?)", onclick: showHelp }, "?");
    this.detail = make("p", { class: "detail", "aria-live": "polite" });
    this.tip = make("div", { class: "tip", hidden: true });
    this.legend = make("p", { class: "legend" });
    const element = make("canvas", { tabindex: "0", role: "application", "aria-label": "Flame graph. Arrows move, Enter zooms, Escape zooms out." });
    view.replaceChildren(
      make("div", { class: "tools" }, this.search, this.found, make("span", { class: "grow" }), this.reset, flip, invert, help),
      this.legend, this.detail, make("div", { class: "flame" }, element), this.tip);
    this.canvas = new FlameCanvas(element, {
      zoom: (at) => this.zoom(at),
      hover: (at, x, y) => this.hover(at, x, y),
      menu: (at, x, y) => boxMenu(this, at, x, y),
    });
    this.watch();
  }

  watch() {
    const options = { signal: this.signal };
    window.addEventListener("resize", () => this.canvas.resize(), options);
    window.addEventListener("rprof:theme", () => {
      this.canvas.draw();
      this.explainColors();
    }, options);
    document.addEventListener("keydown", (event) => {
      const typing = /^(input|select|textarea)$/i.test(event.target.tagName);
      if (event.key === "Escape" && event.target === this.search) {
        this.search.value = "";
        this.searchNow();
        this.canvas.canvas.focus();
      } else if (event.key === "Enter" && event.target === this.search) this.canvas.canvas.focus();
      else if (typing || event.ctrlKey || event.metaKey) return;
      else if (event.key === "/") {
        event.preventDefault();
        this.search.focus();
      } else if (event.key === "?") showHelp();
    }, options);
  }

  /** Restores the zoom and the search of the URL. */
  async restore() {
    const query = parameters();
    this.search.value = query.get("q") ?? "";
    if (this.search.value) this.searchNow();
    const names = query.get("p");
    let at = 0;
    for (const name of names ? names.split("\n") : []) {
      const child = this.tree.children(at).find((child) => this.tree.name(child) === name);
      if (child === undefined) break;
      at = child;
    }
    if (at) await this.zoom(at, false);
    else this.describe(0);
  }

  /** Zooms to a node; fetches callees that were too narrow to be sent before. */
  async zoom(at, isStep = true) {
    if (at === 0 && this.tree !== this.whole) {
      this.tree = this.whole;
      this.canvas.show(this.tree);
    }
    const { tree } = this;
    const names = tree.path(at).map((node) => tree.name(node));
    if (isStep) note({ p: names.length ? names.join("\n") : null }, true);
    this.reset.disabled = at === 0;
    this.canvas.zoomed = at;
    this.canvas.focused = at;
    this.canvas.draw();
    this.describe(at);
    this.count();
    if (tree.isCut(at)) await this.fetchBelow(at);
  }

  async fetchBelow(at) {
    const { tree } = this;
    const numbers = tree.numbers(at);
    const more = { root: numbers.join(",") };
    if (parameters().get("up")) more.up = 1;
    try {
      const sent = await request("flame", settings(more));
      if (this.signal.aborted || this.canvas.zoomed !== at || this.tree !== tree) return;
      this.tree = grafted(tree, at, sent);
      this.matchFrames();
      this.canvas.show(this.tree, tree.path(at).length);
    } catch (error) {
      say(error.message, true);
    }
  }

  hover(at, x, y) {
    this.tip.hidden = at < 0;
    if (at < 0) return this.describe(this.canvas.zoomed);
    this.describe(at);
    const { tree } = this;
    const facts = this.facts(at);
    this.tip.replaceChildren(make("strong", {}, tree.name(at)), make("span", {}, facts),
      tree.file(at) || tree.module(at) ? make("span", { class: "where" }, tree.file(at) || tree.module(at)) : null);
    const box = this.tip.getBoundingClientRect();
    this.tip.style.left = `${Math.max(4, Math.min(x + 14, window.innerWidth - box.width - 8))}px`;
    this.tip.style.top = `${y + 22 + box.height > window.innerHeight ? y - box.height - 10 : y + 18}px`;
  }

  /** What the colours mean. */
  explainColors() {
    this.canvas.theme();
    const { colors } = this.canvas;
    const { tree } = this;
    if (!tree.net) return this.legend.replaceChildren(...packages(tree).map(([name]) => key(colors.ofPackage(name), name)));
    const { unit } = tree.sent.kind;
    const [base, now] = tree.sides.map((total) => valueText(total, unit, this.unit));
    const [from, to] = this.info.name.includes(" → ") ? this.info.name.split(" → ") : ["base", this.info.name];
    this.legend.replaceChildren(`Base: ${from} (${base}), new: ${to} (${now}). Shares of each total: `,
      key(colors.ofChange(0.8), "larger in new"), key(colors.ofChange(-0.8), "smaller in new"));
  }

  facts(at) {
    const { tree } = this;
    const { unit } = tree.sent.kind;
    const value = (number) => valueText(number, unit, this.unit);
    if (tree.net) return comparison(tree, at, value);
    const parts = [`${value(tree.weight[at])} (${shareText(tree.weight[at], tree.total)})`];
    if (tree.own[at]) parts.push(`self ${value(tree.own[at])} (${shareText(tree.own[at], tree.total)})`);
    if (tree.inlined[at]) parts.push("inlined");
    return parts.join(" · ");
  }

  describe(at) {
    this.detail.replaceChildren(make("strong", {}, this.tree.name(at)), " ", this.facts(at));
  }

  searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.searchNow(), 200);
  }

  /** Highlights matches, keeps the zoom, and shows the share of the whole profile. */
  async searchNow() {
    const expression = this.search.value;
    note({ q: expression || null }, false);
    setSearched(expression);
    try {
      const [, field, text] = /^(module:|file:)?\s*([^]*)$/.exec(expression);
      this.field = field;
      this.expression = expression ? new RegExp(text.replace(/^\(\?i\)/, ""), /^\(\?i\)/.test(text) ? "i" : "") : null;
      this.search.removeAttribute("aria-invalid");
    } catch {
      this.search.setAttribute("aria-invalid", "true");
      this.found.textContent = "not a regular expression";
      return;
    }
    this.matchFrames();
    this.exact = null;
    this.count();
    this.canvas.draw();
    if (!expression) return;
    const exact = await request("search", settings({ q: expression })).catch(() => null);
    if (this.search.value !== expression || this.signal.aborted) return;
    this.exact = exact;
    this.count();
  }

  matchFrames() {
    const { expression, tree } = this;
    const { frames } = tree;
    const texts = { "module:": frames.module.map((at) => frames.modules[at]), "file:": frames.file }[this.field] ?? frames.name;
    this.canvas.matches = expression ? texts.map((text) => expression.test(text)) : null;
  }

  count() {
    const { exact, canvas, tree } = this;
    if (!canvas.matches) return this.found.replaceChildren();
    const drawn = tree.matched(canvas.matches, canvas.zoomed);
    const parts = [];
    if (exact) parts.push(`${exact.frames.toLocaleString("en")} ${exact.frames === 1 ? "function" : "functions"}, ${shareText(exact.weight, exact.total)}`);
    if (canvas.zoomed || !exact) parts.push(`${shareText(drawn, tree.weight[canvas.zoomed])} of the visible part`);
    this.found.textContent = parts.join(" · ");
  }
}

/** The number of packages in the legend. */
const LEGEND = 8;

/** The packages with the largest own values. */
function packages(tree) {
  const own = new Map();
  for (let at = 1; at < tree.count; at++) {
    const name = packageOf(tree.shortName(at), tree.module(at));
    own.set(name, (own.get(name) ?? 0) + tree.own[at]);
  }
  return [...own].sort((a, b) => b[1] - a[1]).slice(0, LEGEND);
}

/** A colour and its meaning. */
function key(color, text) {
  const swatch = make("i", { "aria-hidden": "true" });
  swatch.style.background = color;
  return make("span", { class: "key" }, swatch, text);
}

/** The values of a box in both profiles and its change in percentage points; its width is their sum. */
function comparison(tree, at, value) {
  const [base, now] = tree.both(at);
  const shares = tree.shares(at);
  const points = (shares[1] - shares[0]) * 100;
  return `${value(base)} (${shareText(shares[0], 1)}) → ${value(now)} (${shareText(shares[1], 1)}) · ${points > 0 ? "+" : ""}${points.toFixed(2)} pp`;
}

/** A tree of the callers of one node and, below it, a newly sent tree. */
function grafted(tree, at, sent) {
  const path = [0, ...tree.path(at)];
  const top = path.length - 1;
  const { nodes, frames } = sent;
  const name = frames.name.concat(path.slice(1).map((node) => tree.name(node)));
  const join = (field) => path.slice(0, -1).map((node) => tree[field][node]).concat(nodes[field === "ownNet" ? "own_net" : field]);
  const shift = (numbers) => numbers.map((number) => number + top);
  const modules = frames.modules.concat(path.slice(1).map((node) => tree.module(node)));
  const frame = path.map((_, depth) => frames.name.length + depth - 1).slice(0, -1).concat(nodes.frame);
  frame[top] = frames.name.length + top - 1;
  const joined = {
    parent: path.slice(0, -1).map((_, depth) => Math.max(0, depth - 1)).concat(shift(nodes.parent)),
    frame, weight: join("weight"), own: join("own"), hidden: path.slice(0, -1).map(() => 0).concat(nodes.hidden),
    inlined: shift(nodes.inlined), net: tree.net ? join("net") : undefined, own_net: tree.net ? join("ownNet") : undefined,
  };
  joined.parent[top] = top - 1;
  const short = (frames.short ?? []).concat(path.slice(1).map((node) => tree.shortName(node)));
  return new FlameTree({ ...sent, nodes: joined, frames: {
    name, short, id: frames.id.concat(tree.numbers(at)), file: frames.file.concat(path.slice(1).map((node) => tree.file(node))),
    module: frames.module.concat(path.slice(1).map((_, depth) => frames.modules.length + depth)), modules,
  } });
}

function showHelp() {
  const keys = [["← → ↑ ↓", "move to neighbours, callers and callees"], ["Enter", "zoom to the box"], ["Escape", "reset the zoom; in the search field: clear the search"], ["/", "search"], ["Shift F10", "menu of the box"], ["?", "this list"]];
  const rows = keys.map(([key, text]) => make("tr", {}, make("td", {}, make("kbd", {}, key)), make("td", {}, text)));
  const dialog = make("dialog", { "aria-label": "Keys" }, make("h2", {}, "Keys"), make("table", {}, make("tbody", {}, ...rows)),
    make("p", { class: "quiet" }, "A bar along the edge of a box marks an inlined function. Each package or library has a colour."),
    make("form", { method: "dialog" }, make("p", { class: "buttons" }, make("button", { class: "main" }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

export { quoted };
