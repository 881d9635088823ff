// Compares the pages of `rprof pprof -http` with those of `go tool pprof -http` in Chromium, as a Markdown table.
//
//   node bench.mjs PROFILE.pb.gz…        profiles made by scripts/bench_profiles.py; NO_GO=1: rprof only
//
// "First view": from the start of the command until the flame graph is painted. "Zoom": from a key press to the next
// frame, the longest of ten, each one level deeper. "Sent": bytes until the first view. Memory: the server's peak RSS.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const rprof = process.env.RPROF ?? resolve(here, "../../target/release/rprof");
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const MOST_MS = 300_000;

async function serve(command, port) {
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "ignore", "pipe"] });
  const url = `http://localhost:${port}/ui/flamegraph`;
  let said = "";
  child.stderr.on("data", (data) => (said += data));
  for (const began = Date.now(); !/Serving web UI/.test(said); ) {
    if (child.exitCode !== null || Date.now() - began > MOST_MS) throw new Error(said);
    await new Promise((done) => setTimeout(done, 10));
  }
  return { child, url };
}

async function measure(context, command, port, ready, zooms) {
  const began = performance.now();
  const { child, url } = await serve(command, port);
  const page = await context.newPage();
  page.setDefaultTimeout(MOST_MS);
  const network = await context.newCDPSession(page);
  let bytes = 0;
  await network.send("Network.enable");
  network.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  try {
    await page.goto(url, { timeout: MOST_MS });
    await page.waitForFunction(ready, null, { timeout: MOST_MS, polling: 20 });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const seconds = (performance.now() - began) / 1000;
    const sent = bytes;
    const zoom = zooms ? await zoomTime(page) : null;
    const memory = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "latin1"))[1] / 1024;
    return { seconds, bytes: sent, zoom, memory };
  } finally {
    await page.close();
    child.kill();
  }
}

// Zooms into the widest callee ten times.
async function zoomTime(page) {
  return page.evaluate(async () => {
    const canvas = document.querySelector(".flame canvas");
    canvas.focus();
    let longest = 0;
    for (let at = 0; at < 10; at++) {
      const press = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      press("ArrowDown");
      const began = performance.now();
      press("Enter");
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      longest = Math.max(longest, performance.now() - began);
      await new Promise((done) => setTimeout(done, 400));
    }
    return longest;
  });
}

const folder = mkdtempSync(join(tmpdir(), "rprof-bench-"));
const context = await chromium.launchPersistentContext(folder, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS, viewport: { width: 1280, height: 800 },
});
console.log("| | first view | sent | zoom | server's memory |\n|---|--:|--:|--:|--:|");
const drawn = () => document.querySelector(".flame canvas")?.width > 300 && document.querySelector(".detail")?.textContent;
const shown = () => document.querySelectorAll(".boxtext").length > 5;
try {
  for (const [at, file] of process.argv.slice(2).entries()) {
    const port = 18700 + 2 * at;
    const commands = [["rprof", [rprof, "pprof", "-no_browser", "-symbolize=none", `-http=localhost:${port}`, file], port, drawn, true]];
    if (!process.env.NO_GO) {
      const go = process.env.GO ?? "/usr/local/go/bin/go";
      // Starts the tool itself, so that the memory is not that of `go`.
      const pprof = execFileSync(go, ["tool", "-n", "pprof"], { encoding: "utf8" }).trim();
      commands.push(["go tool pprof", [pprof, "-no_browser", "-symbolize=none", `-http=localhost:${port + 1}`, file], port + 1, shown, false]);
    }
    for (const [name, command, own, ready, zooms] of commands) {
      const row = await measure(context, command, own, ready, zooms).catch((error) => ({ error }));
      const text = row.error ? `${row.error.message.slice(0, 80)} | | |` :
        `${row.seconds.toFixed(1)} s | ${(row.bytes / 1e6).toFixed(2)} MB | ${row.zoom ? `${Math.round(row.zoom)} ms` : ""} | ${Math.round(row.memory)} MiB`;
      console.log(`| ${basename(file)}, ${name} | ${text} |`);
    }
  }
} finally {
  await context.close();
  rmSync(folder, { recursive: true, force: true });
}
