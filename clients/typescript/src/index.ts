/** A client and a worker for adjutant: fetch, and nothing else. */

export { AdjutantError, Client } from "./client.ts";
export type { Completion, NewAgent, NewTask, Running, Start, Stop, SyncAnswer, Task, Usage } from "./client.ts";
export { Job, RateLimited, StopError, Worker, work } from "./worker.ts";
export type { Handler, Options, Result } from "./worker.ts";
