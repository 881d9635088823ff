// Changes the address, and with it what is shown.

import { parameters } from "./data.js";

/** An address of a view with the settings there are now, changed by `changes`; null takes one away. */
export function addressOf(view, changes = {}) {
  const query = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `${view}${text ? `?${text}` : ""}`;
}

/** Goes there without loading the page again. */
export function goTo(address) {
  history.pushState(null, "", address);
  window.dispatchEvent(new Event("rprof:go"));
}

/** The view that is shown, with other settings. */
export function change(changes) {
  goTo(addressOf(location.pathname.split("/").pop(), changes));
}

/** Changes the address without showing anything anew. */
export function note(changes, isStep) {
  const address = addressOf(location.pathname.split("/").pop(), changes);
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
