// Formats values for people.

const SCALES = {
  nanoseconds: [["ns", 1], ["µs", 1e3], ["ms", 1e6], ["s", 1e9], ["min", 60e9], ["h", 3600e9]],
  bytes: [["B", 1], ["kB", 1024], ["MB", 1024 ** 2], ["GB", 1024 ** 3], ["TB", 1024 ** 4]],
};
const TIMES = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, seconds: 1e9, milliseconds: 1e6, microseconds: 1e3 };
const SIZES = { b: 1, kb: 1024, mb: 1024 ** 2, gb: 1024 ** 3 };
const WORDS = new Set(["", "count", "sample", "samples", "unit", "minimum", "auto"]);

function scaled(value, unit) {
  const name = unit.toLowerCase();
  if (TIMES[name]) return [value * TIMES[name], SCALES.nanoseconds];
  if (SIZES[name]) return [value * SIZES[name], SCALES.bytes];
  return [value, SCALES[name]];
}

function digits(number) {
  const size = Math.abs(number);
  const count = size >= 100 || size === 0 || Number.isInteger(number) ? 0 : size >= 10 ? 1 : 2;
  return number.toLocaleString("en", { minimumFractionDigits: count, maximumFractionDigits: count });
}

/** `1.25 s` for 1250000000 nanoseconds; counts get separators. `wanted` forces a unit. */
export function valueText(value, unit, wanted = "") {
  const [number, scales] = scaled(value, unit);
  if (!scales) {
    const word = WORDS.has(unit.toLowerCase()) ? "" : ` ${unit}`;
    return number.toLocaleString("en") + word;
  }
  const chosen = scales.find(([name]) => name.toLowerCase() === wanted.toLowerCase().replace(/^us$/, "µs"));
  const fitting = chosen ?? scales.findLast(([, size]) => Math.abs(number) >= size) ?? scales[0];
  return `${digits(number / fitting[1])} ${fitting[0]}`;
}

/** `12.3%`, with three significant digits. */
export function shareText(part, whole) {
  if (!whole) return "–";
  const share = (part / whole) * 100;
  const size = Math.abs(share);
  if (size > 0 && size < 0.01) return "<0.01%";
  return `${share.toFixed(size >= 99.95 || size === 0 ? 0 : size >= 10 ? 1 : 2)}%`;
}
