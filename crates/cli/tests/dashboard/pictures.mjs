// The pictures of the documents: a small fleet at work, by day, by night and on a phone.

import path from "node:path";
import { api, launch, signIn, url } from "./world.mjs";

const to = process.env.ADJUTANT_PICTURES_TO;
const agents = [
  ["builder-1", "Builder one", ["rust", "tests"], ["opus"], 3],
  ["builder-2", "Builder two", ["rust", "docs"], ["opus", "sonnet"], 3],
  ["reviewer", "The reviewer", ["review"], ["opus"], 2],
  ["scribe", "The scribe", ["docs"], ["haiku"], 4],
];
const titles = [
  ["Make the parser accept trailing commas", ["rust"], "high"],
  ["Describe the retry rules in the handbook", ["docs"], "low"],
  ["Review the new rate limiter", ["review"], "critical"],
  ["Find out why the nightly build is slow", ["rust", "tests"], "medium"],
  ["Replace the hand-written date code", ["rust"], "medium"],
  ["Write a test for the empty configuration", ["tests"], "medium"],
  ["Translate the release notes", ["docs"], "low"],
  ["Bring the error messages into one voice", ["docs"], "medium"],
];
const usage = { opus: [52000, 6100, 61.4], sonnet: [31000, 4200, 15.1], haiku: [18000, 2500, 2.2] };

for (const [id, name, capabilities, models, max_load] of agents) {
  await api("POST", "/api/agents", { id, name, capabilities, models, max_load });
}
await api("PUT", "/api/allowances/builder-1", { daily_token_limit: 400000, daily_job_limit: 40, model_allowlist: ["opus"], max_job_duration: "45m" });
await api("PUT", "/api/allowances/builder-2", { daily_token_limit: 900000, daily_job_limit: 60, concurrent_jobs: 3 });
await api("PUT", "/api/allowances/scribe", { daily_token_limit: 150000 });
await api("PUT", "/api/models/opus", { daily_token_budget: 2000000, hourly_rate_limit: 60, prices: { input: 500, output: 2500, cached: 50 } });
await api("PUT", "/api/models/sonnet", { daily_token_budget: 3000000, prices: { input: 300, output: 1500, cached: 30 } });
await api("PUT", "/api/limits/fleet", { limits: [{ window: "day", tokens: 4000000, cost: 2500, jobs: 200, hard: true }] });

/** Lets all that is offered be taken, and most of it be done. */
async function work(share) {
  const running = await api("GET", "/api/tasks?status=in_progress&limit=100");
  for (const [index, task] of running.entries()) {
    const model = agents.find(([id]) => id === task.claimed_by)[3][0];
    const [tokens_in, tokens_out, cost] = usage[model];
    const agent_id = task.claimed_by;
    await api("POST", `/api/tasks/${task.id}/output`, { agent_id, text: "$ cargo test -p parser\nrunning 84 tests\n........................................\n" });
    await api("POST", "/api/usage", { agent_id, job_id: task.id, model, tokens_in: tokens_in + index * 700, tokens_out, cost });
    if (Math.random() > share) {
      await api("PATCH", `/api/tasks/${task.id}`, { agent_id, progress: 20 + ((index * 17) % 70), notes: "The grammar is done; the error messages are next." });
    } else if (task.title.includes("nightly")) {
      await api("POST", `/api/tasks/${task.id}/complete`, { agent_id, success: false, error_message: "error: the linker was killed (signal 9): out of memory" });
    } else {
      await api("POST", `/api/tasks/${task.id}/complete`, { agent_id, success: true, output: "All 84 tests pass.", artifacts: ["https://git.example.org/site/pulls/128"] });
    }
  }
}

let number = 0;
for (let round = 0; round < 5; round += 1) {
  for (const [title, labels, priority] of titles) {
    number += 1;
    await api("POST", "/api/tasks", {
      id: `task-${String(number).padStart(3, "0")}`, title, labels, priority, project: number % 3 ? "site" : "handbook", repo: "octo/site", max_retries: 1,
      description: "See the issue. Keep the change small, and add a test that fails without it.",
    });
  }
  await work(0.85);
}
await api("POST", "/api/tasks", { id: "release", title: "Cut the release", priority: "critical", labels: ["release"], dependencies: [] });
await api("POST", "/api/tasks", { id: "announce", title: "Announce the release", labels: ["docs"], dependencies: ["release"] });

const browser = await launch();
const running = await api("GET", "/api/tasks?status=in_progress&limit=20");
const { id: busy } = running.find((task) => task.progress > 0) ?? running[0];
const pictures = [
  ["dashboard-overview", "/", 1280, 860, "light"],
  ["dashboard-overview-dark", "/", 1280, 860, "dark"],
  ["dashboard-fleet", "/dashboard/fleet", 1280, 620, "light"],
  ["dashboard-queue-dark", "/dashboard/queue?status=pending", 1280, 860, "dark"],
  ["dashboard-task", `/dashboard/tasks/${busy}`, 1280, 1000, "light"],
  ["dashboard-limits", "/dashboard/limits?scope=agent:builder-1", 1280, 900, "light"],
  ["dashboard-dead-letters", "/dashboard/dead-letters", 1280, 560, "light"],
  ["dashboard-trends-dark", "/dashboard/trends", 1280, 1000, "dark"],
  ["dashboard-phone", "/", 390, 844, "light"],
  ["dashboard-phone-fleet", "/dashboard/fleet", 390, 844, "dark"],
];
for (const [name, route, width, height, colorScheme] of pictures) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await signIn(context);
  await page.goto(url + route);
  await page.waitForFunction(() => document.querySelector("#pulse")?.dataset.state === "live");
  await page.screenshot({ path: path.join(to, `${name}.png`) });
  await context.close();
}
await browser.close();
