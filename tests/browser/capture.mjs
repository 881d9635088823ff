// Tests in a browser: the page that captures profiles.
//
//   node capture.mjs ADDRESS [FOLDER]     screenshots go to FOLDER
//
// tests/it/serve_ui.rs serves two processes of a program that spends most of its time in `sixty`.

import assert from "node:assert/strict";
import { address, assertAccessible, assertFits, pages, run, shot as picture } from "./harness.mjs";

const newPage = pages({ width: 1200, height: 800 }, /40[0-9]|50[0-9]/);
const shot = (page, name) => picture(page, `capture_${name}`, { fullPage: true });
const card = (page, kind) => page.locator(`form[data-kind=${kind}]`);
const rows = (page) => page.locator(".captured tbody tr");

/** Opens the page of the first process and waits until its script has started. */
async function open(page, hasScripts = true) {
  await page.goto(`${address}/ui/`);
  await page.locator(".processes a").first().click();
  await page.locator("form[data-kind=profile]").waitFor();
  if (hasScripts) await page.locator("#theme button").waitFor();
}

/** Captures one kind and waits until the profile is shown. */
async function capture(page, kind, seconds) {
  if (seconds) await card(page, kind).locator("input[type=number]").fill(String(seconds));
  await card(page, kind).getByRole("button", { name: "Capture" }).click();
  await page.waitForURL(/\/ui\/flamegraph\?in=\d+/);
  await page.waitForFunction(() => /all/.test(document.querySelector(".detail")?.textContent ?? ""));
}

const checks = {
  async "a click captures and shows a profile, and a link leads back to the list"() {
    const page = await newPage();
    await page.goto(`${address}/ui/`);
    assert.equal(await page.locator(".processes tbody tr").count(), 2);
    await shot(page, "processes");
    await open(page);
    await shot(page, "empty");
    await card(page, "profile").locator("input[type=number]").fill("2");
    await card(page, "profile").getByRole("button", { name: "Capture" }).click();
    await card(page, "profile").locator("progress").waitFor();
    await page.waitForFunction(() => /^1 of 2 s$/.test(document.querySelector(".run span")?.textContent ?? ""));
    await shot(page, "progress");
    await page.waitForURL(/\/ui\/flamegraph\?in=\d+/);
    await page.waitForFunction(() => /all/.test(document.querySelector(".detail")?.textContent ?? ""));
    assert.match(await page.title(), /pid \d+\) profile 2s \d\d:\d\d:\d\d/);
    await shot(page, "flame");
    await page.goto(page.url().replace("flamegraph", "top"));
    assert.match(await page.locator("tbody").innerText(), /\bsixty\b/);
    assert.equal(await page.getByRole("button", { name: "Config" }).count(), 0, "settings cannot be saved");
    await page.getByRole("link", { name: "Capture" }).click();
    await card(page, "profile").waitFor();
    assert.match(await rows(page).first().innerText(), /profile 2s/);
    await page.context().close();
  },

  async "a trace is shown as a timeline that can be zoomed"() {
    const page = await newPage();
    await open(page);
    await card(page, "trace").getByRole("button", { name: "Capture" }).click();
    await page.waitForURL(/\/ui\/timeline\?in=\d+/);
    await page.locator(".timeline canvas").first().waitFor();
    assert.match(await page.locator(".chips").innerText(), /running/);
    const lane = await page.locator(".timeline canvas").first().boundingBox();
    await page.mouse.move(lane.x + lane.width / 2, lane.y + 10);
    await page.waitForFunction(() => /(running|runnable|waiting) .*mostly in /.test(document.querySelector(".detail").textContent));
    await shot(page, "timeline");
    await page.mouse.move(lane.x + lane.width * 0.25, lane.y + 10);
    await page.mouse.down();
    await page.mouse.move(lane.x + lane.width * 0.5, lane.y + 10, { steps: 4 });
    await page.mouse.up();
    await page.waitForURL(/from=\d+/);
    // A quarter of a second, or more if rprof had to wait for a CPU.
    await page.waitForFunction(() => /^[2-9]\d\d ms of/.test(document.querySelector(".tools span")?.textContent ?? ""));
    await shot(page, "timeline_part");
    await page.getByRole("button", { name: "All" }).click();
    await page.waitForFunction(() => !location.search.includes("from="));
    await page.context().close();
  },

  async "the menu of a box leads to the function's disassembly"() {
    const page = await newPage();
    await open(page);
    await rows(page).getByRole("link", { name: /^profile/ }).first().click();
    await page.waitForFunction(() => /all/.test(document.querySelector(".detail")?.textContent ?? ""));
    await page.locator(".flame canvas").focus();
    for (let step = 0; step < 12 && !/^sixty/.test(await page.locator(".detail").innerText()); step++) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Shift+F10");
    await page.getByRole("menuitem", { name: "Disassembly" }).click();
    await page.locator("table.listing tbody tr").first().waitFor();
    assert.match(await page.locator("summary").innerText(), /^sixty/);
    await page.goto(page.url().replace("disasm", "source"));
    await page.getByText("--source-path").first().waitFor();
    await shot(page, "source");
    await page.context().close();
  },

  async "kinds that are not available are not offered, and a refusal is shown on the card"() {
    const page = await newPage();
    await open(page);
    assert.equal(await card(page, "allocs").count(), 0);
    // A page that was opened before the process ended, or a changed form, can still send such a request.
    await card(page, "wall").evaluate((form) => (form.dataset.kind = "allocs"));
    await card(page, "allocs").getByRole("button", { name: "Capture" }).click();
    await card(page, "allocs").getByRole("alert").waitFor();
    assert.match(await card(page, "allocs").getByRole("alert").innerText(), /need a Go program/);
    await shot(page, "refused");
    await page.context().close();
  },

  async "a captured dump is shown as threads"() {
    const page = await newPage();
    await open(page);
    await card(page, "goroutine").getByRole("button", { name: "Capture" }).click();
    await page.waitForURL(/\/ui\/threads\?in=\d+/);
    await page.locator("details.card").first().waitFor();
    await page.context().close();
  },

  async "a capture can be cancelled, and its slot is free again"() {
    const page = await newPage();
    await open(page);
    await card(page, "wall").locator("input[type=number]").fill("200");
    await card(page, "wall").getByRole("button", { name: "Capture" }).click();
    await card(page, "wall").getByRole("button", { name: "Cancel" }).click();
    await card(page, "wall").getByRole("alert").waitFor();
    assert.match(await card(page, "wall").getByRole("alert").innerText(), /Cancelled/);
    for (const until = Date.now() + 10_000; ; ) {
      await card(page, "wall").locator("input[type=number]").fill("1");
      await card(page, "wall").getByRole("button", { name: "Capture" }).click();
      await Promise.race([page.waitForURL(/flamegraph/), card(page, "wall").getByRole("alert").waitFor()]);
      if (/flamegraph/.test(page.url()) || Date.now() > until) break;
    }
    assert.match(page.url(), /flamegraph\?in=/);
    await page.context().close();
  },

  async "two captured profiles are compared, and a running capture outlives another one"() {
    const page = await newPage();
    await open(page);
    const before = await rows(page).count();
    await card(page, "wall").locator("input[type=number]").fill("3");
    await card(page, "wall").getByRole("button", { name: "Capture" }).click();
    await card(page, "profile").locator("input[type=number]").fill("1");
    await card(page, "profile").getByRole("button", { name: "Capture" }).click();
    await page.waitForFunction((count) => document.querySelectorAll(".captured tbody tr").length === count, before + 1);
    await page.waitForURL(/\/ui\/flamegraph\?in=\d+/);
    await open(page);
    assert.equal(await rows(page).count(), before + 2);
    await capture(page, "profile", 1);
    await open(page);
    await shot(page, "list");
    await page.getByRole("button", { name: "Compare base and new" }).click();
    await page.waitForURL(/\/ui\/flamegraph\?in=\d+&vs=\d+/);
    await page.waitForFunction(() => /→ .* pp$/.test(document.querySelector(".detail")?.textContent ?? ""));
    await shot(page, "compared");
    await page.goBack();
    await page.getByRole("button", { name: "Compare as a table" }).click();
    await page.waitForURL(/\/ui\/diff\?in=\d+&vs=\d+/);
    await page.locator("table.numbers").waitFor();
    await page.context().close();
  },

  async "a profile without samples is reported as empty"() {
    const page = await newPage();
    await open(page);
    await card(page, "threadcreate").locator("input[type=number]").fill("1");
    await card(page, "threadcreate").getByRole("button", { name: "Capture" }).click();
    await page.waitForURL(/\/ui\/flamegraph\?in=\d+/);
    await page.getByText("This profile has no samples").waitFor();
    await page.context().close();
  },

  async "a number without a profile is reported"() {
    const page = await newPage();
    const answer = await page.goto(`${address}/ui/flamegraph?in=999`);
    assert.equal(answer.status(), 404);
    await page.waitForFunction(() => /profile 999 not found/.test(document.getElementById("notes").textContent));
    await page.getByRole("link", { name: "Go to the first page" }).click();
    await page.locator(".processes").waitFor();
    await page.context().close();
  },

  async "without scripts the page lists and links, and its forms download"() {
    const page = await newPage({ javaScriptEnabled: false });
    await open(page, false);
    assert.ok(await rows(page).count() >= 3);
    const [download] = await Promise.all([page.waitForEvent("download"), card(page, "goroutine").getByRole("button", { name: "Capture" }).click()]);
    assert.equal(download.suggestedFilename(), "goroutine");
    const [kept] = await Promise.all([page.waitForEvent("download"), rows(page).first().getByRole("link", { name: ".pb.gz" }).click()]);
    assert.match(kept.suggestedFilename(), /^profile\d+\.pb\.gz$/);
    await page.context().close();
  },

  async "the pages fit a phone and are accessible, in light and dark"() {
    for (const [colorScheme, width] of [["light", 390], ["dark", 390], ["dark", 1200]]) {
      const page = await newPage({ colorScheme, bypassCSP: true, viewport: { width, height: 800 } });
      for (const name of ["processes", "list", "flame"]) {
        if (name === "processes") await page.goto(`${address}/ui/`);
        else if (name === "list") await open(page);
        else await rows(page).getByRole("link", { name: /^profile/ }).first().click().then(() => page.waitForSelector(".detail"));
        await assertFits(page, name);
        await shot(page, `${name}_${colorScheme}_${width}`);
        await assertAccessible(page, `${name}, ${colorScheme}`);
      }
      await page.context().close();
    }
  },
};

await run(checks);
