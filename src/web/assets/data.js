// Requests data from the server, with the settings of the URL.

/** The URL parameters that the server reads, named as in the reference. Other parameters belong to the page. */
export const SETTINGS = [
  "f", "i", "h", "s", "sf", "prunefrom", "tf", "ti", "ts", "th", "si", "g", "sort", "n", "nf", "ef", "trim",
  "calltree", "rel", "unit", "compact", "intel", "mean", "norm", "dropneg", "noinlines", "showcolumns", "in", "vs",
];

/** The parameters of the URL. */
export function parameters() {
  return new URLSearchParams(location.search);
}

/** The settings of the URL, as parameters of a request for data; `more` overrides them. */
export function settings(more = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of parameters()) if (SETTINGS.includes(name)) query.append(name, value);
  for (const [name, value] of Object.entries(more)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  return query;
}

/** Requests `api/<name>`. A failure is thrown as an error with the server's message. */
export function request(name, query, as = "json") {
  return fetchResponse(`api/${name}?${query ?? settings()}`, { headers: { Accept: "application/json" } }, as);
}

/** Fetches a URL and returns the response as JSON or text. */
export async function fetchResponse(address, options, as = "json") {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("rprof does not respond. Is it still running?");
  }
  if (response.ok) return as === "json" ? response.json() : response.text();
  const text = await response.text();
  let why = text;
  try {
    why = JSON.parse(text).error;
  } catch {
    // The body is plain text.
  }
  throw new Error(why);
}
