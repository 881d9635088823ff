// Makes elements. Names from profiles are anybody's choice: they only ever become text.

/** An element: `make("td", { class: "number" }, "12", child)`; `onclick` and the like are listeners. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Shows a text for a while where everybody looks, and screen readers read it. */
export function say(text, isTrouble = false) {
  const notes = document.getElementById("notes");
  if (!text) return notes.replaceChildren();
  const close = make("button", { class: "plain", "aria-label": "Close", onclick: () => note.remove() }, "×");
  const note = make("p", { class: isTrouble ? "note trouble" : "note" }, text, close);
  notes.replaceChildren(note);
}

/** Saves bytes or text as a file. */
export function save(name, type, content) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const address = URL.createObjectURL(blob);
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** What a regular expression needs to match just this text. */
export function quoted(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
