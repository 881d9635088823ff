// Changes the URL, and with it the view.

import { parameters } from "./data.js";

/** The URL of a view with the current settings and `changes`; null removes a setting. */
export function addressOf(view, changes = {}) {
  const query = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `${view}${text ? `?${text}` : ""}`;
}

/** Goes to a URL without reloading the page. */
export function goTo(address) {
  history.pushState(null, "", address);
  window.dispatchEvent(new Event("rprof:go"));
}

/** Shows the current view with changed settings. */
export function change(changes) {
  goTo(addressOf(location.pathname.split("/").pop(), changes));
}

/** Changes the URL without changing the view. */
export function note(changes, isStep) {
  const address = addressOf(location.pathname.split("/").pop(), changes);
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
