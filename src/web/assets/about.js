// Facts about the profile, and the choice among several profiles.

import { make } from "./dom.js";
import { change } from "./navigate.js";

export function titleButton(info) {
  const show = () => {
    const lines = info.lines.map((line) => make("li", {}, line));
    const help = /^https?:\/\//.test(info.doc_url) ? make("p", {}, make("a", { href: info.doc_url, rel: "noopener noreferrer", target: "_blank" }, "About profiles of this kind ⇗")) : null;
    const dialog = make("dialog", { "aria-label": "About this profile" }, make("h2", {}, info.name), make("ul", { class: "facts" }, ...lines), help,
      make("form", { method: "dialog" }, make("p", { class: "buttons" }, make("button", { class: "main" }, "Close"))));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  return make("button", { class: "title", title: "About this profile", onclick: show }, make("strong", {}, "rprof"), make("span", {}, info.name), make("span", { class: "more-facts", "aria-hidden": "true" }, "about"));
}

export function profileChooser(info) {
  if (info.profiles.length < 2) return null;
  const options = info.profiles.map(({ number, name }) => make("option", { value: String(number), selected: number === info.number }, name));
  return make("select", { "aria-label": "Profile", onchange: (event) => change({ in: event.target.value, p: null, from: null, until: null }) }, ...options);
}
