// Zoom, search and details for the flame graph in whose SVG this stands. Names of functions come
// from the profiled program: they are read and written as text only, never as markup.
"use strict";
(() => {
  const svg = document.querySelector("svg");
  const head = document.getElementById("head");
  const info = document.getElementById("info");
  const framesGroup = document.getElementById("frames");
  const XHTML = "http://www.w3.org/1999/xhtml";
  const CHAR_PX = 6.65;
  const PADDING_PX = 6;
  // Positions are written with four digits: what touches may seem to overlap by that much.
  const SLACK = 0.0003;

  // Every box, row by row from the root: {group, rect, text, name, label, named, depth, x, width} with x and width
  // in percent of the whole.
  const boxes = [];
  [...framesGroup.children].forEach((row, depth) => {
    for (const group of row.children) {
      const rect = group.querySelector("rect");
      const name = group.querySelector("title").textContent.split("\n", 1)[0];
      const x = parseFloat(rect.getAttribute("x"));
      const width = parseFloat(rect.getAttribute("width"));
      // The box of all samples and those of "37 smaller" are nobody's name.
      const named = depth > 0 && !group.classList.contains("rest");
      // The label folds template arguments; the name, which the search looks in, has them.
      const label = group.getAttribute("data-label") ?? name;
      const box = { group, rect, text: group.querySelector("text"), name, label, named, depth, x, width };
      group.box = box;
      boxes.push(box);
    }
  });
  const legend = [...info.childNodes];
  const pictureHeight = Number(svg.getAttribute("height"));
  let zoomed = boxes[0];
  let pattern = null;

  // ---- showing

  const contains = (outer, inner) =>
    outer.x <= inner.x + SLACK && outer.x + outer.width >= inner.x + inner.width - SLACK;

  // The beginning and the end of a long name; where there is room for a few letters, the beginning.
  function shorten(name, room) {
    const letters = Array.from(name);
    if (letters.length <= room) return name;
    const tail = room < 10 ? 0 : Math.floor((room - 1) / 2);
    return letters.slice(0, room - 1 - tail).join("") + "…" + letters.slice(letters.length - tail).join("");
  }

  function showBox(box, x, width, windowPx) {
    box.rect.setAttribute("x", x + "%");
    box.rect.setAttribute("width", width + "%");
    const room = Math.floor((width / 100 * windowPx - PADDING_PX) / CHAR_PX);
    if (room < 2) {
      if (box.text) box.text.style.display = "none";
      return;
    }
    if (!box.text) {
      box.text = document.createElementNS(svg.namespaceURI, "text");
      box.text.setAttribute("dx", "3");
      box.text.setAttribute("y", "12.5");
      box.group.appendChild(box.text);
    }
    box.text.style.display = "";
    box.text.setAttribute("x", x + "%");
    box.text.textContent = shorten(box.label, room);
  }

  function show() {
    const windowPx = svg.clientWidth || window.innerWidth;
    for (const box of boxes) {
      const above = box.depth < zoomed.depth && contains(box, zoomed);
      const inside = box.depth >= zoomed.depth && contains(zoomed, box);
      box.group.style.display = above || inside ? "" : "none";
      box.group.classList.toggle("above", above);
      if (above) showBox(box, 0, 100, windowPx);
      if (inside) showBox(box, (box.x - zoomed.x) / zoomed.width * 100, box.width / zoomed.width * 100, windowPx);
    }
    resetButton.disabled = zoomed === boxes[0];
    // The page, which has a colour of its own, fills the window.
    svg.setAttribute("height", Math.max(pictureHeight, window.innerHeight));
    placeTools(windowPx);
  }

  function zoom(box) {
    zoomed = box;
    show();
    search(pattern);
    remember();
  }

  // ---- search

  // The share of the shown part that lies in matching boxes; what lies in two counts once.
  function matchedPercent(hits) {
    const spans = hits
      .filter((box) => box.depth >= zoomed.depth && contains(zoomed, box))
      .sort((a, b) => a.x - b.x || b.width - a.width);
    let sum = 0;
    let end = -1;
    for (const { x, width } of spans) {
      if (x + width <= end + SLACK) continue;
      sum += width - Math.max(0, end - x);
      end = x + width;
    }
    // A match above the zoomed box matches all of it.
    const above = hits.some((box) => box.depth < zoomed.depth && contains(box, zoomed));
    return above ? 100 : Math.min(100, sum / zoomed.width * 100);
  }

  function compile(text) {
    try {
      input.classList.remove("bad");
      return new RegExp(text, /[A-Z]/.test(text) ? "" : "i");
    } catch {
      // Not an expression (yet): taken literally, as names like operator() and Vec<T>[] suggest.
      input.classList.add("bad");
      return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
    }
  }

  function search(text) {
    pattern = text || null;
    const expression = pattern && compile(pattern);
    const hits = [];
    for (const box of boxes) {
      const hit = expression !== null && box.named && expression.test(box.name);
      if (hit) hits.push(box);
      box.group.classList.toggle("hit", hit);
      box.group.classList.toggle("miss", expression !== null && !hit);
    }
    if (expression === null) input.classList.remove("bad");
    matched.textContent = expression === null ? "" : "matched " + matchedPercent(hits).toFixed(2) + "%";
  }

  // ---- details

  function showInfo(box) {
    if (!box) {
      info.replaceChildren(...legend);
      return;
    }
    const [name, ...rest] = box.group.querySelector("title").textContent.split("\n");
    let details = rest.join(" · ");
    if (zoomed !== boxes[0] && box.depth >= zoomed.depth) {
      details += " · " + (box.width / zoomed.width * 100).toFixed(2) + "% of the part shown";
    }
    // The name last: it may be longer than the window.
    const shownName = document.createElementNS(svg.namespaceURI, "tspan");
    shownName.setAttribute("class", "name");
    shownName.textContent = name;
    info.replaceChildren(details + "   ", shownName);
  }

  // ---- tools: made here, so that a still picture has no dead buttons

  const make = (tag, properties) => Object.assign(document.createElementNS(XHTML, tag), properties);
  const holder = document.createElementNS(svg.namespaceURI, "foreignObject");
  holder.setAttribute("height", "36");
  holder.setAttribute("width", "448");
  holder.setAttribute("y", "6");
  const tools = make("div", { id: "tools" });
  const matched = make("span", { id: "matched" });
  const input = make("input", { type: "search", placeholder: "search, regex (Ctrl-F)", spellcheck: false });
  const resetButton = make("button", { textContent: "reset zoom", title: "Esc" });
  tools.append(matched, input, resetButton);
  holder.appendChild(tools);
  head.appendChild(holder);

  function placeTools(windowPx) {
    holder.setAttribute("x", Math.max(0, windowPx - 454));
  }

  // ---- the address keeps what is shown: #z=<box>&s=<search>

  function remember() {
    const parts = [];
    if (zoomed !== boxes[0]) parts.push("z=" + boxes.indexOf(zoomed));
    if (pattern) parts.push("s=" + encodeURIComponent(pattern));
    try {
      history.replaceState(null, "", "#" + parts.join("&"));
    } catch {
      // Some ways of opening a file have no history. Nothing is lost but the address.
    }
  }

  function recall() {
    const asked = new URLSearchParams(location.hash.slice(1));
    zoomed = boxes[Number(asked.get("z"))] || boxes[0];
    input.value = asked.get("s") || "";
    show();
    search(input.value);
  }

  // ---- events

  framesGroup.addEventListener("click", (event) => {
    const box = event.target.closest("#frames > g > g")?.box;
    if (box) zoom(box);
  });
  framesGroup.addEventListener("mouseover", (event) => showInfo(event.target.closest("#frames > g > g")?.box));
  framesGroup.addEventListener("mouseleave", () => showInfo(null));
  input.addEventListener("input", () => {
    search(input.value);
    remember();
  });
  resetButton.addEventListener("click", () => zoom(boxes[0]));
  window.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "f") {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === "Escape" && input.value) {
      input.value = "";
      search("");
      remember();
    } else if (event.key === "Escape") {
      zoom(boxes[0]);
    }
  });
  window.addEventListener("hashchange", recall);
  window.addEventListener("resize", show);
  window.addEventListener("scroll", () => head.setAttribute("transform", "translate(0," + window.scrollY + ")"));

  svg.removeAttribute("viewBox");
  svg.setAttribute("width", "100%");
  recall();
})();
