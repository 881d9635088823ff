// The light or dark theme: the preference of the system, unless chosen here.

import { make } from "./dom.js";

const KEY = "rprof-theme";

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function isDark() {
  return (stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

function apply() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  window.dispatchEvent(new Event("rprof:theme"));
}

export function startTheme() {
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
}

export function themeButton() {
  const change = () => {
    try {
      localStorage.setItem(KEY, isDark() ? "light" : "dark");
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    apply();
  };
  return make("button", { class: "icon", title: "Light or dark", "aria-label": "Light or dark", onclick: change }, "◐");
}
