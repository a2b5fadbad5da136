"""A copy of what a hub knows of nodes."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from .._gen.common.v1 import node_pb2, value_pb2
from .._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry_pb
from .._gen.registry_sync.v1alpha1 import session_pb2 as session_pb
from ..values import Plain, from_value
from . import methods
from .effects import Program, tell
from .kept import Kept, OnLink

Name = tuple[str, str]
Freshness = Literal["FRESH", "STALE", "UNKNOWN"]
FRESHNESS: dict[int, Freshness] = {value_pb2.FRESHNESS_FRESH: "FRESH", value_pb2.FRESHNESS_STALE: "STALE"}
# What may have been applied in part, or cannot be resumed from.
START_OVER = frozenset({"POSITION_EXPIRED", "SEGMENT_INVALID", "INTERNAL"})


@dataclasses.dataclass
class Watched:
    """Watched is a node as the hub knows it. Of a node that is replaced, the values of capabilities that stay are kept."""

    hub_id: str
    node: node_pb2.Node
    state: dict[str, Plain | None] = dataclasses.field(default_factory=dict)
    online: bool = False


@dataclasses.dataclass(frozen=True)
class NodeEvent:
    """NodeEvent is one change of the copy, which has been made when it is told.

    `kind`: "put" (the node appeared or changed), "removed", "state" (`key` and `value` say what), "online" (`online`), or "reset" (all
    nodes of the hub were dropped; `node_id` is empty).
    """

    kind: Literal["put", "removed", "state", "online", "reset"]
    hub_id: str
    node_id: str
    key: str = ""
    value: Plain | None = None
    online: bool = False


@dataclasses.dataclass(frozen=True)
class HubPart:
    """HubPart is how current the part of one hub was at the last bookmark: FRESH (age up to 30 s), STALE (90 s) or UNKNOWN; age in seconds."""

    hub_id: str
    freshness: Freshness
    age: float
    nodes: int


class WatchCore(Kept):
    """Keeps a copy of the nodes that a filter selects. After a cut it goes on from the last bookmark.

    PW1 the copy is complete between a bookmark and the next reset.
    PW2 what hubs that are gone had is dropped.
    """

    method = methods.WATCH
    # What is held is worth more the longer the hub is away.
    final = frozenset[str]()

    def __init__(
        self,
        node_filter: registry_pb.NodeFilter | None,
        nodes_only: bool,
        on_event: Callable[[NodeEvent], Any] | None,
        on_link: OnLink | None,
    ) -> None:
        super().__init__(on_link)
        self._filter, self._nodes_only, self._on_event = node_filter, nodes_only, on_event
        self._positions: dict[str, session_pb.FeedPosition] = {}
        self.nodes: dict[Name, Watched] = {}
        self.hubs: dict[str, HubPart] = {}
        self.complete = False
        self.bookmarks = 0
        self.resets = 0

    def prepare(self) -> Program[None]:
        if self.last_error is not None and self.last_error.reason in START_OVER:
            self._positions.clear()
        # A first copy that was cut off is sent from its beginning.
        for hub_id in {hub_id for hub_id, _ in self.nodes} - self._positions.keys():
            yield from self._forget(hub_id)

    def first(self) -> registry_pb.WatchRequest:
        positions = list(self._positions.values())
        return registry_pb.WatchRequest(filter=self._filter, resume=positions, stream=self.number(), nodes_only=self._nodes_only)

    def take(self, message: registry_pb.WatchResponse) -> Program[None]:
        push = message.WhichOneof("push")
        if push == "events":
            for event in message.events.events:
                yield from self._event(event)
        elif push == "bookmark":
            yield from self._bookmark(message.bookmark)
        elif push == "reset":
            self.resets += 1
            self.complete = False
            yield from self._forget(message.reset.position.hub_id)
        elif push == "gone":
            yield from self._forget(message.gone.position.hub_id)

    def _event(self, event: registry_pb.WatchEvent) -> Program[None]:
        name = (event.name.hub_id, event.name.node_id)
        change = event.WhichOneof("change")
        known = self.nodes.get(name)
        if change == "put":
            names = {capability.name for capability in event.put.capabilities}
            state = {} if known is None else {key: value for key, value in known.state.items() if key in names}
            self.nodes[name] = Watched(name[0], event.put, state, known is not None and known.online)
            yield from tell(self._on_event, NodeEvent("put", *name))
        elif change == "removed":
            self.nodes.pop(name, None)
            yield from tell(self._on_event, NodeEvent("removed", *name))
        elif known is not None and change == "state":
            value = from_value(event.state.value)
            known.state[event.state.key] = value
            yield from tell(self._on_event, NodeEvent("state", *name, key=event.state.key, value=value))
        elif known is not None and change == "online":
            known.online = event.online
            yield from tell(self._on_event, NodeEvent("online", *name, online=event.online))

    def _bookmark(self, bookmark: registry_pb.Bookmark) -> Program[None]:
        self._positions = {position.hub_id: position for position in bookmark.positions}
        self.hubs = {
            hub.hub_id: HubPart(hub.hub_id, FRESHNESS.get(hub.freshness, "UNKNOWN"), hub.age_ms / 1000, hub.nodes)
            for hub in bookmark.hubs
        }
        # A hub that went while the watch was cut is not mentioned any more.
        for hub_id in {hub_id for hub_id, _ in self.nodes} - self.hubs.keys():
            yield from self._forget(hub_id)
        self.bookmarks += 1
        self.complete = True
        yield from self.worked()

    def _forget(self, hub_id: str) -> Program[None]:
        self._positions.pop(hub_id, None)
        self.nodes = {name: node for name, node in self.nodes.items() if name[0] != hub_id}
        yield from tell(self._on_event, NodeEvent("reset", hub_id, ""))

    def state(self, hub_id: str, node_id: str, key: str) -> Plain | None:
        node = self.nodes.get((hub_id, node_id))
        return None if node is None else node.state.get(key)

