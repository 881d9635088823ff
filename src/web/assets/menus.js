// The menus of the bar.

import { request, parameters, settings, SETTINGS } from "./data.js";
import { make, quoted, save, say } from "./dom.js";
import { addressOf, change } from "./navigate.js";
import { selection } from "./selection.js";

/** A menu that opens on a click and closes on Escape, on a choice and on a click elsewhere. */
export function menu(label, fill) {
  const list = make("div", { class: "menu-items", role: "menu", hidden: true });
  const button = make("button", { "aria-haspopup": "menu", "aria-expanded": "false" }, label);
  const close = () => {
    list.hidden = true;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
  };
  const outside = (event) => {
    if (!box.contains(event.target)) close();
  };
  const open = async () => {
    list.replaceChildren(...(await fill(close)));
    list.hidden = false;
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    items(list)[0]?.focus();
  };
  button.addEventListener("click", () => (list.hidden ? open() : close()));
  list.addEventListener("click", (event) => {
    if (event.target.closest("[role^=menuitem]:not([data-stay])")) close();
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      button.focus();
    } else moveFocus(event, items(list));
  });
  const box = make("div", { class: "menu" }, button, list);
  return box;
}

const items = (list) => [...list.querySelectorAll("[role^=menuitem]")];

export function moveFocus(event, all) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !all.length) return;
  event.preventDefault();
  all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
}

export function item(text, action, isChosen) {
  const attributes = { role: isChosen === undefined ? "menuitem" : "menuitemradio", onclick: action };
  if (isChosen !== undefined) attributes["aria-checked"] = String(isChosen);
  return make("button", attributes, text);
}

export function sampleMenu(info) {
  if (info.kinds.length < 2) return null;
  const wanted = parameters().get("si");
  const chosen = info.kinds.findIndex((kind, at) => kind.name === wanted || String(at) === wanted);
  const now = chosen < 0 ? info.default_kind : chosen;
  return menu(`Sample: ${info.kinds[now]?.name ?? ""}`, () =>
    info.kinds.map((kind, at) => item(`${kind.name} (${kind.unit})`, () => change({ si: kind.name }), at === now)));
}

const REFINE = [["Focus", "f", false], ["Ignore", "i", true], ["Hide", "h", true], ["Show", "s", false], ["Show from", "sf", false]];

/** Sets or extends a filter with the selection or the search. */
function refine(name, adds, expression) {
  const before = parameters().get(name);
  change({ [name]: adds && before ? `${before}|${expression}` : expression });
}

export function refineItems(expression) {
  return REFINE.map(([text, name, adds]) => item(text, () => refine(name, adds, expression)));
}

export function refineMenu() {
  return menu("Refine", (close) => {
    const expression = selection();
    const reset = item("Reset", () => change(Object.fromEntries(SETTINGS.slice(0, 10).map((name) => [name, null]))));
    if (expression) return [make("p", { class: "hint" }, `Functions: ${expression}`), ...refineItems(expression), reset, ...options(close)];
    return [make("p", { class: "hint" }, "Search for functions or select them first."), reset, ...options(close)];
  });
}

const CHOICES = {
  g: ["Group by", [["", "default"], ["functions", "functions"], ["filefunctions", "functions by file"], ["files", "files"], ["lines", "lines"], ["addresses", "addresses"]]],
  sort: ["Sort by", [["", "default"], ["flat", "flat (own value)"], ["cum", "cum (with callees)"]]],
};
const TEXTS = {
  f: "Focus", i: "Ignore", h: "Hide", s: "Show", sf: "Show from", prunefrom: "Prune from",
  tf: "Tag focus", ti: "Tag ignore", ts: "Tag show", th: "Tag hide", unit: "Unit (ms, MB …)", n: "Max rows", nf: "Hide functions below (share)", ef: "Hide edges below (share)",
};
const SWITCHES = { trim: "Hide small entries", calltree: "Graph as a call tree", rel: "Percentages of the filtered total", noinlines: "Count inlined functions as their callers", mean: "Average per sample", dropneg: "Drop negative values", showcolumns: "Show columns" };

/** The entry that opens the dialog of all settings. */
function options(close) {
  const open = item("All options …", () => {
    close();
    optionsDialog();
  });
  return [make("hr"), open];
}

function optionsDialog() {
  const query = parameters();
  const fields = [];
  for (const [name, [text, choices]] of Object.entries(CHOICES)) {
    const select = make("select", { name }, ...choices.map(([value, label]) => make("option", { value, selected: query.get(name) === value }, label)));
    fields.push(make("label", {}, text, select));
  }
  for (const [name, text] of Object.entries(TEXTS))
    fields.push(make("label", {}, text, make("input", { name, value: query.get(name) ?? "", spellcheck: "false" })));
  for (const [name, text] of Object.entries(SWITCHES)) {
    const value = query.get(name) ?? "";
    const isOn = name === "trim" ? !/^(f|false|0|n|no)$/i.test(value) : /^(t|true|1|y|yes)$/i.test(value);
    fields.push(make("label", { class: "switch" }, make("input", { type: "checkbox", name, checked: isOn }), text));
  }
  const form = make("form", { method: "dialog" }, make("h2", {}, "Options"), make("div", { class: "fields" }, ...fields),
    make("p", { class: "buttons" }, make("button", { value: "no" }, "Cancel"), make("button", { value: "yes", class: "main" }, "Apply")));
  const dialog = make("dialog", { "aria-label": "Options" }, form);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue === "yes") change(formSettings(form));
  });
  document.body.append(dialog);
  dialog.showModal();
}

function formSettings(form) {
  const changes = {};
  for (const field of form.querySelectorAll("[name]")) {
    if (field.type !== "checkbox") changes[field.name] = field.value || null;
    else if (field.name === "trim") changes.trim = field.checked ? null : "false";
    else changes[field.name] = field.checked ? "true" : null;
  }
  return changes;
}

export function configMenu() {
  return menu("Config", async (close) => {
    const { configs } = await request("configs");
    const rows = configs.map((config) => {
      const chosen = item(config.name, () => change({ ...cleared(), ...config.settings }), config.current);
      const remove = item("🗙", async () => send("deleteconfig", { config: config.name }));
      remove.setAttribute("aria-label", `Delete ${config.name}`);
      return make("div", { class: "row" }, chosen, config.is_own ? remove : null);
    });
    return [item("Save as …", () => saveDialog(close)), ...rows];
  });
}

const cleared = () => Object.fromEntries(SETTINGS.map((name) => [name, null]));

function saveDialog() {
  const name = make("input", { name: "name", required: true, "aria-label": "Name" });
  const form = make("form", { method: "dialog" }, make("h2", {}, "Save these settings as"), name,
    make("p", { class: "buttons" }, make("button", { value: "no", formnovalidate: true }, "Cancel"), make("button", { value: "yes", class: "main" }, "Save")));
  const dialog = make("dialog", { "aria-label": "Save settings" }, form);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue === "yes") send("saveconfig", { config: name.value });
  });
  document.body.append(dialog);
  dialog.showModal();
}

async function send(what, more) {
  const response = await fetch(`${what}?${settings(more)}`, { method: "POST" });
  say(response.ok ? "Done." : JSON.parse(await response.text()).error, !response.ok);
}

export function downloadMenu() {
  return menu("Download", () => [
    item("Profile (protobuf)", () => (location.href = `download?${settings()}`)),
    ...exports.map(([text, action]) => item(text, action)),
    item("Copy link", () => navigator.clipboard?.writeText(new URL(addressOf(location.pathname.split("/").pop()), location.href).href)),
  ]);
}

/** The downloads of the current view: labels and actions. */
export const exports = [];
export { quoted, save };
