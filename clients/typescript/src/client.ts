/** The HTTP API as functions. A refusal is an {@link AdjutantError}. */

declare const process: { env: Record<string, string | undefined> } | undefined;

/** Milliseconds that a call may take, unless it says otherwise. */
const CALL_TIME = 30_000;

/** A task as the server tells it. */
export interface Task {
  id: string;
  title: string;
  description: string;
  priority: "critical" | "high" | "medium" | "low";
  status: "pending" | "blocked" | "in_progress" | "completed" | "failed" | "cancelled";
  labels: string[];
  payload: unknown;
  attempt: number;
  retry_count: number;
  fail_reason: string | null;
  claimed_by: string | null;
  progress: number;
  result: { success: boolean; output: string; artifacts: string[]; error_message: string } | null;
  usage: { tokens_in: number; tokens_out: number; tokens_cached: number; cost: number; models: unknown[] };
  [field: string]: unknown;
}

/** A task to submit; docs/concepts.md says what the fields mean. */
export interface NewTask {
  id?: string;
  title: string;
  description?: string;
  priority?: Task["priority"];
  labels?: string[];
  payload?: unknown;
  dependencies?: string[];
  estimated_tokens?: number;
  timeout?: number | string;
  max_retries?: number;
  [field: string]: unknown;
}

/** An agent to register. */
export interface NewAgent {
  id: string;
  name?: string;
  capabilities?: readonly string[];
  models?: readonly string[];
  /** Attempts at a time; 0 is unlimited. */
  max_load?: number;
  metadata?: unknown;
  /** A random string of the process that speaks for it. */
  session?: string;
}

/** An attempt of a task. */
export interface Running {
  id: string;
  attempt: number;
}

/** What was used of a model; cost in cents. */
export interface Usage {
  tokens_in?: number;
  tokens_out?: number;
  tokens_cached?: number;
  cost?: number;
}

/** The end of an attempt. */
export interface Completion extends Usage {
  success: boolean;
  output?: string;
  artifacts?: readonly string[];
  error_message?: string;
  attempt?: number;
  agent_id?: string;
  model?: string;
  rate_limited_until?: string;
}

/** An attempt that the server gives. */
export interface Start {
  task: Task;
  attempt: number;
  lease_expires_at: string;
  timeout: number | null;
  token: string | null;
}

/** An attempt that has to end: cancelled, timeout, limit, released, lost, ended or unknown. */
export interface Stop extends Running {
  reason: string;
}

/** What the agent runs and what it finished. */
export interface Roll {
  session?: string;
  n?: number;
  running: readonly Running[];
  done?: readonly (Completion & Running)[];
  max?: number;
  wait?: number;
}

/** How one completion went. */
export interface Settled {
  status: number;
  error?: { message?: string; retryable?: boolean };
}

/** What a sync answers; `done` has an item for each completion, in order. */
export interface SyncAnswer {
  start: Start[];
  stop: Stop[];
  done?: Settled[];
  drain: boolean;
  /** Seconds. */
  lease_ttl: number;
}

/** The server said no, or nothing at all (`status` 0). */
export class AdjutantError extends Error {
  override readonly name = "AdjutantError";
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** The stable name of the error, see docs/errors.md. */
  readonly slug: string;
  /** Whether the same call may succeed later without being changed. */
  readonly retryable: boolean;
  /** Seconds after which it may, where the server said so. */
  readonly retryAfter: number;

  constructor(status: number, slug: string, message: string, retryable: boolean, retryAfter = 0, cause?: unknown) {
    super(message, { cause });
    this.status = status;
    this.slug = slug;
    this.retryable = retryable;
    this.retryAfter = retryAfter;
  }
}

/** What any call may be told. */
export interface CallOptions {
  /** Ends the call; it rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Milliseconds until a server that does not answer counts as away. */
  time?: number;
  /** Does the call once, however often it is repeated with this key. */
  key?: string;
}

/** The HTTP API of a server. */
export class Client {
  readonly url: string;
  readonly #token: string | undefined;

  /** Where nothing is said, `ADJUTANT_URL` and `ADJUTANT_TOKEN` of the environment say it. */
  constructor(options: { url?: string; token?: string } = {}) {
    const env = typeof process === "undefined" ? {} : process.env;
    this.url = (options.url || env["ADJUTANT_URL"] || "http://127.0.0.1:7717").replace(/\/+$/, "");
    this.#token = options.token || env["ADJUTANT_TOKEN"];
  }

  /** Any call of the API. */
  async call<Answer>(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<Answer> {
    const headers: Record<string, string> = { "Content-Type": "application/json", Accept: "application/json" };
    if (this.#token) headers["Authorization"] = `Bearer ${this.#token}`;
    if (options.key) headers["Idempotency-Key"] = options.key;
    const { signal } = options;
    signal?.throwIfAborted();
    const call = new AbortController();
    const end = () => call.abort(signal?.reason);
    signal?.addEventListener("abort", end);
    const time = options.time ?? CALL_TIME;
    const timer = setTimeout(() => call.abort(new Error(`nothing within ${time / 1000} s`)), time);
    let response: Response;
    let text: string;
    try {
      // Redirections are not followed: the token is for this server.
      response = await fetch(this.url + path, {
        method,
        headers,
        redirect: "manual",
        signal: call.signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      text = await response.text();
    } catch (error) {
      signal?.throwIfAborted();
      throw noAnswer(this.url, error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
    const value = parsed(text);
    if (response.ok) return value as Answer;
    const said = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
    const { status } = response;
    throw new AdjutantError(
      status,
      String(said["error"] ?? ""),
      String(said["message"] ?? `${this.url} answered ${status}`),
      said["retryable"] === true || [429, 502, 503, 504].includes(status),
      Number(response.headers.get("Retry-After")) || 0,
    );
  }

  /** Submits a task: it is durable when this resolves. A repeat with the same `key` makes no second one. */
  submit(task: NewTask, options: CallOptions = {}): Promise<Task> {
    return this.call("POST", "/api/tasks", task, options);
  }

  /** A task as it is now. */
  get(id: string): Promise<Task> {
    return this.call("GET", taskPath(id));
  }

  /** Changes a task: progress, notes, priority, …; with `attempt` only while that one holds it. */
  update(id: string, changes: Record<string, unknown>, options: CallOptions = {}): Promise<Task> {
    return this.call("PATCH", taskPath(id), changes, options);
  }

  /** Ends an attempt. */
  async complete(id: string, completion: Completion): Promise<Task> {
    return (await this.call<{ task: Task }>("POST", `${taskPath(id)}/complete`, completion)).task;
  }

  /** Cancels a task; what runs is told to stop. */
  cancel(id: string): Promise<Task> {
    return this.call("POST", `${taskPath(id)}/cancel`);
  }

  /** Live output of an attempt. */
  async output(id: string, attempt: Omit<Running, "id"> & { text: string }, options: CallOptions = {}): Promise<void> {
    await this.call("POST", `${taskPath(id)}/output`, attempt, options);
  }

  /** Books what was used of a model: the attempt's totals, or with `total: false` an increase. */
  async reportUsage(
    report: Usage & { agent_id: string; job_id: string; attempt?: number; model?: string; total?: boolean },
    options: CallOptions = {},
  ): Promise<void> {
    await this.call("POST", "/api/usage", { total: true, event: "usage", ...report }, options);
  }

  /** Registers an agent, or changes it. */
  async register(agent: NewAgent, options: CallOptions = {}): Promise<void> {
    await this.call("POST", "/api/agents", agent, options);
  }

  /** The roll-call. */
  sync(agent: string, roll: Roll, options: CallOptions = {}): Promise<SyncAnswer> {
    return this.call("POST", `/api/agents/${encodeURIComponent(agent)}/sync`, roll, options);
  }

  /** Removes an agent; what it still has is given back, and has not failed. */
  async deregister(agent: string, options: CallOptions = {}): Promise<void> {
    await this.call("DELETE", `/api/agents/${encodeURIComponent(agent)}`, undefined, options);
  }
}

function taskPath(id: string): string {
  return `/api/tasks/${encodeURIComponent(id)}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `fetch` says only "fetch failed"; what happened is in the cause. */
function noAnswer(url: string, error: unknown): AdjutantError {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = String((inner as { code?: unknown } | null)?.code ?? "");
  const what = (inner instanceof Error && inner.message) || code || String(inner);
  if (/CERT|UNABLE_TO_VERIFY/.test(code)) {
    return new AdjutantError(0, "untrusted", `${url} is not trusted: ${what}`, false, 0, error);
  }
  return new AdjutantError(0, "unreachable", `no answer from ${url}: ${what}`, true, 0, error);
}
