"""Performs programs with threads."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from ._core import effects
from ._core.certs import Files, Material, explain
from ._core.effects import Program
from ._core.executor import ExecutorCore, Task
from ._core.pool import Lease, Pool, channel_options
from ._core.target import Target
from ._core.views import K, KeptView, OnError
from ._grpc import credentials, error_of
from .errors import FoedusError, StoppedError, make_error

T = TypeVar("T")

log = logging.getLogger("foedus")

# How long the hub has to end a stream that was closed on this side, seconds.
DETACH_S = 2.0


def tell_error(on_error: OnError | None, error: BaseException) -> None:
    """tell_error hands on an error that has nobody else to go to."""
    if on_error is None:
        log.error("a callback failed", exc_info=error)
        return
    try:
        on_error(error)
    except Exception:
        log.exception("on_error failed")


class Connection:
    """Connection makes calls to one hub, from any thread."""

    def __init__(self, target: Target, files: Files) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._pool: Pool[grpc.Channel] = Pool(target, files, self._dial)
        self._exclusive = threading.Lock()
        self._open: set[Any] = set()
        self.closed = threading.Event()

    def _dial(self, address: str, material: Material) -> grpc.Channel:
        return grpc.secure_channel(address, credentials(material), channel_options(self.target))

    def take(self, service: str) -> Lease[grpc.Channel]:
        with self._lock:
            if self.closed.is_set():
                raise StoppedError("CANCELLED", "the connection to the hub was closed")
            return self._pool.take(service)

    def give_back(self, lease: Lease[grpc.Channel]) -> None:
        with self._lock:
            unused = self._pool.give_back(lease)
        for channel in unused:
            channel.close()

    def close(self) -> None:
        with self._lock:
            self.closed.set()
            channels = self._pool.empty()
        for channel in channels:
            channel.close()

    def run(self, program: Program[T], sleep: Callable[[float], Any] | None = None) -> T:
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
                answer = self.perform(effect, sleep or self.closed.wait)
            except FoedusError as failed:
                error = failed

    def perform(self, effect: effects.Effect, sleep: Callable[[float], Any]) -> Any:
        match effect:
            case effects.Call():
                return self._call(effect)
            case effects.Now():
                return time.monotonic()
            case effects.Sleep(seconds):
                sleep(seconds)
                return None
            case effects.Explain(error, service):
                return self._explain(error, service)
            case effects.Exclusively(program, timeout):
                if not self._exclusive.acquire(timeout=timeout):
                    raise make_error("DEADLINE_EXPIRED", "other registrations took too long")
                try:
                    return self.run(program, sleep)
                finally:
                    self._exclusive.release()
        raise AssertionError(f"{effect} has no place outside of a stream")

    def _call(self, effect: effects.Call) -> Message:
        method = effect.method
        lease = self.take(method.service)
        try:
            rpc = lease.channel.unary_unary(
                method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
            )
            answer: Message = rpc(effect.request, timeout=effect.timeout)
            return answer
        except grpc.RpcError as failed:
            raise error_of(failed, self.target.at(method.service)) from failed
        except ValueError as closed:
            raise StoppedError("CANCELLED", "the connection to the hub was closed") from closed
        finally:
            self.give_back(lease)

    def _explain(self, error: FoedusError, service: str) -> FoedusError:
        try:
            lease = self.take(service)
        except FoedusError:
            return error
        self.give_back(lease)
        return explain(error, self.target.at(service), self.target, lease.material)


class Turn:
    """Turn is one stream from its opening to its end."""

    def __init__(self, lease: Lease[grpc.Channel]) -> None:
        self.lease = lease
        self.call: Any = None
        self.over = False


class KeptStream(KeptView[K]):
    """KeptStream keeps a stream open until it is closed, or refused for good."""

    _lock: threading.RLock

    def __init__(self, connection: Connection, core: K, on_error: OnError | None, name: str) -> None:
        self._connection, self._core, self._on_error = connection, core, on_error
        self._lock = threading.RLock()
        # What waits for the hub, and what changed for those who wait.
        self._outgoing = threading.Condition(self._lock)
        self._changed = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._turn: Turn | None = None
        self._thread = threading.Thread(target=self._run, name=f"foedus {name}", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> None:
        """wait returns when it was closed. Raises why it ended, if the hub ended it for good, and TimeoutError."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("the stream has not ended")
        if not self._core.closed and self._core.last_error is not None:
            raise self._core.last_error

    def close(self) -> None:
        """close ends it. What is not acknowledged by then may be lost."""
        with self._lock:
            self._core.closed = True
            self._closing.set()
            turn = self._turn
            self._notify()
        self._end(turn)
        if threading.current_thread() is not self._thread:
            self._thread.join(10.0)

    def _end(self, turn: Turn | None) -> None:
        if turn is not None and turn.call is not None:
            turn.call.cancel()

    def _notify(self) -> None:
        self._outgoing.notify_all()
        self._changed.notify_all()

    def _wait_for(self, holds: Callable[[], bool], timeout: float | None, what: str) -> None:
        with self._lock:
            if not self._changed.wait_for(lambda: holds() or self._core.failure() is not None, timeout):
                raise TimeoutError(f"{what} took longer than {timeout} s")
            failure = self._core.failure()
            if not holds() and failure is not None:
                raise failure

    def _run(self) -> None:
        program = self._core.keep()
        answer: Any = None
        error: FoedusError | None = None
        try:
            while True:
                with self._lock:
                    try:
                        effect = program.send(answer) if error is None else program.throw(error)
                    except StopIteration:
                        return
                    self._notify()
                answer, error = None, None
                try:
                    answer = self._perform(effect)
                except FoedusError as failed:
                    error = failed
        except Exception as bug:
            tell_error(self._on_error, bug)
        finally:
            self._shut()
            with self._lock:
                program.close()
                self._core.over = True
                self._notify()

    def _perform(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.Open(method, first):
                return self._open(method, first)
            case effects.Read():
                return self._read()
            case effects.Shut():
                return self._shut()
            case effects.Tell(callback, arguments):
                try:
                    callback(*arguments)
                except Exception as failed:
                    tell_error(self._on_error, failed)
                return None
            case effects.Start(task):
                return self._task(task)
        return self._connection.perform(effect, self._closing.wait)

    def _task(self, task: Any) -> None:
        raise AssertionError("this stream has no tasks")

    def _open(self, method: effects.Stream[Any, Any], first: Message) -> None:
        lease = self._connection.take(method.service)
        turn = Turn(lease)
        with self._lock:
            self._turn = turn
        coding = {"request_serializer": method.request.SerializeToString, "response_deserializer": method.response.FromString}
        try:
            if method.duplex:
                turn.call = lease.channel.stream_stream(method.path, **coding)(self._requests(turn, first))
            else:
                turn.call = lease.channel.unary_stream(method.path, **coding)(first)
        except ValueError as closed:
            raise StoppedError("CANCELLED", "the connection to the hub was closed") from closed
        if self._closing.is_set():
            self._end(turn)

    def _requests(self, turn: Turn, first: Message) -> Iterator[Message]:
        yield first
        while True:
            with self._lock:
                message = None
                while not turn.over and (message := self._core.outgoing()) is None and not self._core.closed:
                    self._outgoing.wait()
            if message is None:
                return
            yield message

    def _read(self) -> Message | None:
        assert self._turn is not None
        try:
            message: Message = next(self._turn.call)
            return message
        except StopIteration:
            return None
        except grpc.RpcError as failed:
            raise error_of(failed, self._connection.target.at(self._core.method.service)) from failed

    def _shut(self) -> None:
        with self._lock:
            turn, self._turn = self._turn, None
            if turn is not None:
                turn.over = True
            self._notify()
        if turn is not None:
            if turn.call is not None:
                turn.call.cancel()
            self._connection.give_back(turn.lease)


class TaskStream(KeptStream[ExecutorCore[Any]]):
    """TaskStream runs tasks in threads of its own."""

    def __init__(
        self,
        connection: Connection,
        core: ExecutorCore[threading.Event],
        run: Callable[[Task[threading.Event]], Any],
        workers: int,
        on_error: OnError | None,
    ) -> None:
        super().__init__(connection, core, on_error, "executor")
        self._handler = run
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="foedus task")

    def _task(self, task: Task[threading.Event]) -> None:
        self._workers.submit(self._work, task, time.monotonic())

    def _work(self, task: Task[threading.Event], received: float) -> None:
        answer: Any = None
        error: BaseException | None = None
        with self._lock:
            if not self._core.wanted(task):
                return
        try:
            answer = self._handler(task.begun(time.monotonic() - received))
        except BaseException as failed:
            # Also sys.exit, which ends nothing in a thread: the caller waits.
            error = failed
        with self._lock:
            self._core.answer(task, answer, error)
            self._outgoing.notify_all()

    def close(self) -> None:
        """close detaches. What still runs is OUTCOME_UNKNOWN for its callers."""
        super().close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _end(self, turn: Turn | None) -> None:
        # Answers that are there go out, and half a stream closed detaches; the hub ends the stream then.
        if threading.current_thread() is not self._thread:
            self._thread.join(DETACH_S)
        super()._end(turn)
