"""Commands of nodes, and what becomes of them."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, Self, TypeVar

from .._gen.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands_pb
from ..errors import FoedusError, make_error, of_failure, to_failure
from ..values import Plain, from_value, to_value
from . import methods
from .effects import Program, Start, tell
from .kept import Identity, Kept, OnLink

# Results of one message, and their bytes.
RESULTS, RESULTS_BYTES = 500, 512 * 1024
# Cancels that are kept for tasks that have not come yet: as many as there may be tasks.
EARLY_MAX = 4096
IN_FLIGHT_MAX = 4096
# Tasks beyond max_in_flight that a hub may send: it knows sooner than this side that the time of others is over.
OVERDUE_MAX = IN_FLIGHT_MAX


class Flag(Protocol):
    """Flag is the Event of threading or of asyncio."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...


F = TypeVar("F", bound=Flag)


@dataclasses.dataclass(frozen=True)
class Task(Generic[F]):
    """Task is a command that a handler is to run.

    `timeout` are the seconds left when it is begun, 0 if none are. `cancelled` is an Event that is set when the caller gave up or the stream
    was lost; an answer is still welcome. `traceparent` and `tracestate` go on with the caller's trace (W3C Trace Context); empty without one.
    """

    node_id: str
    capability: str
    value: Plain | None
    timeout: float
    caller_hub_id: str
    cancelled: F
    traceparent: str
    tracestate: str
    task_id: int
    stream: int

    def begun(self, waited: float) -> Self:
        """begun is the task as its handler gets it after so many seconds in line."""
        return dataclasses.replace(self, timeout=max(0.0, self.timeout - waited))


class ExecutorCore(Kept, Generic[F]):
    """Serves commands of nodes. It attaches again after a lost stream, but not after it was replaced.

    PX1 a task is answered on the stream that it came on, or not at all.
    PX2 no task is begun whose stream is over, or after `close`: its caller was told that nobody knows what became of it.
    """

    method = methods.ATTACH_EXECUTOR

    def __init__(
        self,
        node_ids: Iterable[str],
        capabilities: Iterable[str],
        max_in_flight: int,
        shared: bool,
        flag: Callable[[], F],
        on_link: OnLink | None,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(on_link, identity)
        if not 1 <= max_in_flight <= IN_FLIGHT_MAX:
            raise ValueError(f"max_in_flight is 1 to {IN_FLIGHT_MAX}")
        self._attach = commands_pb.Attach(
            node_ids=node_ids, capabilities=capabilities, max_in_flight=max_in_flight, shared=shared
        )
        self._offered = frozenset(self._attach.node_ids)
        self._flag = flag
        self._tasks: dict[int, Task[F]] = {}
        # Highest task that came, and tasks beyond it that were given up already: a hub may say so first.
        self._newest = 0
        self._early: set[int] = set()
        self._results: list[commands_pb.TaskResult] = []
        self.refused: list[FoedusError] = []

    def first(self) -> commands_pb.AttachExecutorRequest:
        self._attach.stream.CopyFrom(self.number())
        return commands_pb.AttachExecutorRequest(attach=self._attach)

    def take(self, message: commands_pb.AttachExecutorResponse) -> Program[None]:
        frame = message.WhichOneof("frame")
        if frame == "attached":
            self.refused = [of_failure(failure) for failure in message.attached.refused]
            yield from self.worked()
        elif frame == "tasks":
            for task in message.tasks.tasks:
                if not self.closed:
                    yield from self._start(task)
        elif frame == "cancel":
            self._cancel(message.cancel.task_id)
        elif frame == "detached":
            self.said(of_failure(message.detached.failure))

    def _must_be_asked(self, task: commands_pb.Task) -> None:
        """Raises for a task that no hub gives to this executor: more than it takes, or of a node that it does not offer."""
        # For one whose deadline passed it gives another before this side has noticed.
        if len(self._tasks) + len(self._results) >= self._attach.max_in_flight + OVERDUE_MAX or task.task_id in self._tasks:
            raise make_error("LIMIT_EXCEEDED", "the hub sent more tasks than this executor takes")
        if task.node_id not in self._offered:
            raise make_error("OUT_OF_SCOPE", "the hub sent a task of a node that this executor does not offer")

    def _start(self, task: commands_pb.Task) -> Program[None]:
        self._must_be_asked(task)
        flag = self._flag()
        made = Task(
            node_id=task.node_id,
            capability=task.capability,
            value=from_value(task.value),
            timeout=task.timeout_ms / 1000,
            caller_hub_id=task.caller_hub_id,
            cancelled=flag,
            traceparent=task.trace.traceparent,
            tracestate=task.trace.tracestate,
            task_id=task.task_id,
            stream=self.opened,
        )
        self._tasks[task.task_id] = made
        self._newest = max(self._newest, task.task_id)
        if task.task_id in self._early:
            self._early.discard(task.task_id)
            flag.set()
        yield Start(made)

    def _cancel(self, task_id: int) -> None:
        task = self._tasks.get(task_id)
        if task is not None:
            task.cancelled.set()
        elif task_id > self._newest and len(self._early) < EARLY_MAX:
            self._early.add(task_id)

    def wanted(self, task: Task[F]) -> bool:
        """Says whether a task that waited for its turn is to be begun."""
        return not self.closed and task.stream == self.opened and task.task_id in self._tasks

    def answer(self, task: Task[F], content: Plain | None, error: BaseException | None) -> None:
        """Takes what a handler returned or raised."""
        if task.stream != self.opened or self._tasks.pop(task.task_id, None) is None:
            return
        result = commands_pb.TaskResult(task_id=task.task_id)
        if error is None:
            try:
                result.value.CopyFrom(to_value(content))
            except FoedusError as bad:
                error = FoedusError("EXECUTOR_FAILED", f"it ran, but its answer cannot be sent: {bad.message}")
        if error is not None:
            failed = error if isinstance(error, FoedusError) else FoedusError("EXECUTOR_FAILED", f"{type(error).__name__}: {error}")
            result.failure.CopyFrom(to_failure(failed))
        self._results.append(result)

    def outgoing(self) -> commands_pb.AttachExecutorRequest | None:
        if not self._results:
            return None
        part, size = 0, 0
        while part < len(self._results) and part < RESULTS and (part == 0 or size < RESULTS_BYTES):
            size += self._results[part].ByteSize()
            part += 1
        results, self._results = self._results[:part], self._results[part:]
        return commands_pb.AttachExecutorRequest(results=commands_pb.TaskResults(results=results))

    def cut(self) -> None:
        for task in self._tasks.values():
            task.cancelled.set()
        self._tasks.clear()
        self._results.clear()
        self._early.clear()
        self._newest = 0
