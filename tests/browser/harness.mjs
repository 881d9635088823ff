// The harness of the browser tests: pages that record errors, screenshots, assertions for every page.
//
// The tests run as `node X.mjs ADDRESS [FOLDER]`; screenshots go to FOLDER. Not here: the tests.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const [address, folder] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
const problems = [];

/** Creates pages that record every error, except console messages that match `expected`. */
export function pages(viewport, expected) {
  return async (options = {}) => {
    // axe is injected into the page; only pages that need it bypass the content security policy.
    const context = await browser.newContext({ viewport, ...options });
    const page = await context.newPage();
    page.on("pageerror", (error) => problems.push(`${page.url()}: ${error.message}`));
    page.on("console", (message) => message.type() === "error" && !expected.test(message.text()) && problems.push(`${page.url()}: ${message.text()}`));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(address) && !/^(blob|data):/.test(url)) problems.push(`request to another server: ${url}`);
    });
    page.on("dialog", (dialog) => {
      problems.push(`a script in a name ran: ${dialog.message()}`);
      dialog.dismiss();
    });
    return page;
  };
}

export const shot = async (page, name, more = {}) => folder && page.screenshot({ path: `${folder}/${name}.png`, ...more });

/** Asserts that nothing is wider than the window. */
export async function assertFits(page, what) {
  const [contentWidth, windowWidth] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(contentWidth <= windowWidth + 1, `${what} is ${contentWidth} px wide`);
}

/** Asserts that axe finds no serious violation. */
export async function assertAccessible(page, what) {
  await page.addScriptTag({ path: axe });
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), [], what);
}

/** Runs the checks one after another, prints each result, and exits. */
export async function run(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const began = performance.now();
    problems.length = 0;
    try {
      await check();
      assert.deepEqual(problems, []);
      console.log(`ok    ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.message}\n${problems.join("\n")}`);
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
}
