// The input field of views that show the functions that match an expression.

import { make } from "./dom.js";
import { change } from "./navigate.js";

export function expressionForm(what, expression) {
  const field = make("input", { type: "search", value: expression, placeholder: "Functions (regexp)   /", "aria-label": `Functions to ${what}, as a regular expression`, spellcheck: "false", autocapitalize: "off" });
  const go = (event) => {
    event.preventDefault();
    change({ re: field.value || null });
  };
  return make("form", { class: "tools", onsubmit: go }, field, make("button", { class: "main" }, "Show"));
}
