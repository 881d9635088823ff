// Creates elements. Names in profiles are hostile input: they only become text nodes and attributes.

/** Creates an element: `make("td", { class: "number" }, "12", child)`. `onclick` etc. add listeners. */
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

/** Shows a message at the top of the page, also to screen readers. */
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

/** A regular expression that matches exactly this text. */
export function quoted(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
