// The client against a real server: ADJUTANT_URL and ADJUTANT_TOKEN say which.
//
// ADJUTANT_RESTART names a file that makes whoever runs the server kill it (kill -9) and start it again on the same port
// and store, and removes the file then. The test of a restart is skipped without it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { afterEach, beforeEach, describe, test } from "node:test";

import { AdjutantError, Client, RateLimited, Worker } from "adjutant-client";

/** Milliseconds after which something that should happen has not. */
const PATIENCE = 60_000;

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

async function eventually(what, check) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await pause(20)) {
    const found = await check();
    if (found) return found;
  }
  assert.fail(`not in time: ${what}`);
}

/** Something to wait for. */
function signal() {
  let give;
  const given = new Promise((resolve) => (give = resolve));
  return { give, given };
}

const stopped = (job) =>
  new Promise((resolve) => job.signal.addEventListener("abort", () => resolve(job.stopReason), { once: true }));

/** Starts a worker; `ended` gives the error that it ended with, if any. */
function running(worker) {
  const ended = worker.run().then(
    () => undefined,
    (error) => error,
  );
  const stop = (options) => (worker.stop(options), ended);
  return { worker, ended, stop };
}

describe("a worker", () => {
  const client = new Client();
  let mark;
  let workers;

  beforeEach(() => {
    mark = `ts-${randomUUID().slice(0, 8)}`;
    workers = [];
  });

  afterEach(async () => {
    for (const worker of workers) await worker.stop({ now: true });
  });

  /** A worker that takes the tasks of this test and no others. */
  function start(name, handler, options = {}) {
    const log = () => {};
    workers.push(running(new Worker(client, `${mark}-${name}`, handler, { capabilities: [mark], log, ...options })));
    return workers.at(-1);
  }

  async function submit(name, fields = {}) {
    return (await client.submit({ id: `${mark}-${name}`, title: name, labels: [mark], ...fields })).id;
  }

  function when(id, status) {
    return eventually(`${id} is ${status}`, async () => {
      try {
        const task = await client.get(id);
        return task.status === status && task;
      } catch (error) {
        if (!error.retryable) throw error;
        return undefined;
      }
    });
  }

  test("does a hundred tasks once each, together with another", async () => {
    const done = [];
    const handle = (job) => {
      done.push(job.id);
      return { output: job.task.title.toUpperCase(), artifacts: [`${job.id}.txt`] };
    };
    const tasks = [];
    for (let number = 0; number < 100; number++) tasks.push(await submit(`t${number}`));
    for (const name of ["a", "b"]) start(name, handle, { maxLoad: 4 });
    const found = [];
    for (const task of tasks) found.push(await when(task, "completed"));
    assert.deepEqual(done.sort(), [...tasks].sort());
    assert.ok(found.every((task) => task.attempt === 1));
    assert.equal(found[7].result.output, "T7");
    assert.deepEqual(found[7].result.artifacts, [`${tasks[7]}.txt`]);
    assert.deepEqual([...new Set(found.map((task) => task.claimed_by))].sort(), [`${mark}-a`, `${mark}-b`]);
  });

  test("fails the attempt when its handler throws, and tries again", async () => {
    const task = await submit("retry");
    start("a", (job) => {
      if (job.attempt === 1) throw new Error("no luck \0\ud800");
      return "luck";
    });
    const reason = await eventually("a failure", async () => (await client.get(task)).fail_reason);
    assert.match(reason, /no luck \ufffd\ufffd/);
    const found = await when(task, "completed");
    assert.deepEqual([found.attempt, found.retry_count, found.result.output], [2, 1, "luck"]);
  });

  test("fails an attempt whose result is refused, and no other", async () => {
    const bad = await submit("bad", { max_retries: 1 });
    const good = [];
    for (let number = 0; number < 6; number++) good.push(await submit(`good${number}`));
    const handle = (job) => ({
      output: "x".repeat(2_000_000),
      artifacts: Array(job.id === bad ? 2_000 : 1).fill("name"),
    });
    start("a", handle, { maxLoad: 8 });
    assert.match((await when(bad, "failed")).fail_reason, /the result was refused/);
    for (const task of good) assert.equal((await when(task, "completed")).result.output.length, 512 * 1024);
  });

  test("takes a rate limit for no failure", async () => {
    const task = await submit("limited");
    start("a", (job) => {
      if (job.attempt === 1) throw new RateLimited(new Date(Date.now() + 1_000));
      return "rested";
    });
    assert.equal((await when(task, "completed")).retry_count, 0);
  });

  test("tells its handler of a cancel", async () => {
    const reasons = [];
    const task = await submit("endless");
    start("a", async (job) => {
      if (job.id === task) {
        await job.progress(10, "waiting");
        reasons.push(await stopped(job));
      }
      return "does not count when it was stopped";
    });
    await eventually("progress", async () => (await client.get(task)).progress === 10);
    await client.cancel(task);
    await eventually("the handler hears of it", () => reasons.length > 0);
    assert.deepEqual(reasons, ["cancelled"]);
    // Its place is free again.
    await when(await submit("next"), "completed");
    assert.equal((await client.get(task)).status, "cancelled");
  });

  test("books usage once, however often it is told", async () => {
    const task = await submit("spender");
    start("a", async (job) => {
      await job.output("working\n");
      for (const tokens_in of [100, 150, 150]) job.usage({ model: "sonnet", tokens_in, tokens_out: 10 });
      job.usage({ model: "haiku", tokens_in: 5, tokens_out: 1 });
      return "done";
    });
    const { usage } = await when(task, "completed");
    assert.deepEqual([usage.tokens_in, usage.tokens_out], [155, 11]);
    assert.deepEqual(usage.models.map((entry) => entry.model).sort(), ["haiku", "sonnet"]);
    assert.equal((await client.call("GET", `/api/tasks/${task}/output`)).text, "working\n");
  });

  const restart = process.env.ADJUTANT_RESTART;
  test("loses nothing when the server is killed and comes back", { skip: !restart }, async () => {
    const done = [];
    const [first, goOn] = [signal(), signal()];
    const tasks = [];
    for (let number = 0; number < 20; number++) tasks.push(await submit(`t${number}`));
    const handle = async (job) => {
      first.give();
      await goOn.given;
      job.usage({ model: "sonnet", tokens_in: 1 });
      done.push(job.id);
      return "done";
    };
    start("a", handle, { maxLoad: 4 });
    await first.given;
    writeFileSync(restart, "");
    // Some end while the server is away, the others after that.
    goOn.give();
    await eventually("the server is back", () => !existsSync(restart));
    const found = [];
    for (const task of tasks) found.push(await when(task, "completed"));
    assert.deepEqual(done.sort(), [...tasks].sort());
    assert.ok(found.every((task) => task.attempt === 1));
    assert.equal(found.reduce((sum, task) => sum + task.usage.tokens_in, 0), 20);
  });

  test("ends when it was superseded", async () => {
    const reasons = [];
    const started = signal();
    const task = await submit("contested");
    const first = start("a", async (job) => {
      started.give();
      reasons.push(await stopped(job));
    });
    await started.given;
    start("a", () => "by the second one");
    const error = await first.ended;
    assert.ok(error instanceof AdjutantError);
    assert.deepEqual([error.status, error.slug, error.retryable], [409, "superseded", false]);
    assert.deepEqual(reasons, ["superseded"]);
    assert.equal((await when(task, "completed")).attempt, 2);
  });

  test("finishes what runs when it is stopped, and leaves", async () => {
    const [started, goOn] = [signal(), signal()];
    const [one, two] = [await submit("one"), await submit("two")];
    const { worker, ended } = start("a", async () => {
      started.give();
      await goOn.given;
      return "finished";
    });
    await started.given;
    worker.stop();
    goOn.give();
    assert.equal(await ended, undefined);
    assert.equal((await client.get(one)).status, "completed");
    assert.equal((await client.get(two)).status, "pending");
    await assert.rejects(client.call("GET", `/api/agents/${mark}-a`), { status: 404, slug: "agent_not_found" });
  });

  test("gives back what runs when it is stopped at once", async () => {
    const started = signal();
    const task = await submit("interrupted");
    const { stop } = start("a", async (job) => {
      started.give();
      await stopped(job);
    });
    await started.given;
    assert.equal(await stop({ now: true }), undefined);
    const found = await client.get(task);
    assert.deepEqual([found.status, found.retry_count], ["pending", 0]);
  });

  test("ends when an operator drains it", async () => {
    const { ended } = start("a", () => "done");
    await when(await submit("one"), "completed");
    await client.call("POST", `/api/agents/${mark}-a/drain`);
    assert.equal(await ended, undefined);
  });

  test("is the example of the README, which ends in good order", async () => {
    const here = new URL("..", import.meta.url);
    const example = readFileSync(new URL("README.md", here), "utf8").split("```js\n")[1].split("```")[0];
    const done = async () => {
      const tasks = await client.call("GET", "/api/tasks?labels=text&status=completed&limit=1000");
      return tasks.filter((task) => task.result.output === "SAY HELLO TO NODE").length;
    };
    const before = await done();
    const program = spawn(process.execPath, ["--input-type=module", "-e", example], { cwd: here, stdio: "inherit" });
    const ended = new Promise((resolve) => program.on("exit", resolve));
    try {
      await eventually("the example", async () => (await done()) > before);
      program.kill("SIGTERM");
      assert.equal(await ended, 0);
    } finally {
      program.kill("SIGKILL");
    }
  });

  test("errors say what a program needs", async () => {
    await assert.rejects(client.get("no/such task"), { name: "AdjutantError", status: 404, slug: "task_not_found" });
    await assert.rejects(new Client({ token: "nonsense" }).get("x"), { status: 401, retryable: false });
    await assert.rejects(new Client({ url: "http://127.0.0.1:9" }).get("x"), { status: 0, retryable: true });
    const once = { title: "once", labels: [mark] };
    const { id } = await client.submit(once, { key: mark });
    assert.equal((await client.submit(once, { key: mark })).id, id);
    await client.cancel(id);
  });
});

describe("a lease", () => {
  /** A server that gives one task, with a lease of two seconds, and is overloaded until it is `again`. */
  async function stub() {
    const state = { syncs: [], again: false, url: "", server: undefined };
    state.server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      const answer = (status, body) => response.writeHead(status).end(JSON.stringify(body));
      if (!request.url.endsWith("/sync")) return answer(200, {});
      const body = JSON.parse(text);
      state.syncs.push(body);
      const done = body.done.map(() => ({ status: 200 }));
      const nothing = { start: [], stop: [], done, drain: false, lease_ttl: 2 };
      const start = [{ task: { id: "t", title: "t" }, attempt: 1 }];
      if (state.syncs.length === 1) return answer(200, { ...nothing, start });
      if (state.again) return answer(200, nothing);
      return answer(503, { code: 503, error: "overloaded", message: "busy", retryable: true });
    });
    await new Promise((resolve) => state.server.listen(0, "127.0.0.1", resolve));
    state.url = `http://127.0.0.1:${state.server.address().port}`;
    return state;
  }

  function work(state, handler) {
    return running(new Worker(new Client({ url: state.url }), "a", handler, { log: () => {} }));
  }

  test("that could not be renewed ends its attempt", async () => {
    const state = await stub();
    const ended = [];
    const { stop } = work(state, async (job) => {
      const since = performance.now();
      const reason = await stopped(job);
      ended.push([reason, performance.now() - since]);
    });
    await eventually("the end of the attempt", () => ended.length > 0);
    const [reason, after] = ended[0];
    assert.equal(reason, "lease_lost");
    // Half of a lease that is shorter than twice the margin.
    assert.ok(after > 500 && after < 1_900, String(after));
    // It was listed as long as it ran, through all the refusals, and is not reported as done.
    assert.ok(state.syncs.length > 2);
    for (const sync of state.syncs.slice(1, 3)) assert.deepEqual(sync.running, [{ id: "t", attempt: 1 }]);
    state.again = true;
    assert.equal(await stop(), undefined);
    assert.ok(state.syncs.every((sync) => sync.done.length === 0));
    state.server.close();
  });

  test("does not matter to a completion, which is sent until it is acknowledged", async () => {
    const state = await stub();
    const { stop } = work(state, () => "done");
    await eventually("three tries", () => state.syncs.filter((sync) => sync.done.length > 0).length >= 3);
    state.again = true;
    assert.equal(await stop(), undefined);
    // A sync may overtake the poll that it ends, which the server sees by its lower number; none is used twice.
    const numbers = state.syncs.map((sync) => sync.n);
    assert.equal(numbers.length, new Set(numbers).size);
    state.server.close();
  });
});
