// The page on which profiles are captured: its forms ask for a profile here, wait, and go where it is shown.
// Without this script they download it.

import { answerOf } from "./data.js";
import { make, say } from "./dom.js";
import { startTheme, themeButton } from "./theme.js";

/** How often progress is shown, in milliseconds. */
const TICK_MS = 100;
/** So many processes and a field to filter them is of use. */
const MANY = 8;
/** What is being captured now. */
const running = new Set();

/** Captures what a form asks for. A capture ends when its question is given up. */
async function capture(form) {
  const asked = new URLSearchParams(new FormData(form));
  asked.set("kind", form.dataset.kind);
  const stop = new AbortController();
  form.querySelector(".trouble")?.remove();
  const end = showProgress(form, Number(asked.get("seconds")), stop);
  running.add(stop);
  try {
    const { number } = await answerOf(`capture?${asked}`, { method: "POST", signal: stop.signal });
    running.delete(stop);
    // Leaving this page would end the others.
    if (running.size) await refresh();
    else location.assign(`${form.dataset.view}?in=${number}`);
  } catch (error) {
    const why = stop.signal.aborted ? "Given up: nothing was kept." : error.message.trim();
    form.append(make("p", { class: stop.signal.aborted ? "trouble quiet" : "trouble", role: "alert" }, why));
  } finally {
    running.delete(stop);
    end();
  }
}

/** Shows how far a capture is, and how to end it. Gives what takes that away. */
function showProgress(form, seconds, stop) {
  const button = form.querySelector(".ask button");
  const bar = make("progress", { max: seconds || 1, "aria-label": `${form.dataset.kind} is captured` });
  const text = make("span");
  const box = make("div", { class: "run" }, bar, text, make("button", { type: "button", onclick: () => stop.abort() }, "Cancel"));
  const began = performance.now();
  const show = () => {
    const passed = (performance.now() - began) / 1000;
    if (seconds && passed < seconds) {
      bar.value = passed;
      text.textContent = `${Math.floor(passed)} of ${seconds} s`;
    } else {
      bar.removeAttribute("value");
      text.textContent = seconds ? "naming …" : "one moment …";
    }
  };
  button.disabled = true;
  form.append(box);
  show();
  const timer = setInterval(show, TICK_MS);
  return () => {
    clearInterval(timer);
    box.remove();
    button.disabled = false;
  };
}

/** The list of what was captured, as it is now. */
async function refresh() {
  try {
    const page = new DOMParser().parseFromString(await answerOf(location.href, {}, "text"), "text/html");
    for (const part of ["#captured", ".jump"]) document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
  } catch (error) {
    say(error.message, true);
  }
}

/** A field that leaves processes out whose row does not have its text. */
function filterField() {
  const rows = [...document.querySelectorAll(".processes tbody tr")];
  if (rows.length < MANY) return;
  const field = make("input", { type: "search", placeholder: "Name, PID or command", "aria-label": "Filter processes", oninput: () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  } });
  document.getElementById("filter").append(field);
}

startTheme();
document.getElementById("theme").append(themeButton());
filterField();
for (const form of document.querySelectorAll("form[data-kind]")) {
  form.addEventListener("submit", (event) => {
    if (event.submitter?.hasAttribute("data-download")) return;
    event.preventDefault();
    capture(form);
  });
}
// A page that the browser kept shows an old list.
window.addEventListener("pageshow", (event) => event.persisted && refresh());
