"""Callbacks that do not behave, without a hub."""

import asyncio
import sys
import threading
import unittest
import unittest.mock
from collections.abc import Callable
from typing import Any

from foedus import _stream
from foedus._core.effects import Program, Tell
from foedus._core.executor import ExecutorCore, Task
from foedus._core.watch import WatchCore
from foedus._gen.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands_pb
from foedus.aio import _stream as waiting


class Telling(WatchCore):
    """Telling calls functions, and has ended then."""

    def __init__(self, *callbacks: Callable[[], Any]) -> None:
        super().__init__(None, False, None, None)
        self._callbacks = callbacks

    def keep(self) -> Program[None]:
        for callback in self._callbacks:
            yield Tell(callback, ())


def tasks_of(core: ExecutorCore[Any], *timeouts_ms: int) -> list[Task[Any]]:
    """The tasks that a hub gives out in one message."""
    tasks = [{"task_id": at + 1, "node_id": "n", "timeout_ms": timeout_ms} for at, timeout_ms in enumerate(timeouts_ms)]
    return [effect.task for effect in core.take(commands_pb.AttachExecutorResponse(tasks={"tasks": tasks}))]  # type: ignore[union-attr]


def task_of(core: ExecutorCore[Any]) -> Task[Any]:
    return tasks_of(core, 1_000)[0]


def failure_in(core: ExecutorCore[Any]) -> str:
    message = core.outgoing()
    assert message is not None
    return str(message.results.results[0].failure.message)


async def cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


class Callbacks(unittest.IsolatedAsyncioTestCase):
    async def test_what_a_callback_waited_for_may_be_cancelled_and_its_stream_goes_on(self) -> None:
        errors: list[BaseException] = []
        done = asyncio.Event()
        stream = waiting.KeptStream(unittest.mock.Mock(), Telling(cancelled, done.set), errors.append, "test")
        await asyncio.wait_for(stream.wait(), 5)
        self.assertTrue(done.is_set())
        self.assertIn("cancelled", str(errors[0]))

    async def test_a_callback_that_never_returns_does_not_keep_close_from_returning(self) -> None:
        begun = asyncio.Event()

        async def never() -> None:
            begun.set()
            await asyncio.Event().wait()

        with unittest.mock.patch.object(waiting, "CLOSE_S", 0.05):
            stream = waiting.KeptStream(unittest.mock.Mock(), Telling(never), None, "test")
            await begun.wait()
            await asyncio.wait_for(stream.close(), 5)
        await asyncio.wait_for(stream.wait(), 5)

    async def test_a_handler_whose_own_call_was_cancelled_has_failed(self) -> None:
        core: ExecutorCore[asyncio.Event] = ExecutorCore(["n"], [], 64, False, asyncio.Event, None)
        task = task_of(core)
        with unittest.mock.patch.object(core, "keep", Telling().keep):
            stream = waiting.TaskStream(unittest.mock.Mock(), core, lambda _: cancelled(), None)
            await asyncio.wait_for(stream.wait(), 5)
        work = asyncio.get_running_loop().create_task(stream._work(task, 0.0))
        await asyncio.wait([work], timeout=5)
        self.assertIn("cancelled", failure_in(core))


class Handlers(unittest.TestCase):
    def test_the_time_that_a_task_waited_for_a_worker_is_part_of_its_timeout(self) -> None:
        core: ExecutorCore[threading.Event] = ExecutorCore(["n"], [], 64, False, threading.Event, None)
        now = [1000.0]
        began, go_on, left = threading.Event(), threading.Event(), []

        def run(task: Task[threading.Event]) -> None:
            left.append(task.timeout)
            began.set()
            self.assertTrue(go_on.wait(5))

        with unittest.mock.patch.object(_stream.time, "monotonic", lambda: now[0]):
            stream = _stream.TaskStream(unittest.mock.Mock(), core, run, 1, None)
            tasks = tasks_of(core, 5_000, 5_000, 1_000)
            for task in tasks:
                stream._task(task)
            self.assertTrue(began.wait(5))
            now[0] += 2.0
            go_on.set()
            stream._workers.shutdown(wait=True)
        self.assertEqual(left, [5.0, 3.0, 0.0])

    def test_a_handler_that_exits_has_failed(self) -> None:
        core: ExecutorCore[threading.Event] = ExecutorCore(["n"], [], 64, False, threading.Event, None)
        task = task_of(core)
        stream = _stream.TaskStream(unittest.mock.Mock(), core, lambda _: sys.exit("enough"), 1, None)
        worker = threading.Thread(target=stream._work, args=(task, 0.0))
        worker.start()
        worker.join()
        self.assertIn("enough", failure_in(core))
