// The page that captures profiles: its forms request a capture, show the progress, and open the profile.
// Without this script the forms download the profile.

import { fetchResponse } from "./data.js";
import { make, say } from "./dom.js";
import { startTheme, themeButton } from "./theme.js";

/** The interval of progress updates, in milliseconds. */
const TICK_MS = 100;
/** The number of processes from which on the list has a filter field. */
const MANY = 8;
/** The captures that are running. */
const running = new Set();

/** Captures the profile of a form. Aborting the request cancels the capture. */
async function capture(form) {
  const query = new URLSearchParams(new FormData(form));
  query.set("kind", form.dataset.kind);
  const stop = new AbortController();
  form.querySelector(".trouble")?.remove();
  const end = showProgress(form, Number(query.get("seconds")), stop);
  running.add(stop);
  try {
    const { number } = await fetchResponse(`capture?${query}`, { method: "POST", signal: stop.signal });
    running.delete(stop);
    // Leaving this page would cancel the other captures.
    if (running.size) await refresh();
    else location.assign(`${form.dataset.view}?in=${number}`);
  } catch (error) {
    const why = stop.signal.aborted ? "Cancelled. No profile was saved." : error.message.trim();
    form.append(make("p", { class: stop.signal.aborted ? "trouble quiet" : "trouble", role: "alert" }, why));
  } finally {
    running.delete(stop);
    end();
  }
}

/** Shows the progress of a capture and a button to cancel it. Returns a function that removes both. */
function showProgress(form, seconds, stop) {
  const button = form.querySelector(".action button");
  const bar = make("progress", { max: seconds || 1, "aria-label": `Capturing ${form.dataset.kind}` });
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
      text.textContent = seconds ? "resolving names …" : "capturing …";
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

/** Updates the list of captured profiles. */
async function refresh() {
  try {
    const page = new DOMParser().parseFromString(await fetchResponse(location.href, {}, "text"), "text/html");
    for (const part of ["#captured", ".jump"]) document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
  } catch (error) {
    say(error.message, true);
  }
}

/** A field that hides processes whose row does not contain its text. */
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
// A page from the back/forward cache shows an old list.
window.addEventListener("pageshow", (event) => event.persisted && refresh());
