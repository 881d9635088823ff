// What is selected in a view or searched for: what menus act on.

import { quoted } from "./dom.js";

const names = new Set();
let searched = "";

/** The names selected in this view. */
export function selected() {
  return names;
}

export function clearSelection() {
  names.clear();
  searched = "";
}

/** Selects a name, or lets it go. */
export function toggle(name) {
  if (!names.delete(name)) names.add(name);
}

export function setSearched(expression) {
  searched = expression;
}

/** A regular expression for what is selected, else what is searched for; empty: neither. */
export function selection() {
  if (!names.size) return searched;
  return [...names].map((name) => `^${quoted(name)}$`).join("|");
}
