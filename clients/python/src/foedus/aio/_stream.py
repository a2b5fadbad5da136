"""Performs programs with asyncio."""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from .._core import effects
from .._core.certs import Files, Material, explain
from .._core.effects import Program
from .._core.executor import ExecutorCore, Task
from .._core.pool import Lease, Pool, channel_options
from .._core.target import Target
from .._core.views import K, KeptView, OnError
from .._grpc import credentials, error_of
from ..errors import FoedusError, StoppedError, make_error

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[Any]]

log = logging.getLogger("foedus")

# How long the hub has to end a stream that was closed on this side, seconds.
DETACH_S = 2.0
# How long a callback that is under way has to return when its stream is closed, seconds.
CLOSE_S = 10.0


async def tell_error(on_error: OnError | None, error: BaseException) -> None:
    """tell_error hands on an error that has nobody else to go to."""
    if on_error is None:
        log.error("a callback failed", exc_info=error)
        return
    try:
        await _called(on_error, error)
    except Exception:
        log.exception("on_error failed")


async def _called(callback: Callable[..., Any], *arguments: Any) -> Any:
    try:
        answer = callback(*arguments)
        return await answer if inspect.isawaitable(answer) else answer
    except asyncio.CancelledError as cancelled:
        # It may be of something else that the callback waited for: then nobody has cancelled this task.
        task = asyncio.current_task()
        if task is not None and task.cancelling() > 0:
            raise
        raise RuntimeError("what the callback waited for was cancelled") from cancelled


class Connection:
    """Connection makes calls to one hub, from one event loop."""

    def __init__(self, target: Target, files: Files) -> None:
        self.target = target
        self._pool: Pool[grpc.aio.Channel] = Pool(target, files, self._dial)
        self._exclusive = asyncio.Lock()
        self._closed = False

    def _dial(self, address: str, material: Material) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, credentials(material), channel_options(self.target))

    def take(self, service: str) -> Lease[grpc.aio.Channel]:
        if self._closed:
            raise StoppedError("CANCELLED", "the connection to the hub was closed")
        return self._pool.take(service)

    async def give_back(self, lease: Lease[grpc.aio.Channel]) -> None:
        for channel in self._pool.give_back(lease):
            await channel.close()

    async def close(self) -> None:
        self._closed = True
        for channel in self._pool.empty():
            await channel.close()

    async def run(self, program: Program[T], sleep: Sleep = asyncio.sleep) -> T:
        """Performs a program of calls to its end, and answers what it returns."""
        answer: Any = None
        error: FoedusError | None = None
        while True:
            try:
                effect = program.send(answer) if error is None else program.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer, error = None, None
            try:
                answer = await self.perform(effect, sleep)
            except FoedusError as failed:
                error = failed

    async def perform(self, effect: effects.Effect, sleep: Sleep) -> Any:
        match effect:
            case effects.Call():
                return await self._call(effect)
            case effects.Now():
                return time.monotonic()
            case effects.Sleep(seconds):
                return await sleep(seconds)
            case effects.Explain(error, service):
                return await self._explain(error, service)
            case effects.Exclusively(program, timeout):
                try:
                    await asyncio.wait_for(self._exclusive.acquire(), timeout)
                except TimeoutError:
                    raise make_error("DEADLINE_EXPIRED", "other registrations took too long") from None
                try:
                    return await self.run(program, sleep)
                finally:
                    self._exclusive.release()
        raise AssertionError(f"{effect} has no place outside of a stream")

    async def _call(self, effect: effects.Call) -> Message:
        method = effect.method
        lease = self.take(method.service)
        try:
            rpc = lease.channel.unary_unary(
                method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
            )
            answer: Message = await rpc(effect.request, timeout=effect.timeout)
            return answer
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed, self.target.at(method.service)) from failed
        except grpc.aio.UsageError as closed:
            raise StoppedError("CANCELLED", "the connection to the hub was closed") from closed
        except asyncio.CancelledError:
            # gRPC cancels a call so when its channel is closed; the task that waits for it was not.
            task = asyncio.current_task()
            if self._closed and (task is None or task.cancelling() == 0):
                raise StoppedError("CANCELLED", "the connection to the hub was closed") from None
            raise
        finally:
            await self.give_back(lease)

    async def _explain(self, error: FoedusError, service: str) -> FoedusError:
        try:
            lease = self.take(service)
        except FoedusError:
            return error
        await self.give_back(lease)
        return await asyncio.to_thread(explain, error, self.target.at(service), self.target, lease.material)


class Turn:
    """Turn is one stream from its opening to its end."""

    def __init__(self, lease: Lease[grpc.aio.Channel]) -> None:
        self.lease = lease
        self.call: Any = None
        self.over = False
        self.outgoing = asyncio.Event()


class KeptStream(KeptView[K]):
    """KeptStream keeps a stream open until it is closed, or refused for good."""

    def __init__(self, connection: Connection, core: K, on_error: OnError | None, name: str) -> None:
        self._connection, self._core, self._on_error = connection, core, on_error
        self._lock = contextlib.nullcontext()
        self._closing = asyncio.Event()
        self._turn: Turn | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"foedus {name}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def wait(self, timeout: float | None = None) -> None:
        """wait returns when it was closed. Raises why it ended, if the hub ended it for good, and TimeoutError."""
        done, _ = await asyncio.wait([self._task], timeout=timeout)
        if not done:
            raise TimeoutError("the stream has not ended")
        if not self._core.closed and self._core.last_error is not None:
            raise self._core.last_error

    async def close(self) -> None:
        """close ends it. What is not acknowledged by then may be lost."""
        self._core.closed = True
        self._closing.set()
        self._notify()
        if asyncio.current_task() is self._task:
            return self._cancel()
        await self._end()
        done, _ = await asyncio.wait([self._task], timeout=CLOSE_S)
        if not done:
            # A callback does not return.
            self._task.cancel()

    async def _end(self) -> None:
        self._cancel()

    def _cancel(self) -> None:
        if self._turn is not None and self._turn.call is not None:
            self._turn.call.cancel()

    def _notify(self) -> None:
        if self._turn is not None:
            self._turn.outgoing.set()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait_for(self, holds: Callable[[], bool], timeout: float | None, what: str) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not holds():
                    failure = self._core.failure()
                    if failure is not None:
                        raise failure
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise TimeoutError(f"{what} took longer than {timeout} s") from None

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _run(self) -> None:
        program = self._core.keep()
        answer: Any = None
        error: FoedusError | None = None
        try:
            while True:
                try:
                    effect = program.send(answer) if error is None else program.throw(error)
                except StopIteration:
                    return
                self._notify()
                answer, error = None, None
                try:
                    answer = await self._perform(effect)
                except FoedusError as failed:
                    error = failed
        except Exception as bug:
            await tell_error(self._on_error, bug)
        finally:
            program.close()
            self._core.over = True
            self._notify()
            await self._shut()

    async def _perform(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.Open(method, first):
                return self._open(method, first)
            case effects.Read():
                return await self._read()
            case effects.Shut():
                return await self._shut()
            case effects.Tell(callback, arguments):
                try:
                    await _called(callback, *arguments)
                except Exception as failed:
                    await tell_error(self._on_error, failed)
                return None
            case effects.Start(task):
                return self._begin(task)
        return await self._connection.perform(effect, self._sleep)

    def _begin(self, task: Any) -> None:
        raise AssertionError("this stream has no tasks")

    def _open(self, method: effects.Stream[Any, Any], first: Message) -> None:
        lease = self._connection.take(method.service)
        turn = self._turn = Turn(lease)
        coding = {"request_serializer": method.request.SerializeToString, "response_deserializer": method.response.FromString}
        try:
            if method.duplex:
                turn.call = lease.channel.stream_stream(method.path, **coding)(self._requests(turn, first))
            else:
                turn.call = lease.channel.unary_stream(method.path, **coding)(first)
        except grpc.aio.UsageError as closed:
            raise StoppedError("CANCELLED", "the connection to the hub was closed") from closed

    async def _requests(self, turn: Turn, first: Message) -> AsyncIterator[Message]:
        yield first
        while not turn.over:
            message = self._core.outgoing()
            if message is not None:
                yield message
            elif self._core.closed:
                return
            else:
                turn.outgoing.clear()
                await turn.outgoing.wait()

    async def _read(self) -> Message | None:
        assert self._turn is not None
        try:
            message = await self._turn.call.read()
            return None if message is grpc.aio.EOF else message
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed, self._connection.target.at(self._core.method.service)) from failed
        except asyncio.CancelledError:
            # gRPC reports a call that was cancelled here in the same way as the cancellation of this task.
            task = asyncio.current_task()
            if task is None or task.cancelling() == 0:
                raise StoppedError("CANCELLED", "the stream was closed") from None
            raise

    async def _shut(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.over = True
            turn.outgoing.set()
            if turn.call is not None:
                turn.call.cancel()
            await self._connection.give_back(turn.lease)


class TaskStream(KeptStream[ExecutorCore[Any]]):
    """TaskStream runs each task in one of asyncio's."""

    def __init__(
        self,
        connection: Connection,
        core: ExecutorCore[asyncio.Event],
        run: Callable[[Task[asyncio.Event]], Any],
        on_error: OnError | None,
    ) -> None:
        super().__init__(connection, core, on_error, "executor")
        self._handler = run
        self._working: set[asyncio.Task[None]] = set()

    def _begin(self, task: Task[asyncio.Event]) -> None:
        work = asyncio.get_running_loop().create_task(self._work(task, time.monotonic()), name="foedus task")
        self._working.add(work)
        work.add_done_callback(self._working.discard)

    async def _work(self, task: Task[asyncio.Event], received: float) -> None:
        answer, error = None, None
        if not self._core.wanted(task):
            return
        try:
            answer = await _called(self._handler, task.begun(time.monotonic() - received))
        except Exception as failed:
            error = failed
        self._core.answer(task, answer, error)
        self._notify()

    async def _end(self) -> None:
        # Answers that are there go out, and half a stream closed detaches; the hub ends the stream then.
        await asyncio.wait([self._task], timeout=DETACH_S)
        self._cancel()
        for work in list(self._working):
            work.cancel()
