"""States of nodes, on their way to the hub."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from .._gen.common.v1 import node_pb2, value_pb2
from .._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry_pb
from ..errors import FoedusError, LimitError, make_error, of_failure
from ..values import Plain, to_value
from . import methods
from .effects import Program, tell
from .kept import Identity, Kept, OnLink
from .registrar import Registrar

# Batches under way, changes of one batch and their bytes.
WINDOW, BATCH, BATCH_BYTES = 16, 2000, 512 * 1024
# Changes that may wait. Each key waits once, so that more than that are the keys of very many nodes.
WAITING_MAX = 500_000
# Refusals that are kept for `refused`.
REFUSALS_MAX = 1000

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Refusal is a change of state, or with an empty key a node, that the hub did not take. It is not sent again."""

    node_id: str
    key: str
    error: FoedusError


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    value: value_pb2.Value
    # Which call of `set` it counts as: of one that was overtaken the earlier, so that who waits for that waits for what replaced it.
    ticket: int


class UpdatesCore(Kept):
    """Sends states by name.

    PU1 the newest change of a key reaches the hub last, also when batches are sent again: what a newer one has overtaken is not.
    PU2 at most WINDOW batches are under way; of what waits there is one change for each key.
    PU3 a change that the hub refuses is told and left out; the rest of its batch is sent again.
    PU4 the nodes that are kept are registered before each stream: a hub that lost its store has forgotten them.
    """

    method = methods.UPDATE_STATE

    def __init__(
        self,
        registrar: Registrar,
        nodes: Iterable[node_pb2.Node],
        on_refused: Callable[[Refusal], Any] | None,
        on_link: OnLink | None,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(on_link, identity)
        self._registrar, self._on_refused = registrar, on_refused
        registrar.keep(nodes)
        self._waiting: dict[Key, Change] = {}
        self._sent: dict[int, dict[Key, Change]] = {}
        self._seq = 0
        self._ticket = 0
        self.refused: list[Refusal] = []

    def prepare(self) -> Program[None]:
        yield from self._registrar.repeat(self._node_refused)

    def _node_refused(self, node_id: str, error: FoedusError) -> Program[None]:
        if all((known.node_id, known.key) != (node_id, "") for known in self.refused):
            yield from self._refuse(node_id, "", error)

    def _refuse(self, node_id: str, key: str, error: FoedusError) -> Program[None]:
        refusal = Refusal(node_id, key, error)
        self.refused.append(refusal)
        del self.refused[:-REFUSALS_MAX]
        yield from tell(self._on_refused, refusal)

    def first(self) -> registry_pb.UpdateStateRequest:
        self._seq = 0
        # A bind of nothing: hubs that do not know the number answer it all the same.
        return registry_pb.UpdateStateRequest(stream=self.number(), bind=registry_pb.Bind())

    def set(self, node_id: str, key: str, content: Plain) -> None:
        """Puts a change in line. Raises InvalidError, LimitError, and why the stream has ended."""
        failure = self.failure()
        if failure is not None:
            raise failure
        value = to_value(content, self._type(node_id, key))
        # One that waits makes room for its successor, however many wait: after a cut there may be more than that.
        if len(self._waiting) >= WAITING_MAX and (node_id, key) not in self._waiting:
            raise LimitError("OVERLOADED", "too many updates wait for the hub; drain before you set more")
        self._ticket += 1
        before = self._waiting.pop((node_id, key), None)
        self._waiting[(node_id, key)] = Change(value, self._ticket if before is None else before.ticket)

    def _type(self, node_id: str, key: str) -> int:
        node = self._registrar.node(node_id)
        for capability in () if node is None else node.capabilities:
            if capability.name == key:
                return capability.type
        return value_pb2.VALUE_TYPE_UNSPECIFIED

    @property
    def ticket(self) -> int:
        """Ticket of the newest change."""
        return self._ticket

    def settled(self, ticket: int) -> bool:
        """Says whether all changes up to a ticket are durable, or refused."""
        return all(change.ticket > ticket for batch in (self._waiting, *self._sent.values()) for change in batch.values())

    @property
    def pending(self) -> int:
        return len(self._waiting) + sum(len(batch) for batch in self._sent.values())

    def outgoing(self) -> registry_pb.UpdateStateRequest | None:
        if not self._waiting or len(self._sent) >= WINDOW:
            return None
        self._seq += 1
        batch = registry_pb.NamedUpdates(seq=self._seq)
        sent: dict[Key, Change] = {}
        size = 0
        for (node_id, key), change in self._waiting.items():
            size += len(node_id) + len(key) + change.value.ByteSize() + 16
            if sent and (len(sent) == BATCH or size > BATCH_BYTES):
                break
            sent[(node_id, key)] = change
            batch.updates.add(node_id=node_id, key=key, value=change.value)
        for at in sent:
            del self._waiting[at]
        self._sent[self._seq] = sent
        return registry_pb.UpdateStateRequest(named=batch)

    def take(self, message: registry_pb.UpdateStateResponse) -> Program[None]:
        frame = message.WhichOneof("frame")
        if frame == "ack":
            for seq in [seq for seq in self._sent if seq <= message.ack.seq]:
                del self._sent[seq]
            yield from self.worked()
        elif frame == "refused":
            yield from self._batch_refused(message.refused)
        elif frame == "bound":
            yield from self.worked()

    def _batch_refused(self, refused: registry_pb.UpdateRefused) -> Program[None]:
        error = of_failure(refused.failure)
        if error.retryable:
            # The hub asks for patience: the next stream, which a wait separates from this one, sends everything again.
            raise error
        batch = self._sent.get(refused.seq)
        if batch is None:
            return
        if refused.index >= len(batch):
            # Sent again at once, it would be refused again at once.
            raise make_error("INTERNAL", "the hub refused a change that is not in the batch")
        del self._sent[refused.seq]
        changes = list(batch.items())
        at = changes.pop(refused.index)[0]
        self._again(changes, [later for seq, later in self._sent.items() if seq > refused.seq])
        yield from self.worked()
        yield from self._refuse(*at, error)

    def cut(self) -> None:
        sent, self._sent = list(self._sent.values()), {}
        merged: dict[Key, Change] = {}
        for batch in sent:
            for key, change in batch.items():
                _put(merged, key, change)
        self._again(list(merged.items()), [])

    def _again(self, changes: list[tuple[Key, Change]], later: list[dict[Key, Change]]) -> None:
        """Puts changes in line before all others, without those that were overtaken by what waits or is under way."""
        newer, self._waiting = self._waiting, {}
        for key, change in changes:
            overtaken = next((batch for batch in later if key in batch), None)
            if overtaken is None:
                self._waiting[key] = change
            else:
                overtaken[key] = Change(overtaken[key].value, min(change.ticket, overtaken[key].ticket))
        for key, change in newer.items():
            _put(self._waiting, key, change)


def _put(into: dict[Key, Change], key: Key, change: Change) -> None:
    before = into.pop(key, None)
    into[key] = change if before is None else Change(change.value, min(before.ticket, change.ticket))
