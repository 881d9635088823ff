// Asks the server for data, and keeps what the address says.

/** Parameters of the address that ask for something, as the reference names them; the rest is the page's own. */
export const SETTINGS = [
  "f", "i", "h", "s", "sf", "prunefrom", "tf", "ti", "ts", "th", "si", "g", "sort", "n", "nf", "ef", "trim",
  "calltree", "rel", "unit", "compact", "intel", "mean", "norm", "dropneg", "noinlines", "showcolumns", "in", "vs",
];

/** What the address asks for. */
export function parameters() {
  return new URLSearchParams(location.search);
}

/** The address's settings, for a question about data; `more` comes on top. */
export function settings(more = {}) {
  const asked = new URLSearchParams();
  for (const [name, value] of parameters()) if (SETTINGS.includes(name)) asked.append(name, value);
  for (const [name, value] of Object.entries(more)) {
    if (value === null || value === "") asked.delete(name);
    else asked.set(name, value);
  }
  return asked;
}

/** Asks for `api/<name>`. What went wrong becomes an error with the server's words. */
export function ask(name, query, as = "json") {
  return answerOf(`api/${name}?${query ?? settings()}`, { headers: { Accept: "application/json" } }, as);
}

/** Asks for an address, and gives the answer as JSON or text. */
export async function answerOf(address, options, as = "json") {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("rprof does not answer any more. Was it stopped?");
  }
  if (answer.ok) return as === "json" ? answer.json() : answer.text();
  const text = await answer.text();
  let why = text;
  try {
    why = JSON.parse(text).error;
  } catch {
    // It is plain text.
  }
  throw new Error(why);
}
