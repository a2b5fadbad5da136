"""A hub, for programs with threads."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from ._core import calls, methods
from ._core.calls import TIMEOUT_S, Result
from ._core.certs import Files, find
from ._core.events import EventsCore
from ._core.executor import ExecutorCore
from ._core.executor import Task as CoreTask
from ._core.kept import Identity, OnLink
from ._core.registrar import Registrar
from ._core.target import Path, Target
from ._core.updates import Refusal, UpdatesCore
from ._core.views import EventsView, ExecutorView, OnError, UpdatesView, WatchView
from ._core.watch import NodeEvent, WatchCore
from ._gen import health_pb2
from ._gen.common.v1.node_pb2 import Node
from ._gen.registry_sync.v1alpha1.registry_sync_service_pb2 import NodeFilter, NodeRecord
from ._gen.telemetry.v1alpha1.telemetry_service_pb2 import Event, EventFilter
from ._stream import Connection, KeptStream, TaskStream
from ._telling import Links, refusals_told
from .errors import FoedusError
from .values import Plain

Task = CoreTask[threading.Event]
S = TypeVar("S", bound=KeptStream[Any])

# How long the end of a `with` waits for what was set to be durable, seconds.
DRAIN_S = 10.0


class Updates(KeptStream[UpdatesCore], UpdatesView):
    """Updates sends states. After a cut, what was not acknowledged goes again: of each key the newest value only.

    At the end of a `with` it waits up to 10 s until everything is durable.
    """

    def __init__(self, connection: Connection, core: UpdatesCore, on_error: OnError | None) -> None:
        super().__init__(connection, core, on_error, "updates")
        self._thread.start()

    def set(self, node_id: str, key: str, value: Plain) -> None:
        """set puts a value in line and returns at once. Raises InvalidError, LimitError (far too much waits), or why the stream has ended."""
        with self._lock:
            self._core.set(node_id, key, value)
            self._outgoing.notify_all()

    def drain(self, timeout: float | None = 30.0) -> None:
        """drain returns when all that was set so far is durable at the hub, or refused.

        It does not raise for what was refused: `on_refused` is told, and `refused` lists it. Raises TimeoutError, or why the stream has ended.
        """
        with self._lock:
            ticket = self._core.ticket
        self._wait_for(lambda: self._core.settled(ticket), timeout, "the updates")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and not self.over:
                self.drain(DRAIN_S)
        finally:
            self.close()


class Watch(KeptStream[WatchCore], WatchView):
    """Watch keeps a copy of the nodes that a filter selects, and goes on from the last bookmark after a cut.

    The copy is changed by a thread of its own; hold `lock` to read more than one thing of it at once.
    """

    def __init__(self, connection: Connection, core: WatchCore, on_error: OnError | None) -> None:
        super().__init__(connection, core, on_error, "watch")
        self._thread.start()

    @property
    def lock(self) -> threading.RLock:
        """lock keeps the copy as it is."""
        return self._lock

    def until(self, condition: Callable[[Self], bool], timeout: float | None = 30.0) -> None:
        """until returns when a condition on the copy holds; it is asked after each change. Raises TimeoutError, or why the watch has ended."""
        self._wait_for(lambda: condition(self), timeout, "the watch")

    def ready(self, timeout: float | None = 30.0) -> None:
        """ready returns when the copy is complete. Raises TimeoutError, or why the watch has ended."""
        self.until(lambda watch: watch.complete, timeout)


class Executor(TaskStream, ExecutorView):
    """Executor answers the commands of nodes. It attaches again after a cut, except when a newer executor has replaced it."""

    def __init__(
        self,
        connection: Connection,
        core: ExecutorCore[threading.Event],
        run: Callable[[Task], Plain | None],
        workers: int,
        on_error: OnError | None,
    ) -> None:
        super().__init__(connection, core, run, workers, on_error)
        self._thread.start()

    def attached(self, turns: int = 1, timeout: float | None = 30.0) -> None:
        """attached returns when the hub has confirmed the offer so many times. Raises TimeoutError, or why the executor has ended."""
        self._wait_for(lambda: self._core.turns >= turns, timeout, "the executor")


class Events(KeptStream[EventsCore], EventsView):
    """Events follows the event log of a hub; for operators."""

    def __init__(self, connection: Connection, core: EventsCore, on_error: OnError | None) -> None:
        super().__init__(connection, core, on_error, "events")
        self._thread.start()


class Hub:
    """Hub is a hub as one identity sees it. All of it may be used by several threads.

    Callbacks run in threads of the client, one at a time for each stream; what they raise goes to `on_error`, or to the log `foedus`.
    `on_link(error, will_retry)` is told that a stream works (None, True) or was cut, and why.
    Without it the log `foedus` gets a warning of a stream that is cut, once for each reason until it works again.
    """

    def __init__(self, target: Target, files: Files, timeout: float) -> None:
        self._target, self._timeout = target, timeout
        self._connection = Connection(target, files)
        self._registrar = Registrar()
        self._links = Links(target.hub_id)
        self._lock = threading.Lock()
        self._streams: list[KeptStream[Any]] = []

    @classmethod
    def connect(
        cls,
        address: str | Iterable[str] | None = None,
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        hub: str | None = None,
        hub_id: str | None = None,
        contexts: Path | None = None,
        timeout: float = TIMEOUT_S,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """connect finds out which hub is meant, and reads the certificates. Nothing is dialled before the first call.

        `address` is host:port, or service=host:port for each service in split mode. `ca`, `cert` and `key` are files; they are read again
        when they are renewed. Without `address` a context says all this: `hub`, or the current one, of `contexts` or of
        .foedus/contexts.json here or in a folder above. What is not given is taken from FOEDUS_ADDRESS, FOEDUS_CA, FOEDUS_CERT, FOEDUS_KEY,
        FOEDUS_HUB and FOEDUS_CONTEXTS.
        `hub_id` is needed only where neither certificate names the hub. `timeout` (seconds) is that of calls which are given none.
        Raises UsageError.
        """
        target, files = find(
            address=address, ca=ca, cert=cert, key=key, hub=hub, hub_id=hub_id, contexts=contexts, environ=environ
        )
        return cls(target, files, timeout)

    @property
    def hub_id(self) -> str:
        return self._target.hub_id

    def close(self) -> None:
        """close ends all streams and calls."""
        with self._lock:
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def serving(self, timeout: float | None = None) -> bool:
        """serving asks for the hub's health; it waits for a hub that is not there yet, within the timeout. Raises FoedusError."""
        request = health_pb2.HealthCheckRequest()
        answer = self._connection.run(calls.invoke(methods.HEALTH, request, self._seconds(timeout)))
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def register(self, *nodes: Node, timeout: float | None = None) -> None:
        """register adds or replaces nodes, and keeps them registered while an `updates` is open. Raises the first refusal; others are registered."""
        self._connection.run(self._registrar.register_all(nodes, self._seconds(timeout)))

    def register_each(self, nodes: Iterable[Node], timeout: float | None = None) -> dict[str, FoedusError]:
        """register_each does the same, and answers the refusals by node id."""
        return dict(self._connection.run(self._registrar.register(nodes, self._seconds(timeout))))

    def deregister(self, node_id: str, timeout: float | None = None) -> bool:
        """deregister removes a node; False if there was none."""
        return self._connection.run(self._registrar.deregister(node_id, self._seconds(timeout)))

    def node(self, target: str, *, max_staleness: float | None = None, timeout: float | None = None) -> NodeRecord:
        """node reads `hub/node`, or `node` of this hub or the only one of that id. `max_staleness` in seconds. Raises NotFoundError."""
        return self._connection.run(calls.get_node(target, max_staleness, self._seconds(timeout)))

    def list_nodes(self, node_filter: NodeFilter | None = None, *, timeout: float | None = None) -> Iterator[NodeRecord]:
        """list_nodes lists what the hub knows, page by page; `timeout` is that of one page."""
        token = ""
        while True:
            page = self._connection.run(calls.list_page(node_filter, token, self._seconds(timeout)))
            yield from page.records
            token = page.next_page_token
            if token == "":
                return

    def execute(
        self,
        target: str,
        capability: str,
        value: Plain | None = None,
        *,
        timeout: float | None = None,
        key: str = "",
        hops: Iterable[str] = (),
    ) -> Result:
        """execute runs a command of `hub/node` or `node`, and answers when it was done.

        `timeout` (seconds) is the deadline of the command. With a `key`, which is new for each intention, a lost answer is asked for
        again, and the command does not run twice. Raises ConflictError (EXECUTOR_FAILED), OutcomeUnknownError, and FoedusError for what
        was refused or expired before it was started.
        """
        program = calls.execute(target, capability, value, timeout=self._seconds(timeout), key=key, hops=hops)
        return self._connection.run(program)

    def updates(
        self,
        *nodes: Node,
        identity: Identity | None = None,
        on_refused: Callable[[Refusal], Any] | None = None,
        on_link: OnLink | None = None,
        on_error: OnError | None = None,
    ) -> Updates:
        """updates opens a stream of states. `nodes`, and what `register` and `deregister` say later, are registered before it is opened again.

        `identity` are a group of 8 to 64 bytes that the program keeps and a number that rises with each of its starts: then what the
        network still holds of the program before counts for nothing either.

        `on_refused` is told each node and each change that the hub does not take. Without it `on_error` is given an error for each node or
        key that was refused, once, and without that the log `foedus` gets a warning.
        """
        refused = refusals_told(on_error) if on_refused is None else on_refused
        core = UpdatesCore(self._registrar, nodes, refused, on_link, identity)
        return self._kept(Updates(self._connection, self._links.told(core, "updates"), on_error))

    def watch(
        self,
        node_filter: NodeFilter | None = None,
        *,
        nodes_only: bool = False,
        on_event: Callable[[NodeEvent], Any] | None = None,
        on_link: OnLink | None = None,
        on_error: OnError | None = None,
    ) -> Watch:
        """watch keeps a copy of the nodes that a filter selects; `nodes_only` leaves out the states."""
        core = WatchCore(node_filter, nodes_only, on_event, on_link)
        return self._kept(Watch(self._connection, self._links.told(core, "watching"), on_error))

    def executor(
        self,
        node_ids: Iterable[str],
        run: Callable[[Task], Plain | None],
        *,
        capabilities: Iterable[str] = (),
        max_in_flight: int = 64,
        workers: int = 8,
        shared: bool = False,
        identity: Identity | None = None,
        on_link: OnLink | None = None,
        on_error: OnError | None = None,
    ) -> Executor:
        """executor answers commands of nodes with what `run(task)` returns.

        `run` is called in one of `workers` threads. What it raises is the failure of the command: a FoedusError with its reason
        (VALUE_OUT_OF_RANGE, CAPABILITY_ACCESS and NODE_OFFLINE say that nothing was done), anything else as EXECUTOR_FAILED.
        `capabilities`: only these. `max_in_flight` tasks are given out at once, 4,096 at most. `shared`: others may serve the same nodes.
        `identity` is as in `updates`.
        """
        core = ExecutorCore(node_ids, capabilities, max_in_flight, shared, threading.Event, on_link, identity)
        return self._kept(Executor(self._connection, self._links.told(core, "commands"), run, workers, on_error))

    def events(
        self,
        on_event: Callable[[Event], Any],
        *,
        event_filter: EventFilter | None = None,
        from_seq: int = 0,
        on_missed: Callable[[int], Any] | None = None,
        on_link: OnLink | None = None,
        on_error: OnError | None = None,
    ) -> Events:
        """events follows the hub's event log from a position on (0: only new ones); for operators. `on_missed` is told how many were lost."""
        core = EventsCore(on_event, event_filter, from_seq, on_missed, on_link)
        return self._kept(Events(self._connection, self._links.told(core, "events"), on_error))

    def _kept(self, stream: S) -> S:
        with self._lock:
            self._streams = [*(one for one in self._streams if not one.over), stream]
        return stream
