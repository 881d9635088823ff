// Saves a flame graph: the visible part as SVG and PNG, everything that was sent as folded stacks.

import { save } from "./dom.js";

export function flameExports(flame) {
  const { canvas } = flame;
  return [
    ["Flame graph (SVG)", () => save("flame.svg", "image/svg+xml", svg(canvas))],
    ["Flame graph (PNG)", () => canvas.canvas.toBlob((blob) => save("flame.png", "image/png", blob))],
    ["Folded stacks", () => save("stacks.folded", "text/plain", flame.tree.folded())],
  ];
}

/** The drawing of a canvas as SVG. */
function svg(flame) {
  const recorder = new Recorder(flame.context);
  flame.paint(recorder, 1);
  flame.draw();
  const { width, height } = flame;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="system-ui, sans-serif" font-size="12">${recorder.parts.join("\n")}</svg>\n`;
}

/** Records the drawing calls as SVG elements. */
class Recorder {
  constructor(context) {
    this.measures = context;
    this.parts = [];
    this.globalAlpha = 1;
  }

  setTransform() {}

  fillRect(x, y, width, height) {
    const edge = [x, y, width, height].map((number) => number.toFixed(2));
    this.parts.push(`<rect x="${edge[0]}" y="${edge[1]}" width="${edge[2]}" height="${edge[3]}" fill="${this.fillStyle}" opacity="${this.globalAlpha.toFixed(2)}"/>`);
  }

  strokeRect() {}

  fillText(text, x, y) {
    this.parts.push(`<text x="${x.toFixed(2)}" y="${y.toFixed(2)}" fill="${this.fillStyle}" dominant-baseline="middle">${escaped(text)}</text>`);
  }

  measureText(text) {
    return this.measures.measureText(text);
  }
}

function escaped(text) {
  const known = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  // XML forbids control characters.
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f]/g, "\ufffd").replace(/[&<>"]/g, (letter) => known[letter]);
}
