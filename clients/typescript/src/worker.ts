/**
 * The loop of an agent:
 *
 *     sync: running, done ──► server          one roll-call at a time; a long poll is abandoned as soon as an attempt ends,
 *     start, stop, done   ◄──                 and what its answer would have offered is offered again
 *       │ start        ▲ ended
 *       ▼              │
 *     your handler, a promise for each attempt
 *
 * What it promises: the same attempt is started at most once; it is listed in every sync until its handler has settled
 * and its completion was acknowledged; an attempt whose lease could not be renewed is told to end before the server may
 * give its task to somebody else; what was used is told before the end of the attempt is.
 */

import { AdjutantError, Client } from "./client.ts";
import type { Completion, Running, Settled, Start, SyncAnswer, Task, Usage } from "./client.ts";

declare const process: {
  on(signal: string, listener: () => void): void;
  off(signal: string, listener: () => void): void;
};

/** All times are milliseconds. An answer may take so long beyond what it was asked to wait. */
const ANSWER_TIME = 10_000;
/** Between tries while the server is away: doubling from the first to the last. */
const RETRY_BASE = 200;
const RETRY_CAP = 5_000;
/** Between two syncs that brought nothing: a bug on either side must not become a storm. */
const CALM = 100;
/** An attempt is told to end so long before its lease does. */
const MARGIN = 15_000;
/** Handlers have so long to settle when the worker cannot go on, and so have its last words. */
const GRACE = 10_000;
/** Characters of an output that are kept, the newest. A sync has at most 4 MiB, so it takes a few such completions. */
const MAX_OUTPUT = 512 * 1024;
const MAX_DONE = 100;
const MAX_DONE_LENGTH = 1024 * 1024;
/** Attempts that are over and remembered, in case that an offer of them comes late. */
const MAX_SEEN = 4_096;

/** What a handler may return instead of a text. */
export interface Result {
  output?: string;
  artifacts?: readonly string[];
}

/** Does the work of one attempt. What it throws makes the attempt a failed one. */
export type Handler = (job: Job) => Promise<string | Result | void> | string | Result | void;

/** What a worker may be told. */
export interface Options {
  capabilities?: readonly string[];
  models?: readonly string[];
  /** Attempts at a time, 1 if nothing is said; 0 is unlimited. */
  maxLoad?: number;
  name?: string;
  metadata?: unknown;
  /** Whether an operator's drain ends the worker; true if nothing is said. */
  exitWhenDrained?: boolean;
  /** Hears what a person who runs the worker may want to know. */
  log?: (line: string) => void;
}

/** Thrown by a handler whose provider limits its rate: no failure of the task, the agent rests until then. */
export class RateLimited extends Error {
  readonly until: Date;
  readonly model: string | undefined;

  constructor(until: Date, model?: string) {
    super(`rate limited until ${until.toISOString()}`);
    this.until = until;
    this.model = model;
  }
}

/** The reason of a job's aborted signal. */
export class StopError extends Error {
  override readonly name = "StopError";
  /** cancelled, timeout, limit, released, lost, ended, unknown; lease_lost, superseded, refused, shutdown. */
  readonly reason: string;

  constructor(reason: string) {
    super(`told to stop: ${reason}`);
    this.reason = reason;
  }
}

/** An attempt, as its handler sees it. */
export class Job {
  readonly task: Task;
  readonly attempt: number;
  /** A token for this attempt alone, for a process that does the work. */
  readonly token: string | null;
  /** Aborted when the attempt has to end. What the handler does after that does not count. */
  readonly signal: AbortSignal;
  readonly #worker: WorkerSide;

  /** Made by a worker. */
  constructor(start: Start, signal: AbortSignal, worker: WorkerSide) {
    this.task = start.task;
    this.attempt = start.attempt;
    this.token = start.token ?? null;
    this.signal = signal;
    this.#worker = worker;
  }

  /** The task's id. */
  get id(): string {
    return this.task.id;
  }

  /** Why it has to end, once it has. */
  get stopReason(): string | undefined {
    return this.signal.aborted ? (this.signal.reason as StopError).reason : undefined;
  }

  /** Reports what this attempt used so far: totals for each model, told until they are booked; returns at once. */
  usage(totals: Usage & { model?: string }): void {
    this.#worker.book(this, totals);
  }

  /** For people: whether they can be told now makes no difference to the work. */
  async progress(percent: number, note?: string): Promise<void> {
    await this.#worker.tell(this, "PATCH", "", { progress: percent, ...(note ? { notes: note } : {}) });
  }

  /** Live output, for people too. */
  async output(text: string): Promise<void> {
    await this.#worker.tell(this, "POST", "/output", { text: clean(text) });
  }
}

/** What a job needs of its worker. */
interface WorkerSide {
  book(job: Job, totals: Usage & { model?: string }): void;
  tell(job: Job, method: string, path: string, body: object): Promise<void>;
}

type Done = Completion & Running;

/** An agent at work: {@link Worker.run} until it is drained, stopped or cannot go on. */
export class Worker {
  readonly client: Client;
  readonly id: string;
  readonly #handler: Handler;
  readonly #options: Options;
  readonly #session = Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join("");
  readonly #running = new Map<string, { job: Job; stop: AbortController }>();
  readonly #done = new Map<string, Done>();
  /** Told to stop because the worker ends: listed until it leaves, which gives them back, while silence would lose them. */
  readonly #interrupted: Running[] = [];
  readonly #bare = new Set<string>();
  readonly #seen = new Set<string>();
  readonly #totals = new Map<string, Usage>();
  #books: Promise<void> = Promise.resolve();
  #n = 0;
  #registered = false;
  #leaving = false;
  #over = false;
  #draining = false;
  #giveUpAt = Infinity;
  #giveUpTimer: ReturnType<typeof setTimeout> | undefined;
  #fatal: unknown;
  #oneByOne = false;
  #tries = 0;
  #ttl: number | undefined;
  #leaseTimer: ReturnType<typeof setTimeout> | undefined;
  /** Ends the long poll, or the pause, that the loop is in. */
  #wake: (() => void) | undefined;

  constructor(client: Client, id: string, handler: Handler, options: Options = {}) {
    this.client = client;
    this.id = id;
    this.#handler = handler;
    this.#options = options;
  }

  /** Takes nothing new, finishes what runs, and ends; `now`: what runs is told to stop and given back. */
  stop(options: { now?: boolean } = {}): void {
    if (this.#over) return;
    this.#leaving = true;
    if (options.now) {
      this.#giveUpAt = Math.min(this.#giveUpAt, performance.now() + GRACE);
      this.#stopAll("shutdown");
      this.#giveUpTimer ??= setTimeout(() => this.#wake?.(), GRACE);
    }
    this.#wake?.();
  }

  /** Works. Rejects with an {@link AdjutantError} when the server refuses for good: `superseded`, an unknown token, … */
  async run(): Promise<void> {
    try {
      while (!this.#isOver()) {
        try {
          await (this.#registered ? this.#callTheRoll() : this.#register());
        } catch (error) {
          await this.#failed(error);
        }
      }
      if (this.#fatal) throw this.#fatal;
      await this.#farewell();
    } finally {
      // Also when the loop itself fails: nothing goes on that nobody watches.
      this.#stopAll(this.#fatal ? "refused" : "shutdown");
      clearTimeout(this.#leaseTimer);
      for (const end = performance.now() + GRACE; this.#running.size > 0 && performance.now() < end; ) {
        await this.#pause(end - performance.now());
      }
      this.#over = true;
      clearTimeout(this.#giveUpTimer);
    }
  }

  #isOver(): boolean {
    if (performance.now() >= this.#giveUpAt) {
      const left = [...this.#done.values()].map(named).join(", ");
      if (left) this.#fatal ??= new AdjutantError(0, "undelivered", `results that were not delivered: ${left}`, false);
      return true;
    }
    if (this.#fatal) return true;
    const ends = this.#leaving || (this.#draining && this.#options.exitWhenDrained !== false);
    return ends && this.#running.size === 0 && this.#done.size === 0;
  }

  async #register(): Promise<void> {
    const { capabilities = [], models = [], maxLoad = 1, name, metadata } = this.#options;
    const agent = { id: this.id, capabilities, models, max_load: maxLoad, metadata, session: this.#session };
    await this.client.register({ ...agent, ...(name === undefined ? {} : { name }) }, { time: this.#answerTime() });
    this.#registered = true;
    this.#tries = 0;
  }

  // ---- the roll-call --------------------------------------------------------------------------------------------------

  async #callTheRoll(): Promise<void> {
    const batch = this.#batch();
    const later = [...this.#done.values()].filter((done) => !batch.includes(done));
    const running = [...[...this.#running.values()].map(({ job }) => job), ...later, ...this.#interrupted].map(reference);
    const { maxLoad = 1 } = this.#options;
    const max = this.#leaving ? 0 : maxLoad > 0 ? Math.max(0, maxLoad - running.length) : undefined;
    // A quarter of the lease leaves room for a sync that is lost.
    const wait = batch.length === 0 && this.#ttl !== undefined ? this.#ttl / 4 : undefined;
    const roll = {
      session: this.#session,
      n: ++this.#n,
      running,
      done: batch,
      ...(max === undefined ? {} : { max }),
      ...(wait === undefined ? {} : { wait: wait / 1000 }),
    };
    const poll = new AbortController();
    // A sync that carries completions does not wait, and is never abandoned.
    this.#wake = wait === undefined ? undefined : () => poll.abort(new StopError("news"));
    const sentAt = performance.now();
    try {
      const answer = await this.client.sync(this.id, roll, {
        signal: poll.signal,
        time: (wait ?? 0) + this.#answerTime(),
      });
      this.#wake = undefined;
      await this.#apply(answer, batch, sentAt);
    } catch (error) {
      if (!poll.signal.aborted) await this.#failed(error, batch);
    } finally {
      this.#wake = undefined;
    }
  }

  #batch(): Done[] {
    const batch: Done[] = [];
    let length = 0;
    for (const done of this.#done.values()) {
      length += JSON.stringify(done).length;
      const full = this.#oneByOne || batch.length >= MAX_DONE || length > MAX_DONE_LENGTH;
      if (full && batch.length > 0) break;
      batch.push(done);
    }
    return batch;
  }

  async #apply(answer: SyncAnswer, batch: Done[], sentAt: number): Promise<void> {
    this.#renew(answer.lease_ttl * 1000, sentAt);
    this.#draining = answer.drain;
    const kept = batch.filter((done, index) => !this.#settle(done, answer.done?.[index]));
    for (const stop of answer.stop) this.#stop(keyOf(stop), stop.reason);
    for (const start of answer.start) this.#begin(start);
    if (kept.length > 0) return this.#rest();
    this.#tries = 0;
    const quiet = answer.start.length === 0 && batch.length === 0 && performance.now() < sentAt + CALM;
    if (quiet) await this.#pause(CALM);
  }

  /** Takes the answer to a completion; says whether that is the end of it. */
  #settle(done: Done, settled: Settled | undefined): boolean {
    const key = keyOf(done);
    if (!settled) return false;
    const { status, error } = settled;
    if (status >= 300 && (error?.retryable || status === 429 || status >= 500)) return false;
    this.#oneByOne = false;
    if ([400, 413, 422].includes(status) && !this.#bare.has(key)) {
      // It cannot be taken as it is: that it failed can, without the rest.
      this.#bare.add(key);
      const error_message = `the result was refused: ${error?.message}`;
      this.#done.set(key, { ...reference(done), agent_id: this.id, success: false, error_message });
      return true;
    }
    if (status >= 300) this.#log(`${named(done)} is not taken: ${error?.message}`);
    this.#bare.delete(key);
    this.#done.delete(key);
    return true;
  }

  async #failed(error: unknown, batch: Done[] = []): Promise<void> {
    if (!(error instanceof AdjutantError)) {
      this.#fatal = error;
    } else if (error.slug === "superseded") {
      this.#stopAll("superseded");
      this.#fatal = error;
    } else if (error.slug === "agent_not_found") {
      this.#registered = false;
      await this.#rest(error);
    } else if ([400, 413, 422].includes(error.status) && batch.length > 0) {
      // One completion of them spoils the whole: find out which.
      this.#oneByOne = true;
      const [only, ...others] = batch;
      if (only && others.length === 0) this.#settle(only, { status: error.status, error });
    } else if (error.retryable || error.status >= 500 || error.slug === "stale_sync") {
      if (this.#tries === 0) this.#log(`the server is away: ${error.message}`);
      await this.#rest(error);
    } else {
      this.#fatal = error;
    }
  }

  // ---- times ----------------------------------------------------------------------------------------------------------

  /** By this machine's monotonic clock, from when the sync was sent that was answered. */
  #renew(ttl: number, sentAt: number): void {
    this.#ttl = ttl;
    clearTimeout(this.#leaseTimer);
    const left = sentAt + ttl - Math.min(MARGIN, ttl / 2) - performance.now();
    this.#leaseTimer = setTimeout(() => {
      if (this.#running.size > 0) this.#log("the server was away for too long: ending what runs");
      this.#stopAll("lease_lost");
    }, left);
  }

  #answerTime(): number {
    return this.#ttl === undefined ? ANSWER_TIME : Math.min(ANSWER_TIME, Math.max(1_000, this.#ttl / 4));
  }

  /** Waits before the next try; the random part keeps a fleet from arriving all at once. */
  async #rest(error?: AdjutantError): Promise<void> {
    const wait = Math.min(RETRY_CAP, RETRY_BASE * 2 ** Math.min(this.#tries++, 10));
    const asked = Math.min(RETRY_CAP, (error?.retryAfter ?? 0) * 1000);
    await sleep(Math.max(asked, wait * (0.5 + Math.random() / 2)));
  }

  /** Waits, unless there is news. */
  #pause(time: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, time);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // ---- attempts -------------------------------------------------------------------------------------------------------

  #begin(start: Start): void {
    const key = keyOf({ id: start.task.id, attempt: start.attempt });
    if (this.#seen.has(key) || this.#running.has(key) || this.#leaving || this.#fatal) return;
    this.#seen.add(key);
    const [oldest] = this.#seen;
    if (this.#seen.size > MAX_SEEN && oldest !== undefined) this.#seen.delete(oldest);
    const stop = new AbortController();
    const job = new Job(start, stop.signal, { book: this.#book.bind(this), tell: this.#tell.bind(this) });
    this.#running.set(key, { job, stop });
    void this.#do(job, key);
  }

  async #do(job: Job, key: string): Promise<void> {
    const who = { id: job.id, attempt: job.attempt, agent_id: this.id };
    let done: Done;
    try {
      const value = await this.#handler(job);
      const { output = "", artifacts = [] }: Result = typeof value === "string" ? { output: value } : (value ?? {});
      done = { ...who, success: true, output: clean(output), artifacts: artifacts.map(clean) };
    } catch (error) {
      done = { ...who, success: false, error_message: clean(String(error)) };
      if (error instanceof RateLimited) {
        done.rate_limited_until = error.until.toISOString();
        if (error.model !== undefined) done.model = error.model;
      }
    }
    // Decided here: a stop that comes later does not undo what is done.
    const counts = !job.signal.aborted;
    await this.#books;
    this.#running.delete(key);
    if (counts) this.#done.set(key, done);
    else if (job.stopReason === "shutdown") this.#interrupted.push(who);
    this.#wake?.();
  }

  #stop(key: string, reason: string): void {
    this.#running.get(key)?.stop.abort(new StopError(reason));
  }

  #stopAll(reason: string): void {
    for (const key of [...this.#running.keys()]) this.#stop(key, reason);
  }

  async #tell(job: Job, method: string, path: string, body: object): Promise<void> {
    const where = `/api/tasks/${encodeURIComponent(job.id)}${path}`;
    const all = { attempt: job.attempt, agent_id: this.id, ...body };
    await this.client.call(method, where, all, { time: ANSWER_TIME }).catch((error: unknown) => {
      if (!(error instanceof AdjutantError)) throw error;
    });
  }

  // ---- the books, and the end -----------------------------------------------------------------------------------------

  /** What was used is told in order, and before the end of its attempt. */
  #book(job: Job, { model, ...usage }: Usage & { model?: string }): void {
    const key = JSON.stringify([job.id, job.attempt, model ?? null]);
    this.#totals.set(key, usage);
    this.#books = this.#books.then(async () => {
      for (let tries = 0; ; tries++) {
        // Nothing when a report that was sent since had these totals already.
        const totals = this.#totals.get(key);
        if (!totals) return;
        this.#totals.delete(key);
        const report = { agent_id: this.id, job_id: job.id, attempt: job.attempt, ...totals };
        try {
          return await this.client.reportUsage(model === undefined ? report : { ...report, model }, { time: ANSWER_TIME });
        } catch (error) {
          if (!(error instanceof AdjutantError && error.retryable)) {
            return this.#log(`usage of ${named(job)} is not booked: ${String(error)}`);
          }
          if (!this.#totals.has(key)) this.#totals.set(key, totals);
          if (this.#fatal || performance.now() >= this.#giveUpAt) return;
          await sleep(Math.min(RETRY_CAP, RETRY_BASE * 2 ** Math.min(tries, 10)) * (0.5 + Math.random() / 2));
        }
      }
    });
  }

  /** Leaves the registry, instead of being seen as offline a while later. */
  async #farewell(): Promise<void> {
    for (const end = performance.now() + GRACE; performance.now() < end; ) {
      try {
        return await this.client.deregister(this.id, { time: ANSWER_TIME });
      } catch (error) {
        if (!(error instanceof AdjutantError && error.retryable)) return;
        await sleep(RETRY_BASE);
      }
    }
  }

  #log(line: string): void {
    (this.#options.log ?? ((text) => console.warn(text)))(`${this.id}: ${line}`);
  }
}

/** Runs a {@link Worker}. Ctrl-C or SIGTERM finishes what runs and ends; the second one gives back what runs. */
export async function work(client: Client, id: string, handler: Handler, options: Options = {}): Promise<void> {
  const worker = new Worker(client, id, handler, options);
  let asked = false;
  const onSignal = () => {
    worker.stop({ now: asked });
    asked = true;
  };
  const signals = ["SIGINT", "SIGTERM"];
  for (const signal of signals) process.on(signal, onSignal);
  try {
    await worker.run();
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
  }
}

function keyOf({ id, attempt }: Running): string {
  return `${attempt} ${id}`;
}

function reference({ id, attempt }: Running): Running {
  return { id, attempt };
}

function named({ id, attempt }: Running): string {
  return `${id} (attempt ${attempt})`;
}

function sleep(time: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, time));
}

/** What the server takes: no U+0000, no halves of characters, the newest part of what is long. */
function clean(text: string): string {
  const halves = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\0/g;
  return String(text).slice(-MAX_OUTPUT).replace(halves, "\ufffd");
}
