// Tests in a browser: the pages of a profile.
//
//   node views.mjs ADDRESS [FOLDER]     screenshots go to FOLDER
//
// tests/it/web.rs serves the profile: `main` calls `work` (with `tight` inlined) and `idle`, the second file has
// more of `idle`, and the name of one function is a script.

import assert from "node:assert/strict";
import { address, assertAccessible, assertFits, pages, run, shot } from "./harness.mjs";

const newPage = pages({ width: 1200, height: 700 }, /40[0-9]|501/);

async function open(page, view) {
  // Profile 0 is the merge of all files, profile 1 the first file.
  const which = /[?&]in=/.test(view) ? view : `${view}${view.includes("?") ? "&" : "?"}in=1`;
  await page.goto(`${address}/ui/${which}`);
  await page.waitForSelector("#bar nav");
  await page.waitForFunction(() => !/Loading|Reading/.test(document.getElementById("view").textContent));
}

const text = (page) => page.locator("#view").innerText();
const detail = (page) => page.locator(".detail").first().innerText();

const checks = {
  async "every view shows its content"() {
    const page = await newPage();
    const expected = { flamegraph: /all/, top: /main/, graph: /main/, peek: /Called by/, source: /main/, disasm: /./, tags: /thread/,
      threads: /T-1/, timeline: /have no times/, diff: /Choose a base|Base/ };
    for (const [view, wanted] of Object.entries(expected)) {
      await open(page, view);
      if (view === "flamegraph") await page.waitForFunction(() => document.querySelector(".detail").textContent);
      assert.match(await text(page), wanted, view);
      assert.equal(await page.locator("nav a[aria-current=page]").count(), 1, view);
      await shot(page, view);
    }
    await page.context().close();
  },

  async "a click zooms, Escape zooms out, and the URL keeps the zoom"() {
    const page = await newPage();
    await open(page, "flamegraph");
    const box = await page.locator(".flame canvas").boundingBox();
    await page.mouse.click(box.x + 40, box.y + 21 * 2 + 8);
    await page.waitForFunction(() => location.search.includes("p="));
    assert.match(await detail(page), /^work/);
    await page.reload();
    await page.waitForFunction(() => /^work/.test(document.querySelector(".detail")?.textContent ?? ""));
    await page.locator(".flame canvas").focus();
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => !location.search.includes("p="));
    await page.goBack();
    await page.waitForFunction(() => location.search.includes("p="));
    await page.context().close();
  },

  async "arrows move, Enter zooms, slash searches, and a search keeps the zoom"() {
    const page = await newPage();
    await open(page, "flamegraph");
    await page.locator(".flame canvas").focus();
    for (const key of ["ArrowDown", "ArrowDown"]) await page.keyboard.press(key);
    assert.match(await detail(page), /^work/);
    await page.keyboard.press("ArrowRight");
    assert.match(await detail(page), /^idle/);
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.search.includes("p="));
    await page.keyboard.press("/");
    await page.keyboard.type("^tight$");
    await page.waitForFunction(() => /1 function, 60/.test(document.querySelector(".found").textContent));
    assert.match(await page.locator(".found").innerText(), /66\.7% of the visible part/);
    assert.ok((await page.evaluate(() => location.search)).includes("p="));
    await shot(page, "search");
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type("(");
    await page.waitForFunction(() => document.querySelector("input[type=search]").getAttribute("aria-invalid") === "true");
    await page.context().close();
  },

  async "the menu of a box adds a filter, and the filter can be removed"() {
    const page = await newPage();
    await open(page, "flamegraph");
    const box = await page.locator(".flame canvas").boundingBox();
    await page.mouse.click(box.x + 40, box.y + 21 * 2 + 8, { button: "right" });
    await page.locator(".box-menu").waitFor();
    await shot(page, "menu");
    await page.getByRole("menuitem", { name: "Ignore" }).click();
    await page.waitForSelector(".chips");
    await page.waitForFunction(() => /all 100 ms \(10/.test(document.querySelector(".detail")?.textContent ?? ""));
    assert.equal(new URL(page.url()).searchParams.get("i"), "^work$");
    await page.getByRole("button", { name: "Remove ignore" }).click();
    await page.waitForFunction(() => !document.querySelector(".chips"));
    await page.context().close();
  },

  async "callers and callees of a function are shown together"() {
    const page = await newPage();
    await open(page, "flamegraph");
    await page.locator(".flame canvas").focus();
    for (const key of ["ArrowDown", "ArrowDown", "Shift+F10"]) await page.keyboard.press(key);
    await page.getByRole("menuitem", { name: "Callers and callees" }).click();
    await page.waitForFunction(() => document.querySelectorAll(".flame canvas").length === 2);
    assert.match(await text(page), /work/);
    await shot(page, "sandwich");
    await page.context().close();
  },

  async "kernel functions with compiler suffixes have the colour and the label of their function"() {
    const page = await newPage();
    await open(page, "flamegraph");
    const found = await page.evaluate(async () => {
      const { packageOf } = await import("./assets/colors.js");
      const { shortened } = await import("./assets/flame.js");
      const names = ["ep_item_poll.isra.0", "do_softirq.part.0", "f.constprop.0.cold", "g.lto_priv.0", "main.work", "a::b::c"];
      return names.map((name) => [packageOf(name, "vmlinux"), shortened(name).at(-1)]);
    });
    assert.deepEqual(found, [["vmlinux", "ep_item_poll"], ["vmlinux", "do_softirq"], ["vmlinux", "f"], ["vmlinux", "g"],
      ["main", "work"], ["a", "b::c"]]);
    await page.context().close();
  },

  async "a pressed or main button stays readable under the mouse"() {
    for (const colorScheme of ["light", "dark"]) {
      const page = await newPage({ colorScheme });
      await open(page, "flamegraph?up=1");
      const pressed = page.getByRole("button", { name: "Bottom-up" });
      await pressed.hover();
      const colors = await pressed.evaluate((button) => [getComputedStyle(button).color, getComputedStyle(button).backgroundColor]);
      const luminance = (color) => color.match(/[\d.]+/g).slice(0, 3).reduce((sum, part, at) => sum + Number(part) * [0.2126, 0.7152, 0.0722][at], 0);
      assert.ok(Math.abs(luminance(colors[0]) - luminance(colors[1])) > 80, `${colorScheme}: ${colors}`);
      await page.context().close();
    }
  },

  async "the graph has the colours of the theme and no legend"() {
    for (const [colorScheme, isDark] of [["light", false], ["dark", true]]) {
      const page = await newPage({ colorScheme });
      await open(page, "graph");
      await page.locator(".graph svg").waitFor();
      const [fill, filter] = await page.evaluate(() => [document.querySelector(".graph g.graph > polygon")?.getAttribute("fill"),
        getComputedStyle(document.querySelector(".graph svg")).filter]);
      assert.equal(fill ?? "none", "none", "no white paper");
      assert.equal(filter.includes("invert"), isDark, filter);
      assert.doesNotMatch(await text(page), /Dropped nodes|git\.io/);
      await shot(page, `graph_${colorScheme}`);
      await page.context().close();
    }
  },

  async "two profiles are compared"() {
    const page = await newPage();
    await open(page, "diff");
    const names = await page.locator("select").last().locator("option").allInnerTexts();
    await open(page, "diff?vs=1&in=2&all=1");
    assert.match(await text(page), /idle/, names.join());
    await shot(page, "diff");
    await open(page, "flamegraph?vs=1&in=2");
    await page.locator(".flame canvas").focus();
    await page.keyboard.press("ArrowDown");
    // The same scale as in the table: shares, in percentage points.
    assert.match(await detail(page), / pp$/);
    assert.match(await page.locator(".legend").innerText(), /Base: .*one.* \(.*\), new: .*two.* \(.*\)[^]*larger in new[^]*smaller in new/);
    await shot(page, "diff_flame");
    await page.context().close();
  },

  async "a function with the same share in a longer profile has not changed"() {
    const page = await newPage();
    await open(page, "flamegraph");
    const changes = await page.evaluate(async () => {
      const { FlameTree } = await import("./assets/flame_tree.js");
      // base: a 10 of 20, b 10 of 20; new: a 30 of 60, b 20 of 60, c 10 of 60.
      const nodes = { parent: [0, 0, 0, 0], frame: [0, 0, 1, 2], weight: [80, 40, 30, 10], own: [0, 40, 30, 10], hidden: [0, 0, 0, 0], inlined: [],
        net: [40, 20, 10, 10], own_net: [0, 20, 10, 10] };
      const tree = new FlameTree({ nodes, sides: [20, 60], total: 20, frames: { name: ["a", "b", "c"], module: [0, 0, 0], modules: [""], file: ["", "", ""], id: [0, 1, 2] } });
      return [1, 2, 3].map((at) => Number(tree.change(at).toFixed(3)));
    });
    assert.deepEqual(changes, [0, -0.2, 1]);
    await page.context().close();
  },

  async "the legend names the packages, and binaries and files are searched by their names"() {
    const page = await newPage();
    await open(page, "flamegraph");
    assert.ok(await page.locator(".legend .key").count() > 0);
    const find = async (expression) => {
      await page.locator("input[type=search]").fill(expression);
      await page.waitForFunction((text) => new URLSearchParams(location.search).get("q") === text && /function/.test(document.querySelector(".found").textContent), expression);
      return page.locator(".found").innerText();
    };
    assert.match(await find("module:no such binary"), /^0 functions/);
    assert.match(await find("file:no such file"), /^0 functions/);
    // The frames of this profile have no binary.
    assert.match(await find("module:^$"), /, 100%/);
    assert.match(await find("module:."), /^0 functions/);
    await page.context().close();
  },

  async "a profile without times has no tab of a timeline"() {
    const page = await newPage();
    await open(page, "flamegraph");
    assert.equal(await page.getByRole("link", { name: "Timeline" }).count(), 0);
    await page.context().close();
  },

  async "template arguments are folded in boxes and whole in the tip"() {
    const page = await newPage();
    await open(page, "flamegraph");
    const shown = await page.evaluate(async () => {
      const { FlameTree } = await import("./assets/flame_tree.js");
      const nodes = { parent: [0, 0], frame: [0, 0], weight: [1, 1], own: [0, 1], hidden: [0, 0], inlined: [] };
      const tree = new FlameTree({ nodes, total: 1, frames: { name: ["f<int>"], short: ["f<…>"], module: [0], modules: [""], file: [""], id: [0] } });
      return [tree.shortName(1), tree.name(1)];
    });
    assert.deepEqual(shown, ["f<…>", "f<int>"]);
    await page.context().close();
  },

  async "a table is sorted and searched"() {
    const page = await newPage();
    await open(page, "top");
    const first = () => page.locator("tbody tr .name").first().innerText();
    assert.match(await first(), /tight/);
    await page.getByRole("button", { name: "Cum", exact: true }).click();
    assert.match(await first(), /main/);
    await page.locator("input[type=search]").fill("^idle");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
    await page.context().close();
  },

  async "options, saved settings and downloads work"() {
    const page = await newPage();
    await open(page, "top");
    await page.getByRole("button", { name: "Refine" }).click();
    await page.getByRole("menuitem", { name: "All options" }).click();
    await page.locator("dialog select[name=g]").selectOption("lines");
    await shot(page, "options");
    await page.getByRole("button", { name: "Apply" }).click();
    await page.waitForFunction(() => location.search.includes("g=lines"));
    await page.getByRole("button", { name: "Config" }).click();
    await page.getByRole("menuitem", { name: "Save as" }).click();
    await page.locator("dialog input").fill("by lines");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.waitForFunction(() => /Done/.test(document.getElementById("notes").textContent));
    await page.getByRole("button", { name: "Config" }).click();
    await page.getByRole("menuitemradio", { name: "by lines" }).waitFor();
    await page.keyboard.press("Escape");
    await open(page, "flamegraph");
    for (const [name, file] of [["Flame graph (SVG)", "flame.svg"], ["Folded stacks", "stacks.folded"], ["Profile (protobuf)", "profile.pb.gz"]]) {
      await page.getByRole("button", { name: "Download" }).click();
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name }).click()]);
      assert.equal(download.suggestedFilename(), file);
    }
    await page.context().close();
  },

  async "names that look like markup stay text"() {
    const page = await newPage();
    for (const view of ["flamegraph?q=script", "top", "graph?nf=0&ef=0", "peek", "source", "tags", "threads", "diff?vs=1&in=2&all=1"]) {
      await open(page, view);
      if (view === "top") assert.match(await text(page), /<script>alert\(1\)<\/script>"'/);
      assert.equal(await page.evaluate(() => window.hostile), undefined, view);
      assert.equal(await page.locator("#view script, #view img, #view iframe, #view [onload], #view [onclick]").count(), 0, view);
    }
    await page.context().close();
  },

  async "every view fits a phone"() {
    const page = await newPage({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
    for (const view of ["flamegraph", "top", "graph", "peek", "source", "tags", "threads"]) {
      await open(page, view);
      await assertFits(page, view);
      await shot(page, `phone_${view}`);
    }
    await page.context().close();
  },

  async "axe finds no serious violation, in light and dark"() {
    for (const colorScheme of ["light", "dark"]) {
      const page = await newPage({ colorScheme, bypassCSP: true });
      const most = ["flamegraph", "top", "source", "diff?vs=1&in=2&all=1"];
      for (const view of colorScheme === "dark" ? most : [...most, "graph", "peek", "tags", "threads", "timeline"]) {
        await open(page, view);
        await assertAccessible(page, `${view}, ${colorScheme}`);
        if (colorScheme === "dark") await shot(page, `dark_${view.split("?")[0]}`);
      }
      await page.context().close();
    }
  },
};

await run(checks);
