"""The client against a real server: `ADJUTANT_URL` and `ADJUTANT_TOKEN` say which.

`ADJUTANT_RESTART` names a file that makes whoever runs the server kill it (`kill -9`) and start it again on the same
port and store, and removes the file then. The test of a restart is skipped without it.
"""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import unittest
import uuid
from typing import Any, Callable

from adjutant import AdjutantError, Client, Job, RateLimited, Result, Worker

PATIENCE = 60.0
"""Seconds after which something that should happen has not."""


def eventually(what: str, check: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.02)


class Running:
    """A worker in a thread."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            self.worker.run()
        except Exception as error:
            self.error = error

    def ended(self) -> Any:
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            raise AssertionError("the worker does not end")
        return self.error

    def stop(self, now: bool = False) -> Any:
        self.worker.stop(now)
        return self.ended()


class WorkerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.client = Client()
        self.mark = "py-" + uuid.uuid4().hex[:8]
        self.workers: list[Running] = []

    def tearDown(self) -> None:
        for running in self.workers:
            running.stop(now=True)

    def start(self, name: str, handler: Callable[[Job], Any], **options: Any) -> Running:
        """A worker that takes the tasks of this test and no others."""
        running = Running(Worker(self.client, f"{self.mark}-{name}", handler, capabilities=[self.mark], **options))
        self.workers.append(running)
        return running

    def submit(self, name: str, **fields: Any) -> str:
        return self.client.submit(name, id=f"{self.mark}-{name}", labels=[self.mark], **fields)["id"]

    def when(self, task: str, status: str) -> dict[str, Any]:
        def check() -> Any:
            try:
                found = self.client.get(task)
            except AdjutantError as error:
                if error.retryable:
                    return None
                raise
            return found if found["status"] == status else None

        return eventually(f"{task} is {status}", check)

    def test_a_hundred_tasks_are_done_once_each_by_two_workers(self) -> None:
        done: list[str] = []

        def handle(job: Job) -> Result:
            done.append(job.id)
            return Result(output=job.task["title"].upper(), artifacts=[f"{job.id}.txt"])

        tasks = [self.submit(f"t{number}") for number in range(100)]
        for name in ("a", "b"):
            self.start(name, handle, max_load=4)
        found = [self.when(task, "completed") for task in tasks]
        self.assertEqual(sorted(done), sorted(tasks))
        self.assertEqual({task["attempt"] for task in found}, {1})
        self.assertEqual(found[7]["result"]["output"], "T7")
        self.assertEqual(found[7]["result"]["artifacts"], [f"{tasks[7]}.txt"])
        self.assertEqual({task["claimed_by"] for task in found}, {f"{self.mark}-a", f"{self.mark}-b"})

    def test_what_a_handler_raises_fails_the_attempt_and_the_task_is_tried_again(self) -> None:
        def handle(job: Job) -> str:
            if job.attempt == 1:
                raise ValueError("no luck \0\ud800")
            return "luck"

        task = self.submit("retry")
        self.start("a", handle)
        reason = eventually("a failure", lambda: self.client.get(task)["fail_reason"])
        self.assertIn("ValueError: no luck \ufffd?", reason)
        found = self.when(task, "completed")
        self.assertEqual((found["attempt"], found["retry_count"]), (2, 1))
        self.assertEqual(found["result"]["output"], "luck")

    def test_a_result_that_is_refused_fails_its_attempt_and_no_other(self) -> None:
        def handle(job: Job) -> Result:
            return Result("x" * 2_000_000, ["name"] * (2_000 if job.task["title"] == "bad" else 1))

        bad = self.submit("bad", max_retries=1)
        good = [self.submit(f"good{number}") for number in range(6)]
        self.start("a", handle, max_load=8)
        self.assertIn("the result was refused", self.when(bad, "failed")["fail_reason"])
        for task in good:
            self.assertEqual(len(self.when(task, "completed")["result"]["output"]), 512 * 1024)

    def test_a_rate_limit_is_no_failure(self) -> None:
        def handle(job: Job) -> str:
            if job.attempt == 1:
                raise RateLimited(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2)))
            return "rested"

        task = self.submit("limited")
        self.start("a", handle)
        self.assertEqual(self.when(task, "completed")["retry_count"], 0)

    def test_a_cancel_reaches_the_handler(self) -> None:
        reasons: list[Any] = []

        def handle(job: Job) -> str:
            if job.task["title"] == "endless":
                job.progress(10, "waiting")
                job.stop.wait(PATIENCE)
                reasons.append(job.stop_reason)
            return "does not count when it was stopped"

        task = self.submit("endless")
        self.start("a", handle)
        eventually("progress", lambda: self.client.get(task)["progress"] == 10)
        self.client.cancel(task)
        eventually("the handler hears of it", lambda: reasons)
        self.assertEqual(reasons, ["cancelled"])
        # Its place is free again.
        self.when(self.submit("next"), "completed")
        self.assertEqual(self.client.get(task)["status"], "cancelled")

    def test_usage_is_booked_once_however_often_it_is_told(self) -> None:
        def handle(job: Job) -> str:
            job.output("working\n")
            for tokens in (100, 150, 150):
                job.usage("sonnet", tokens_in=tokens, tokens_out=10)
            job.usage("haiku", tokens_in=5, tokens_out=1)
            return "done"

        task = self.submit("spender")
        self.start("a", handle)
        usage = self.when(task, "completed")["usage"]
        self.assertEqual((usage["tokens_in"], usage["tokens_out"]), (155, 11))
        self.assertEqual({entry["model"] for entry in usage["models"]}, {"sonnet", "haiku"})
        self.assertEqual(self.client.call("GET", f"/api/tasks/{task}/output")["text"], "working\n")

    def test_a_server_that_is_killed_and_comes_back_loses_nothing(self) -> None:
        restart = os.environ.get("ADJUTANT_RESTART")
        if not restart:
            self.skipTest("ADJUTANT_RESTART is not set")
        done: list[str] = []
        first, go_on = threading.Event(), threading.Event()

        def handle(job: Job) -> str:
            first.set()
            go_on.wait(PATIENCE)
            job.usage("sonnet", tokens_in=1)
            done.append(job.id)
            return "done"

        tasks = [self.submit(f"t{number}") for number in range(20)]
        self.start("a", handle, max_load=4)
        self.assertTrue(first.wait(PATIENCE))
        open(restart, "w", encoding="utf-8").close()
        # Some end while the server is away, the others after that.
        go_on.set()
        eventually("the server is back", lambda: not os.path.exists(restart))
        found = [self.when(task, "completed") for task in tasks]
        self.assertEqual(sorted(done), sorted(tasks))
        self.assertEqual({task["attempt"] for task in found}, {1})
        self.assertEqual(sum(task["usage"]["tokens_in"] for task in found), 20)

    def test_a_worker_that_was_superseded_ends(self) -> None:
        reasons: list[Any] = []

        def old(job: Job) -> None:
            job.stop.wait(PATIENCE)
            reasons.append(job.stop_reason)

        task = self.submit("contested")
        first = self.start("a", old)
        eventually("it runs", lambda: self.client.get(task)["status"] == "in_progress" and first.worker._running)
        self.start("a", lambda job: "by the second one")
        error = first.ended()
        self.assertIsInstance(error, AdjutantError)
        self.assertEqual((error.status, error.slug, error.retryable), (409, "superseded", False))
        self.assertEqual(reasons, ["superseded"])
        self.assertEqual(self.when(task, "completed")["attempt"], 2)

    def test_a_worker_that_is_stopped_finishes_what_runs_and_leaves(self) -> None:
        started, go_on = threading.Event(), threading.Event()

        def handle(job: Job) -> str:
            started.set()
            go_on.wait(PATIENCE)
            return "finished"

        one, two = self.submit("one"), self.submit("two")
        running = self.start("a", handle)
        self.assertTrue(started.wait(PATIENCE))
        running.worker.stop()
        go_on.set()
        self.assertIsNone(running.ended())
        self.assertEqual(self.client.get(one)["status"], "completed")
        self.assertEqual(self.client.get(two)["status"], "pending")
        with self.assertRaises(AdjutantError) as gone:
            self.client.call("GET", f"/api/agents/{self.mark}-a")
        self.assertEqual((gone.exception.status, gone.exception.slug), (404, "agent_not_found"))

    def test_a_worker_that_is_stopped_at_once_gives_back_what_runs(self) -> None:
        started = threading.Event()

        def handle(job: Job) -> None:
            started.set()
            job.stop.wait(PATIENCE)

        task = self.submit("interrupted")
        running = self.start("a", handle)
        self.assertTrue(started.wait(PATIENCE))
        self.assertIsNone(running.stop(now=True))
        found = self.client.get(task)
        self.assertEqual((found["status"], found["retry_count"]), ("pending", 0))

    def test_a_worker_that_is_drained_by_an_operator_ends(self) -> None:
        running = self.start("a", lambda job: "done")
        self.when(self.submit("one"), "completed")
        self.client.call("POST", f"/api/agents/{self.mark}-a/drain")
        self.assertIsNone(running.ended())

    def test_errors_say_what_a_program_needs(self) -> None:
        with self.assertRaises(AdjutantError) as missing:
            self.client.get("no/such task")
        self.assertEqual((missing.exception.status, missing.exception.slug), (404, "task_not_found"))
        with self.assertRaises(AdjutantError) as denied:
            Client(token="nonsense").get("x")
        self.assertEqual((denied.exception.status, denied.exception.retryable), (401, False))
        with self.assertRaises(AdjutantError) as away:
            Client("http://127.0.0.1:9").get("x")
        self.assertEqual((away.exception.status, away.exception.retryable), (0, True))
        task = self.client.submit("once", key=self.mark, labels=[self.mark])
        self.assertEqual(self.client.submit("once", key=self.mark, labels=[self.mark])["id"], task["id"])
        self.client.cancel(task["id"])

    def test_the_example_of_the_readme_works_and_ends_in_good_order(self) -> None:
        here = pathlib.Path(__file__).parent
        example = (here / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]

        def done() -> int:
            tasks = self.client.call("GET", "/api/tasks?labels=text&status=completed&limit=1000")
            return sum(task["result"]["output"] == "SAY HELLO" for task in tasks)

        before = done()
        program = subprocess.Popen([sys.executable, "-"], stdin=subprocess.PIPE, cwd=here, text=True)
        self.addCleanup(program.kill)
        assert program.stdin
        program.stdin.write(example)
        program.stdin.close()
        eventually("the example", lambda: done() > before)
        program.send_signal(signal.SIGTERM)
        self.assertEqual(program.wait(PATIENCE), 0)


class Stub(http.server.BaseHTTPRequestHandler):
    """A server that gives one task, with a lease of two seconds, and is overloaded ever after."""

    syncs: list[dict[str, Any]]
    again = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/sync"):
            return self.answer(200, {})
        self.syncs.append(body)
        nothing = {"stop": [], "done": [{"status": 200}] * len(body["done"]), "drain": False, "lease_ttl": 2}
        if len(self.syncs) == 1:
            return self.answer(200, {**nothing, "start": [{"task": {"id": "t", "title": "t"}, "attempt": 1}]})
        if self.again:
            return self.answer(200, {**nothing, "start": []})
        self.answer(503, {"code": 503, "error": "overloaded", "message": "busy", "retryable": True})

    def do_DELETE(self) -> None:
        self.answer(200, {})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class LeaseTest(unittest.TestCase):
    def with_stub(self, handler: Callable[[Job], Any]) -> Any:
        stub = type("OwnStub", (Stub,), {"syncs": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), stub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return stub, Running(Worker(Client(f"http://127.0.0.1:{server.server_port}"), "a", handler))

    def test_an_attempt_ends_when_its_lease_could_not_be_renewed(self) -> None:
        ended: list[Any] = []

        def handle(job: Job) -> None:
            since = time.monotonic()
            job.stop.wait(PATIENCE)
            ended.append((job.stop_reason, time.monotonic() - since))

        stub, running = self.with_stub(handle)
        eventually("the end of the attempt", lambda: ended)
        reason, after = ended[0]
        self.assertEqual(reason, "lease_lost")
        # Half of a lease that is shorter than twice the margin.
        self.assertTrue(0.5 < after < 1.9, after)
        # It was listed as long as it ran, through all the refusals, and is not reported as done.
        self.assertGreater(len(stub.syncs), 2)
        self.assertTrue(all(sync["running"] == [{"id": "t", "attempt": 1}] for sync in stub.syncs[1:3]), stub.syncs)
        stub.again = True
        self.assertIsNone(running.stop())
        self.assertFalse(any(sync["done"] for sync in stub.syncs))

    def test_a_completion_is_sent_until_it_is_acknowledged(self) -> None:
        stub, running = self.with_stub(lambda job: "done")
        eventually("three tries", lambda: sum(1 for sync in stub.syncs if sync["done"]) >= 3)
        stub.again = True
        self.assertIsNone(running.stop())
        # A sync may overtake the poll that it ends, which the server sees by its lower number; none is used twice.
        numbers = [sync["n"] for sync in stub.syncs]
        self.assertEqual(len(numbers), len(set(numbers)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
