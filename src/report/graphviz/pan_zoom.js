// Moves and zooms the drawing: drag, wheel (or pinch), double click to see all of it again.
(function () {
  "use strict";
  function start() {
    var root = document.documentElement;
    var view = document.getElementById("viewport");
    if (!view || !view.getCTM) return;
    var at = { x: 0, y: 0, scale: 1 };
    var fingers = new Map();

    function show() {
      view.setAttribute("transform",
        "translate(" + at.x + "," + at.y + ") scale(" + at.scale + ")");
    }
    // All of it, in the middle, no bigger than it was drawn.
    function fit() {
      view.removeAttribute("transform");
      var box = view.getBBox(), margin = 10;
      var width = root.clientWidth || window.innerWidth;
      var height = root.clientHeight || window.innerHeight;
      if (!box.width || !box.height || !width || !height) return;
      at.scale = Math.min(1, (width - 2 * margin) / box.width, (height - 2 * margin) / box.height);
      at.x = (width - box.width * at.scale) / 2 - box.x * at.scale;
      at.y = margin - box.y * at.scale;
      show();
    }
    // What is under (x, y) stays there.
    function zoom(factor, x, y) {
      var scale = Math.min(50, Math.max(0.01, at.scale * factor));
      factor = scale / at.scale;
      at.x = x - (x - at.x) * factor;
      at.y = y - (y - at.y) * factor;
      at.scale = scale;
      show();
    }
    // The middle of the fingers, and how far apart they are.
    function grip() {
      var x = 0, y = 0, apart = 0;
      fingers.forEach(function (f) { x += f.x; y += f.y; });
      x /= fingers.size; y /= fingers.size;
      fingers.forEach(function (f) { apart += Math.hypot(f.x - x, f.y - y); });
      return { x: x, y: y, apart: apart };
    }

    root.addEventListener("wheel", function (e) {
      e.preventDefault();
      var unit = e.deltaMode === 1 ? 16 : e.deltaMode === 2 ? 400 : 1;
      zoom(Math.pow(1.0015, -e.deltaY * unit), e.clientX, e.clientY);
    }, { passive: false });
    root.addEventListener("pointerdown", function (e) {
      if (e.button !== 0) return;
      fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    });
    root.addEventListener("pointermove", function (e) {
      if (!fingers.has(e.pointerId)) return;
      var before = grip();
      fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
      var now = grip();
      at.x += now.x - before.x;
      at.y += now.y - before.y;
      show();
      if (before.apart > 0 && now.apart > 0) zoom(now.apart / before.apart, now.x, now.y);
      e.preventDefault();
    });
    ["pointerup", "pointercancel", "pointerleave"].forEach(function (name) {
      root.addEventListener(name, function (e) { fingers.delete(e.pointerId); });
    });
    root.addEventListener("dblclick", fit);
    root.style.touchAction = "none";
    root.style.cursor = "grab";
    fit();
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
