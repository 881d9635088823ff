// What the checks in a browser share: pages that note whatever goes wrong on them, pictures, and what holds of every page.
//
// Its users are run as `node X.mjs ADDRESS [FOLDER]`; screenshots go to FOLDER. Not here: what is checked.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const [address, folder] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
const troubles = [];

/** Makes a page that notes whatever goes wrong on it, but answers that are asked for: those with an `expected` status. */
export function pages(viewport, expected) {
  return async (options = {}) => {
    // The checker of accessibility is put into the page from outside: only there the policy is set aside.
    const context = await browser.newContext({ viewport, ...options });
    const page = await context.newPage();
    page.on("pageerror", (error) => troubles.push(`${page.url()}: ${error.message}`));
    page.on("console", (message) => message.type() === "error" && !expected.test(message.text()) && troubles.push(`${page.url()}: ${message.text()}`));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(address) && !/^(blob|data):/.test(url)) troubles.push(`asks elsewhere: ${url}`);
    });
    page.on("dialog", (dialog) => {
      troubles.push(`a script of a name ran: ${dialog.message()}`);
      dialog.dismiss();
    });
    return page;
  };
}

export const shot = async (page, name, more = {}) => folder && page.screenshot({ path: `${folder}/${name}.png`, ...more });

/** Nothing is wider than the window. */
export async function assertFits(page, what) {
  const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(wide <= seen + 1, `${what} is ${wide} px wide`);
}

/** axe finds nothing serious. */
export async function assertAccessible(page, what) {
  await page.addScriptTag({ path: axe });
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), [], what);
}

/** Runs the checks one after another, says how each went, and ends the program. */
export async function run(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const began = performance.now();
    troubles.length = 0;
    try {
      await check();
      assert.deepEqual(troubles, []);
      console.log(`ok    ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.message}\n${troubles.join("\n")}`);
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
}
