// The dashboard in a real browser: each step is a claim, and the first that does not hold ends the program.

import assert from "node:assert/strict";
import { PATIENCE, api, launch, pages, signIn, url } from "./world.mjs";

const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });

/** What no page may do: fail, ask for a dialog, or be held back by the policy. */
const wrong = [];
function watch(page) {
  page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error}`));
  page.on("dialog", (dialog) => {
    wrong.push(`${page.url()}: a dialog says ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) wrong.push(`${page.url()}: ${message.text()}`);
  });
}

async function step(claim, work) {
  await work();
  assert.deepEqual(wrong, [], claim);
  console.log(`ok: ${claim}`);
}

/** Waits until the API or the page says so. */
async function until(what, look) {
  const end = Date.now() + PATIENCE;
  while (!(await look())) {
    assert.ok(Date.now() < end, `never came true: ${what}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

const EVIL = `"><img src=x onerror="window.hacked=1"><script>window.hacked=2</script><svg onload="window.hacked=3">`;
const BREAKOUT = `</pre></textarea></title></script><script>window.hacked=4</script>{{7*7}}<iframe srcdoc="<script>parent.hacked=5</script>">`;
const RTL = "\u202Eمرحبا בעולם\u202C";
const LONG = "x".repeat(400);

let page;

await step("who is not signed in is told how to", async () => {
  const stranger = await browser.newContext();
  const page = await stranger.newPage();
  const answer = await page.goto(`${url}/`);
  assert.equal(answer.status(), 401);
  assert.match(await page.textContent("main"), /adjutant token link/);
  await stranger.close();
});

await step("a link signs in once", async () => {
  const address = process.env.ADJUTANT_LINK;
  page = await signIn(context, address);
  watch(page);
  assert.equal(await page.textContent("h1"), "Overview");
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  assert.equal(await page.evaluate(() => document.cookie), "");
  const other = await browser.newContext();
  const second = await other.newPage();
  await second.goto(address);
  await second.waitForFunction(() => document.body.textContent.includes("used before"));
  assert.equal((await second.goto(`${url}/`)).status(), 401);
  await other.close();
});

await step("what there is first says what to do next", async () => {
  for (const route of ["/", "/dashboard/fleet", "/dashboard/queue", "/dashboard/dead-letters", "/dashboard/trends"]) {
    await page.goto(url + route);
    assert.ok((await page.locator(".empty, .empty-plot").count()) > 0, route);
  }
});

await step("a task is seen to move without a reload", async () => {
  await api("POST", "/api/tasks", { id: "watched", title: "A watched task", labels: ["code"] });
  await page.goto(`${url}/dashboard/tasks/watched`);
  await page.evaluate(() => { window.here = true; });
  const says = (text) => page.waitForFunction((text) => document.querySelector("#task")?.textContent.includes(text), text);
  await says("pending");
  await says("no agents");
  await api("POST", "/api/agents", { id: "builder", name: "The builder", capabilities: ["code"], models: ["opus"], max_load: 2 });
  await says("in progress");
  await says("builder");
  await api("POST", "/api/agents/builder/sync", { running: [{ id: "watched", attempt: 1 }] });
  await api("PATCH", "/api/tasks/watched", { progress: 42, notes: "halfway there", agent_id: "builder" });
  await says("42 %");
  await api("POST", "/api/tasks/watched/output", { text: "compiling…\n", agent_id: "builder" });
  await api("POST", "/api/tasks/watched/complete", {
    agent_id: "builder", success: true, output: "all done", model: "opus", tokens_in: 1200, tokens_out: 300, cost: 12.5,
  });
  await says("completed");
  await page.waitForFunction(() => document.querySelector("#texts").textContent.includes("all done"));
  const text = await page.textContent("main");
  for (const part of ["halfway there", "compiling…", "$0.1250", "task dispatched", "task completed"]) {
    assert.ok(text.includes(part), part);
  }
  assert.equal(await page.evaluate(() => window.here), true);
});

await step("a task is held, let go and cancelled by its buttons", async () => {
  await api("POST", "/api/tasks", { id: "led", title: "A task on a lead", labels: ["nobody"] });
  await page.goto(`${url}/dashboard/tasks/led`);
  const status = async () => (await api("GET", "/api/tasks/led")).waiting?.reason;
  await page.getByRole("button", { name: "Hold", exact: true }).click();
  await until("held", async () => (await status()) === "held");
  await page.getByRole("button", { name: "Unhold" }).click();
  await until("let go", async () => (await status()) !== "held");
  page.removeAllListeners("dialog");
  page.once("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Cancel" }).click();
  await until("cancelled", async () => (await api("GET", "/api/tasks/led")).status === "cancelled");
  await page.getByRole("button", { name: "Retry" }).waitFor();
  page.removeAllListeners();
  watch(page);
});

await step("an allowance is edited", async () => {
  await page.goto(`${url}/dashboard/limits`);
  await page.getByRole("link", { name: "builder" }).click();
  await page.getByLabel("Tokens a day").fill("50000");
  await page.getByLabel("Longest job").fill("30m");
  await page.getByLabel("Models, separated").fill("opus, sonnet");
  await page.locator("#allowance").getByRole("button", { name: "Save" }).click();
  await page.locator("#allowance .saved").getByText("Saved.").waitFor();
  const allowance = await api("GET", "/api/allowances/builder");
  assert.deepEqual(
    [allowance.daily_token_limit, allowance.max_job_duration, allowance.model_allowlist],
    [50000, 1800, ["opus", "sonnet"]],
  );
  await page.getByLabel("Longest job").fill("soon");
  await page.locator("#allowance").getByRole("button", { name: "Save" }).click();
  await page.getByRole("alert").getByText("max_job_duration").waitFor();
});

await step("limits of the fleet are edited, and what was set stays", async () => {
  await api("PUT", "/api/limits/fleet", { limits: [{ window: "day", tokens: 900000, pull_requests: 7, hard: false }] });
  await page.goto(`${url}/dashboard/limits?scope=fleet`);
  await page.locator("[data-window=day]").getByLabel("Jobs").fill("40");
  await page.locator("#limits").getByRole("button", { name: "Save" }).click();
  await page.locator("#limits .saved").getByText("Saved.").waitFor();
  const { limits } = await api("GET", "/api/limits/fleet");
  assert.equal(limits.length, 1);
  const { tokens, jobs, pull_requests, hard } = limits[0];
  assert.deepEqual({ tokens, jobs, pull_requests, hard }, { tokens: 900000, jobs: 40, pull_requests: 7, hard: false });
  await api("PUT", "/api/limits/fleet", { limits: [] });
});

await step("dead letters are retried in bulk", async () => {
  for (const id of ["dead-1", "dead-2", "dead-3"]) {
    await api("POST", "/api/tasks", { id, title: `Doomed ${id}`, labels: ["code"], max_retries: 1 });
    await until("offered", async () => (await api("GET", `/api/tasks/${id}`)).status === "in_progress");
    await api("POST", `/api/tasks/${id}/complete`, { agent_id: "builder", success: false, error_message: "it does not compile" });
  }
  await api("POST", "/api/agents/builder/drain");
  await page.goto(`${url}/dashboard/dead-letters`);
  assert.match(await page.textContent("#dead"), /it does not compile/);
  await page.locator("tr", { hasText: "Doomed dead-1" }).getByRole("checkbox").check();
  await page.locator("tr", { hasText: "Doomed dead-2" }).getByRole("checkbox").check();
  await page.getByRole("button", { name: "Retry the chosen" }).click();
  await page.getByText("2 of 2 retried").waitFor();
  const statuses = await Promise.all(["dead-1", "dead-2", "dead-3"].map(async (id) => (await api("GET", `/api/tasks/${id}`)).status));
  assert.deepEqual(statuses, ["pending", "pending", "failed"]);
});

await step("no text of others is run, wherever it stands", async () => {
  const task = {
    id: "evil", title: `Evil ${EVIL} ${RTL}`, description: BREAKOUT + LONG, labels: [EVIL.replaceAll(",", "")], project: EVIL,
    payload: { [EVIL]: BREAKOUT }, files: [EVIL], locks: [EVIL],
  };
  await api("POST", "/api/agents", {
    id: "evil-agent", name: `${EVIL.slice(0, 150)}`, capabilities: [EVIL.replaceAll(",", "")], models: [EVIL], metadata: { x: EVIL },
  });
  await api("PUT", "/api/allowances/evil-agent", { model_allowlist: [EVIL] });
  await api("POST", "/api/tasks", { ...task, max_retries: 1 });
  await until("offered", async () => (await api("GET", "/api/tasks/evil")).status === "in_progress");
  await page.goto(`${url}/dashboard/tasks/evil`);
  const agent_id = "evil-agent";
  await api("PATCH", "/api/tasks/evil", { notes: EVIL + BREAKOUT, agent_id });
  await api("POST", "/api/tasks/evil/output", { text: `${BREAKOUT}\u001b[31m${EVIL}`, agent_id });
  await api("POST", "/api/usage", { agent_id, job_id: "evil", model: EVIL, tokens_in: 10, cost: 5 });
  await page.waitForFunction(() => document.querySelector("#texts").textContent.includes("srcdoc"));
  await api("POST", "/api/tasks/evil/complete", { agent_id, success: false, output: BREAKOUT, error_message: EVIL });
  await page.waitForFunction(() => document.querySelector("#task").textContent.includes("Last failure"));
  await api("POST", "/api/tasks", { id: "stuck", title: EVIL, labels: [BREAKOUT.slice(0, 90).replaceAll(",", "")], model: EVIL });
  const routes = [...pages({ task: "evil", agent: "evil-agent" }), `/dashboard/tasks/stuck`, `/dashboard/fleet?search=${encodeURIComponent(EVIL)}`,
    `/dashboard/limits?scope=${encodeURIComponent(`model:${EVIL}`)}`, `/dashboard/limits?scope=${encodeURIComponent(EVIL)}`,
    `/dashboard/find?id=${encodeURIComponent(EVIL)}`];
  for (const route of routes) {
    await page.goto(url + route);
    await page.waitForTimeout(100);
    const seen = await page.evaluate(() => ({
      hacked: window.hacked,
      scripts: [...document.scripts].map((script) => script.getAttribute("src")),
      strangers: document.querySelectorAll("img, iframe, object, embed, svg[onload], [onerror], [onload], [style]").length,
    }));
    assert.deepEqual(seen, { hacked: undefined, scripts: ["/dashboard/dashboard.js"], strangers: 0 }, route);
  }
  await page.goto(`${url}/dashboard/tasks/evil`);
  assert.ok((await page.textContent("h1")).includes(EVIL));
});

await step("pages fit a phone, and their text stands out, by day and by night", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [390, 1280]) {
      const context = await browser.newContext({ viewport: { width, height: 844 }, colorScheme });
      const page = await signIn(context);
      for (const route of pages({ task: "evil", agent: "evil-agent" })) {
        await page.goto(url + route);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${route} is ${wide} wide on ${width}`);
        assert.deepEqual(await page.evaluate(faint), [], `${route}, ${colorScheme}, ${width}`);
        assert.deepEqual(await page.evaluate(unnamed), [], `${route}, ${colorScheme}, ${width}`);
      }
      await context.close();
    }
  }
});

/** Texts whose contrast with their ground is less than it should be. */
function faint() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const luminance = (color) => {
    const [r, g, b] = color.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(read(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script, noscript") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const [light, dark] = [luminance(over(read(style.color), below)), luminance(below)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.add(`${element.tagName}.${element.className} ${style.color} ${contrast.toFixed(2)}`);
  }
  return [...found];
}

/** What can be used and has no name, and what a page must have. */
function unnamed() {
  const found = [];
  for (const element of document.querySelectorAll("button, a, input:not([type=hidden])")) {
    const name = element.getAttribute("aria-label") ?? (element.labels?.[0]?.textContent ?? element.textContent);
    if (!name.trim()) found.push(element.outerHTML.slice(0, 200));
  }
  if (document.querySelectorAll("main").length !== 1) found.push("no main");
  if (document.querySelectorAll("h1").length !== 1) found.push("no h1");
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  found.push(...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `twice: ${id}`));
  return found;
}

await step("the keyboard reaches what the mouse does", async () => {
  await page.goto(`${url}/`);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  // The focus stays where it was when the region around it is replaced.
  const tile = page.locator("#glance a").first();
  await tile.focus();
  await api("POST", "/api/tasks", { title: "One more", labels: ["nobody"] });
  await page.waitForTimeout(2500);
  assert.equal(await page.evaluate(() => document.activeElement.closest("#glance") !== null), true);
});

await step("a reader sees no buttons that it may not use", async () => {
  const { token } = await api("POST", "/api/tokens", { name: "onlooker", roles: ["read"] });
  const answer = await fetch(`${url}/api/sign-in-links`, {
    method: "POST", headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: "{}",
  });
  const other = await browser.newContext();
  const reader = await signIn(other, (await answer.json()).url);
  for (const route of ["/dashboard/tasks/stuck", "/dashboard/dead-letters", "/dashboard/agents/builder", "/dashboard/limits?scope=agent:builder"]) {
    await reader.goto(url + route);
    assert.equal(await reader.locator("[data-action][data-method=POST], button[type=submit].primary").count(), 0, route);
  }
  const refused = await reader.evaluate(async () => (await fetch("/api/tasks/stuck/hold", { method: "POST" })).status);
  assert.equal(refused, 403);
  // Its pages end with its token.
  await api("DELETE", "/api/tokens/onlooker");
  await reader.waitForFunction(() => document.body.textContent.includes("adjutant token link"));
  await other.close();
});

await step("the API is read and tried in the browser, from this server alone", async () => {
  const docs = await context.newPage();
  watch(docs);
  const asked = [];
  docs.on("request", (request) => asked.push(request.url()));
  await docs.goto(`${url}/docs`);
  await docs.getByRole("button", { name: "GET /v1/health" }).first().click();
  await docs.getByRole("button", { name: "Try it out" }).click();
  await docs.getByRole("button", { name: "Execute" }).click();
  await docs.locator(".live-responses-table .response-col_status", { hasText: "200" }).waitFor();
  const elsewhere = asked.filter((address) => !address.startsWith(`${url}/`) && !address.startsWith("data:"));
  assert.deepEqual(elsewhere, []);
  await docs.close();
});

await step("who signs out is out", async () => {
  await page.goto(`${url}/`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForFunction(() => document.body.textContent.includes("adjutant token link"));
  assert.deepEqual(await context.cookies(), []);
});

await browser.close();
