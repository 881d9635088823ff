// The selected or searched functions, on which the menus act.

import { quoted } from "./dom.js";

const names = new Set();
let searched = "";

/** The selected names. */
export function selected() {
  return names;
}

export function clearSelection() {
  names.clear();
  searched = "";
}

/** Selects or deselects a name. */
export function toggle(name) {
  if (!names.delete(name)) names.add(name);
}

export function setSearched(expression) {
  searched = expression;
}

/** A regular expression for the selection, else the search expression; empty: neither. */
export function selection() {
  if (!names.size) return searched;
  return [...names].map((name) => `^${quoted(name)}$`).join("|");
}
