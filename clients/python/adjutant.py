"""A client and a worker for adjutant. One file, nothing but the standard library.

    from adjutant import Client, Job, work

    def handle(job: Job) -> str:
        return job.task["title"].upper()

    work(Client(), "upper", handle, capabilities=["text"], max_load=4)

`Client` is the HTTP API as functions; a refusal is an `AdjutantError`. `Worker` is the loop of an agent:

    loop (one thread, owns all state)   sync: running, done ──►   server
        ▲ inbox                         start, stop, done   ◄──
        │ answers, ends of handlers
    a thread for each attempt (your handler), one for each request, one that keeps the books (usage)

What the worker promises: the same attempt is started at most once; it is listed in every sync until its handler has
returned and its completion was acknowledged; an attempt whose lease could not be renewed is told to end before the
server may give its task to somebody else; what was used is told before the end of the attempt is.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import queue
import random
import signal
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Sequence, TypedDict, Union
from urllib.parse import quote, urlsplit

__all__ = ["AdjutantError", "Client", "Job", "RateLimited", "Result", "Worker", "work"]

Key = tuple[str, int]
"""An attempt: the task's id and the attempt's number."""
Book = tuple[Key, Union[str, None]]
"""What an attempt used of a model."""

log = logging.getLogger("adjutant")

# Seconds that an answer may take beyond what it was asked to wait: longer, and the server counts as away.
ANSWER_TIME = 10.0
# Seconds between tries while the server is away: doubling from the first to the last.
RETRY_BASE, RETRY_CAP = 0.2, 5.0
# Seconds between two syncs that brought nothing: a bug on either side must not become a storm.
CALM = 0.1
# Seconds before the end of its lease at which an attempt is told to end.
MARGIN = 15.0
# Seconds that handlers have to return when the worker cannot go on, and that its last words may take.
GRACE = 10.0
# Characters of an output that are kept, the newest. A sync has at most 4 MiB, so it takes a few such completions.
MAX_OUTPUT = 512 * 1024
MAX_DONE, MAX_DONE_BYTES = 100, 2 * 1024 * 1024
# Attempts that are over and remembered, in case that an offer of them comes late.
MAX_SEEN = 4096


class Start(TypedDict):
    """An attempt that the server gives."""

    task: dict[str, Any]
    attempt: int
    lease_expires_at: str
    timeout: int | None
    token: str | None


class Stop(TypedDict):
    """An attempt that has to end. Reasons: cancelled, timeout, limit, released, lost, ended, unknown."""

    id: str
    attempt: int
    reason: str


class SyncAnswer(TypedDict):
    """What a sync answers; `done` has an item for each completion, in order."""

    start: list[Start]
    stop: list[Stop]
    done: list[dict[str, Any]]
    drain: bool
    lease_ttl: int


class AdjutantError(Exception):
    """The server said no, or nothing at all (`status` 0). `retryable`: the same call may succeed later."""

    def __init__(self, status: int, slug: str, message: str, retryable: bool, retry_after: float = 0.0) -> None:
        super().__init__(f"{message} [{slug}]")
        self.status, self.slug, self.message = status, slug, message
        self.retryable, self.retry_after = retryable, retry_after


class RateLimited(Exception):
    """Raised by a handler whose provider limits its rate: no failure of the task, the agent rests until then."""

    def __init__(self, until: str, model: str | None = None) -> None:
        super().__init__(f"rate limited until {until}")
        self.until, self.model = until, model


class Client:
    """The HTTP API. Safe to use from several threads: each call has a connection of its own."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Where nothing is said, `ADJUTANT_URL` and `ADJUTANT_TOKEN` of the environment say it."""
        self.url = (url or os.environ.get("ADJUTANT_URL") or "http://127.0.0.1:7717").rstrip("/")
        self._token = token or os.environ.get("ADJUTANT_TOKEN")
        self._at, self._tls = urlsplit(self.url), tls
        if self._at.scheme not in ("http", "https") or not self._at.hostname:
            raise ValueError(f"`{self.url}` is not an http:// or https:// address")

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 30.0, key: str | None = None) -> Any:
        """Any call of the API. With a `key` it is done once, however often it is repeated."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        host, port = self._at.hostname or "", self._at.port
        # Not urllib: it would follow a redirection and show the token to whoever is there.
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
            if self._at.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        try:
            connection.request(method, self._at.path + path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
        except ssl.SSLCertVerificationError as error:
            raise AdjutantError(0, "untrusted", f"{self.url} is not trusted: {error}", False) from error
        except (OSError, http.client.HTTPException) as error:
            what = str(error) or type(error).__name__
            raise AdjutantError(0, "unreachable", f"no answer from {self.url}: {what}", True) from error
        finally:
            connection.close()
        try:
            value = json.loads(text) if text else None
        except ValueError:
            value = {}
        if 200 <= answer.status < 300:
            return value
        said = value if isinstance(value, dict) else {}
        after = answer.headers.get("Retry-After") or ""
        raise AdjutantError(
            answer.status,
            str(said.get("error", "")),
            str(said.get("message") or f"{self.url} answered {answer.status}"),
            bool(said.get("retryable")) or answer.status in (429, 502, 503, 504),
            float(after) if after.isdigit() else 0.0,
        )

    def submit(self, title: str, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """Submits a task: durable when this returns. A repeat with the same `key` makes no second one."""
        return self.call("POST", "/api/tasks", {"title": title, **fields}, key=key)

    def get(self, task_id: str) -> dict[str, Any]:
        """A task as it is now."""
        return self.call("GET", _task(task_id))

    def update(self, task_id: str, **changes: Any) -> dict[str, Any]:
        """Changes a task: progress, notes, priority, …; with `attempt` only while that one holds it."""
        return self.call("PATCH", _task(task_id), changes)

    def complete(self, task_id: str, success: bool, **result: Any) -> dict[str, Any]:
        """Ends an attempt: output, artifacts, error_message, attempt, model, tokens_in, …"""
        return self.call("POST", _task(task_id) + "/complete", {"success": success, **result})["task"]

    def cancel(self, task_id: str) -> dict[str, Any]:
        """Cancels a task; what runs is told to stop."""
        return self.call("POST", _task(task_id) + "/cancel")

    def report_usage(
        self, agent_id: str, task_id: str, *, total: bool = True, timeout: float = 30.0, **usage: Any
    ) -> None:
        """Books tokens_in, tokens_out, tokens_cached, cost (cents) of a model: the attempt's totals, or an increase."""
        body = {"agent_id": agent_id, "job_id": task_id, "total": total, "event": "usage", **usage}
        self.call("POST", "/api/usage", body, timeout=timeout)

    def register(self, agent_id: str, *, timeout: float = 30.0, **fields: Any) -> dict[str, Any]:
        """Registers an agent, or changes it: name, capabilities, models, max_load, metadata, session."""
        return self.call("POST", "/api/agents", {"id": agent_id, **fields}, timeout=timeout)

    def sync(self, agent_id: str, *, timeout: float = 30.0, **roll: Any) -> SyncAnswer:
        """The roll-call: running, done, session, n, max, wait."""
        return self.call("POST", _agent(agent_id) + "/sync", {"running": [], **roll}, timeout=timeout)

    def deregister(self, agent_id: str, *, timeout: float = 30.0) -> None:
        """Removes an agent; what it still has is given back, and has not failed."""
        self.call("DELETE", _agent(agent_id), timeout=timeout)


@dataclass
class Result:
    """What a handler may return instead of a text."""

    output: str = ""
    artifacts: Sequence[str] = ()


@dataclass(eq=False)
class Job:
    """An attempt, as its handler sees it."""

    task: dict[str, Any]
    attempt: int
    token: str | None
    """A token for this attempt alone, for a process that does the work."""
    timeout: int | None
    """Seconds that it may run; the server tells it to stop then."""
    worker: Worker = field(repr=False)
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the attempt has to end. What the handler does after that does not count."""
    stop_reason: str | None = None
    """cancelled, timeout, limit, released, lost, ended, unknown; lease_lost, superseded, refused, shutdown."""

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task["id"]

    def usage(
        self,
        model: str | None = None,
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
        tokens_cached: int = 0,
        cost: float | None = None,
    ) -> None:
        """Reports what this attempt used so far of a model: totals, told until they are booked; returns at once."""
        totals = {"tokens_in": tokens_in, "tokens_out": tokens_out, "tokens_cached": tokens_cached, "cost": cost}
        self.worker._report(self, model, totals)

    def progress(self, percent: int, note: str | None = None) -> None:
        """For people: whether they can be told now makes no difference to the work."""
        self._tell("PATCH", "", {"progress": percent, **({"notes": note} if note else {})})

    def output(self, text: str) -> None:
        """Live output, for people too."""
        self._tell("POST", "/output", {"text": _text(text)})

    def _tell(self, method: str, path: str, body: dict[str, Any]) -> None:
        body = {"attempt": self.attempt, "agent_id": self.worker.agent_id, **body}
        try:
            self.worker.client.call(method, _task(self.id) + path, body, timeout=ANSWER_TIME)
        except AdjutantError as error:
            log.debug("%s (attempt %d) cannot tell: %s", self.id, self.attempt, error)


Handler = Callable[[Job], Union[str, Result, None]]
"""Does the work of one attempt. What it raises makes the attempt a failed one."""


@dataclass
class _Flight:
    """A request that was sent and not answered."""

    sent_at: float
    batch: list[Key]
    waits: bool
    """It is a long poll: a newer sync may end it, and loses nothing by that."""


class Worker:
    """An agent at work: `run()` until it is drained, stopped or cannot go on."""

    def __init__(
        self,
        client: Client,
        agent_id: str,
        handler: Handler,
        *,
        capabilities: Sequence[str] = (),
        models: Sequence[str] = (),
        max_load: int = 1,
        name: str | None = None,
        metadata: Any = None,
        exit_when_drained: bool = True,
    ) -> None:
        """`max_load`: attempts at a time, each in a thread; 0 is unlimited."""
        self.client, self.agent_id, self.handler = client, agent_id, handler
        self.max_load, self.exit_when_drained = max_load, exit_when_drained
        self.session = uuid.uuid4().hex
        self._agent = {
            "name": name,
            "capabilities": list(capabilities),
            "models": list(models),
            "max_load": max_load,
            "metadata": metadata,
            "session": self.session,
        }
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._n = 0
        self._registered = False
        self._flight: _Flight | None = None
        self._running: dict[Key, Job] = {}
        self._interrupted: list[Key] = []
        self._done: dict[Key, dict[str, Any]] = {}
        self._bare: set[Key] = set()
        self._one_by_one = False
        self._seen: dict[Key, None] = {}
        self._news = False
        self._leaving = self._draining = self._over = False
        self._give_up_at: float | None = None
        self._fatal: BaseException | None = None
        self._ttl: float | None = None
        self._renewed_at = 0.0
        self._lease_lost = False
        self._tries, self._quiet_until = 0, 0.0
        self._books: queue.SimpleQueue[tuple[Book | None, Callable[[], None] | None]] = queue.SimpleQueue()
        self._totals: dict[Book, dict[str, Any]] = {}

    # ---- what others call, from any thread or a signal handler ------------------------------------------------------

    def stop(self, now: bool = False) -> None:
        """Takes nothing new, finishes what runs, and ends; `now`: tells what runs to stop, and gives it back."""
        self._inbox.put(partial(self._leave, now))

    def _report(self, job: Job, model: str | None, totals: dict[str, Any]) -> None:
        book = ((job.id, job.attempt), model)
        self._totals[book] = totals
        self._books.put((book, None))

    # ---- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Works. Raises `AdjutantError` when the server refuses for good: `superseded`, a token that is not known, …"""
        books = threading.Thread(target=self._keep_books, name="adjutant-books", daemon=True)
        books.start()
        try:
            while not self._is_over():
                if self._may_send():
                    self._send()
                self._attend()
            if self._fatal:
                raise self._fatal
            self._farewell()
        finally:
            # Also when the loop itself fails: nothing goes on that nobody watches.
            self._stop_all("refused" if self._fatal else "shutdown")
            end = time.monotonic() + GRACE
            while self._running and time.monotonic() < end:
                self._attend(until=end)
            self._books.put((None, None))
            books.join(max(0.0, end - time.monotonic()))
            self._over = True

    def _is_over(self) -> bool:
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            left = ", ".join(f"{task_id} (attempt {attempt})" for task_id, attempt in self._done)
            if left and not self._fatal:
                self._fatal = AdjutantError(0, "undelivered", f"results that were not delivered: {left}", False)
            return True
        if self._fatal:
            return True
        ends = self._leaving or (self._draining and self.exit_when_drained)
        return ends and not self._running and not self._done

    def _may_send(self) -> bool:
        if time.monotonic() < self._quiet_until:
            return False
        return self._flight is None or (self._flight.waits and self._news)

    def _attend(self, until: float | None = None) -> None:
        """Does the next thing in the inbox, or what time has come for."""
        times = [until, self._give_up_at, self._lease_deadline(), None if self._flight else self._quiet_until]
        if self._flight and self._flight.waits and self._news:
            times.append(self._quiet_until)
        due = min((at for at in times if at is not None), default=None)
        try:
            self._inbox.get(timeout=None if due is None else max(0.0, due - time.monotonic()))()
        except queue.Empty:
            pass
        deadline = self._lease_deadline()
        if deadline is not None and time.monotonic() >= deadline:
            log.warning("%s: the server was away for too long: ending what runs", self.agent_id)
            self._lease_lost = True
            self._stop_all("lease_lost")

    def _lease_deadline(self) -> float | None:
        """By this machine's monotonic clock, from when the sync was sent that was answered last."""
        if self._ttl is None or self._lease_lost or not self._running:
            return None
        return self._renewed_at + self._ttl - min(MARGIN, self._ttl / 2)

    # ---- requests -----------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        self._news = False
        slack = ANSWER_TIME if self._ttl is None else min(ANSWER_TIME, max(1.0, self._ttl / 4))
        call: Callable[[], Any]
        if not self._registered:
            call = partial(self.client.register, self.agent_id, timeout=slack, **self._agent)
            self._fly(_Flight(time.monotonic(), [], False), call, self._welcomed)
            return
        batch = self._batch()
        listed = [*self._running, *self._interrupted, *(key for key in self._done if key not in batch)]
        self._n += 1
        roll: dict[str, Any] = {
            "session": self.session,
            "n": self._n,
            "running": [{"id": task_id, "attempt": attempt} for task_id, attempt in listed],
            "done": [self._done[key] for key in batch],
        }
        if self._leaving:
            roll["max"] = 0
        elif self.max_load > 0:
            roll["max"] = max(0, self.max_load - len(listed))
        if not batch and self._ttl is not None:
            # A quarter of the lease leaves room for a sync that is lost.
            roll["wait"] = self._ttl / 4
        call = partial(self.client.sync, self.agent_id, timeout=roll.get("wait", 0.0) + slack, **roll)
        self._fly(_Flight(time.monotonic(), batch, "wait" in roll), call, self._apply)

    def _batch(self) -> list[Key]:
        batch: list[Key] = []
        size = 0
        for key, completion in self._done.items():
            size += len(json.dumps(completion))
            if batch and (self._one_by_one or len(batch) >= MAX_DONE or size > MAX_DONE_BYTES):
                break
            batch.append(key)
        return batch

    def _fly(self, flight: _Flight, call: Callable[[], Any], then: Callable[[_Flight, Any], None]) -> None:
        self._flight = flight

        def ask() -> None:
            try:
                landed = partial(then, flight, call())
            except AdjutantError as error:
                landed = partial(self._failed, flight, error)
            except Exception as error:  # A bug must not leave the loop waiting for ever.
                landed = partial(self._die, error)
            self._inbox.put(partial(self._land, flight, landed))

        threading.Thread(target=ask, name="adjutant-request", daemon=True).start()

    def _land(self, flight: _Flight, landed: Callable[[], None]) -> None:
        # What a newer sync has ended says nothing; what it offered is offered again.
        if flight is self._flight:
            self._flight = None
            landed()

    def _welcomed(self, flight: _Flight, agent: dict[str, Any]) -> None:
        self._registered = True
        self._tries = 0

    def _apply(self, flight: _Flight, answer: SyncAnswer) -> None:
        self._ttl, self._renewed_at, self._lease_lost = float(answer["lease_ttl"]), flight.sent_at, False
        self._draining = answer["drain"]
        kept = [not self._settle(key, item) for key, item in zip(flight.batch, answer.get("done", []))]
        for stop in answer["stop"]:
            self._stop((stop["id"], stop["attempt"]), stop["reason"])
        for start in answer["start"]:
            self._begin(start)
        if any(kept):
            self._rest()
            return
        self._tries = 0
        if not answer["start"] and not flight.batch and time.monotonic() < flight.sent_at + CALM:
            self._quiet_until = time.monotonic() + CALM

    def _settle(self, key: Key, item: dict[str, Any]) -> bool:
        """Takes the answer to a completion; says whether that is the end of it."""
        status, said = item["status"], item.get("error") or {}
        if status >= 300 and (said.get("retryable") or status == 429 or status >= 500):
            return False
        self._one_by_one = False
        if status in (400, 413, 422) and key not in self._bare:
            # It cannot be taken as it is: that it failed can, without the rest.
            self._bare.add(key)
            self._done[key] = self._completion(key, False, f"the result was refused: {said.get('message')}")
            return True
        if status >= 300:
            log.warning("%s (attempt %d) is not taken: %s", *key, said.get("message"))
        self._bare.discard(key)
        del self._done[key]
        return True

    def _failed(self, flight: _Flight, error: AdjutantError) -> None:
        if error.slug == "superseded":
            self._stop_all("superseded")
            self._die(error)
        elif error.slug == "agent_not_found":
            self._registered = False
            self._rest(error)
        elif error.status in (400, 413, 422) and flight.batch:
            # One completion of them spoils the whole: find out which.
            self._one_by_one = True
            if len(flight.batch) == 1:
                self._settle(flight.batch[0], {"status": error.status, "error": {"message": error.message}})
        elif error.retryable or error.status >= 500 or error.slug == "stale_sync":
            if not self._tries:
                log.warning("%s: the server is away: %s", self.agent_id, error)
            self._rest(error)
        else:
            self._die(error)

    def _rest(self, error: AdjutantError | None = None) -> None:
        wait = min(RETRY_CAP, RETRY_BASE * 2 ** min(self._tries, 10))
        asked = min(RETRY_CAP, error.retry_after) if error else 0.0
        self._tries += 1
        # The random part keeps a fleet from arriving all at once.
        self._quiet_until = time.monotonic() + max(asked, wait * random.uniform(0.5, 1.0))

    def _die(self, error: BaseException) -> None:
        self._fatal = error

    # ---- attempts -----------------------------------------------------------------------------------------------------

    def _begin(self, start: Start) -> None:
        key = (start["task"]["id"], start["attempt"])
        if key in self._seen or key in self._running or self._leaving or self._fatal:
            return
        self._seen[key] = None
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        job = Job(start["task"], start["attempt"], start.get("token"), start.get("timeout"), self)
        self._running[key] = job
        self._news = True
        threading.Thread(target=self._do, args=(job, key), name=f"adjutant-{key[0]}", daemon=True).start()

    def _do(self, job: Job, key: Key) -> None:
        """One attempt, in its own thread."""
        try:
            value = self.handler(job)
            result = value if isinstance(value, Result) else Result("" if value is None else str(value))
            completion = self._completion(key, True)
            completion.update(output=_text(result.output), artifacts=[_text(name) for name in result.artifacts])
        except RateLimited as error:
            completion = self._completion(key, False, str(error))
            completion.update(rate_limited_until=error.until, model=error.model)
        except BaseException as error:  # Also SystemExit: nothing that a handler raises ends the worker.
            log.info("%s (attempt %d) failed", *key, exc_info=error)
            completion = self._completion(key, False, _text(f"{type(error).__name__}: {error}"))
        # Decided here: a stop that comes later does not undo what is done.
        counts = job.stop_reason is None
        self._books.put((None, partial(self._ended, key, completion if counts else None)))

    def _completion(self, key: Key, success: bool, error_message: str = "") -> dict[str, Any]:
        who = {"id": key[0], "attempt": key[1], "agent_id": self.agent_id}
        return {**who, "success": success, "error_message": error_message}

    def _ended(self, key: Key, completion: dict[str, Any] | None) -> None:
        job = self._running.pop(key)
        self._news = True
        if completion:
            self._done[key] = completion
        elif job.stop_reason == "shutdown":
            # Listed until the agent leaves: that gives it back, while silence would count as lost.
            self._interrupted.append(key)

    def _stop(self, key: Key, reason: str) -> None:
        job = self._running.get(key)
        if job and job.stop_reason is None:
            job.stop_reason = reason
            job.stop.set()

    def _stop_all(self, reason: str) -> None:
        for key in list(self._running):
            self._stop(key, reason)

    # ---- the books, and the end ---------------------------------------------------------------------------------------

    def _keep_books(self) -> None:
        """Tells what was used, in order, and the ends of attempts after what they used."""
        while True:
            book, then = self._books.get()
            if book is None and then is None:
                return
            tries = 0
            while book in self._totals and not self._over:
                (task_id, attempt), model = book
                totals = self._totals.pop(book)
                try:
                    self.client.report_usage(
                        self.agent_id, task_id, attempt=attempt, model=model, timeout=ANSWER_TIME, **totals
                    )
                except AdjutantError as error:
                    if not error.retryable:
                        log.warning("%s (attempt %d): usage is not booked: %s", task_id, attempt, error)
                        break
                    self._totals.setdefault(book, totals)
                    time.sleep(min(RETRY_CAP, RETRY_BASE * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0))
                    tries += 1
            if then:
                self._inbox.put(then)

    def _leave(self, now: bool) -> None:
        self._leaving = self._news = True
        if now:
            self._stop_all("shutdown")
            self._give_up_at = self._give_up_at or time.monotonic() + GRACE

    def _farewell(self) -> None:
        """Leaves the registry, instead of being seen as offline a while later."""
        end = time.monotonic() + GRACE
        while time.monotonic() < end:
            try:
                return self.client.deregister(self.agent_id, timeout=ANSWER_TIME)
            except AdjutantError as error:
                if not error.retryable:
                    return log.debug("%s cannot leave: %s", self.agent_id, error)
                time.sleep(RETRY_BASE)


def work(client: Client, agent_id: str, handler: Handler, **options: Any) -> None:
    """Runs a `Worker`. Ctrl-C or SIGTERM finishes what runs and ends; the second one gives back what runs."""
    worker = Worker(client, agent_id, handler, **options)
    asked: list[int] = []

    def on_signal(number: int, frame: Any) -> None:
        worker.stop(now=bool(asked))
        asked.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    old = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)} if in_main else {}
    try:
        worker.run()
    finally:
        for number, handled in old.items():
            signal.signal(number, handled)


def _task(task_id: str) -> str:
    return "/api/tasks/" + quote(task_id, safe="")


def _agent(agent_id: str) -> str:
    return "/api/agents/" + quote(agent_id, safe="")


def _text(text: str) -> str:
    """What the server takes: no U+0000, no halves of characters, the newest part of what is long."""
    return str(text)[-MAX_OUTPUT:].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
