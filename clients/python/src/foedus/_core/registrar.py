"""Which nodes are registered, and kept so."""

import os
from collections.abc import Callable, Iterable, Iterator

from .._gen.common.v1 import node_pb2, stream_pb2
from .._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry_pb
from ..errors import FoedusError, make_error, of_failure
from . import methods
from .calls import TIMEOUT_S, invoke
from .effects import Exclusively, Program, Req, Res, Unary

# How often a call that a later one overtook on its way is made again.
OVERTAKEN_MAX = 8
# Most nodes of one call, and their bytes: whatever is usual in nodes, a hub takes so much at once.
PAGE = (500, 256 * 1024)
# Reasons of what a message has in it: the same nodes in another call may be taken.
OF_CONTENT = ("INVALID_FIELD", "VALUE_OUT_OF_RANGE", "MESSAGE_TOO_LARGE")

Told = Callable[[str, FoedusError], Program[None]]


def pages(nodes: Iterable[node_pb2.Node]) -> Iterator[list[node_pb2.Node]]:
    """Cuts nodes into calls that are small enough; a node that is too long goes alone, and is refused alone."""
    page: list[node_pb2.Node] = []
    size = 0
    for node in nodes:
        length = node.ByteSize() + 8
        if page and (len(page) == PAGE[0] or size + length > PAGE[1]):
            yield page
            page, size = [], 0
        page.append(node)
        size += length
    if page:
        yield page


class Registrar:
    """Registers nodes and keeps them as the program last said, and the hub acknowledged, that they are.

    PR1 calls that change nodes are made one after the other: what is said again before a stream overtakes nothing that the program says.
    PR2 each has a number higher than those before, so that what the network holds back of it counts for nothing after the next one.
    PR3 a node that breaks the schema is told once and not sent again: it would only keep the others of its call out.
    """

    def __init__(self) -> None:
        self._kept: dict[str, node_pb2.Node] = {}
        self._broken: set[str] = set()
        self._group, self._calls = os.urandom(16), 0

    def kept(self) -> list[str]:
        return list(self._kept)

    def node(self, node_id: str) -> node_pb2.Node | None:
        return self._kept.get(node_id)

    def keep(self, nodes: Iterable[node_pb2.Node]) -> None:
        """Keeps nodes that the hub has not acknowledged yet: what opens a stream next registers them."""
        for node in nodes:
            # A copy: the program may go on with its own.
            self._kept[node.node_id] = _copy(node)
            self._broken.discard(node.node_id)

    def register(self, nodes: Iterable[node_pb2.Node], timeout: float = TIMEOUT_S) -> Program[list[tuple[str, FoedusError]]]:
        """Adds or replaces nodes. Answers those that were refused, and why; the others are registered all the same."""
        refused: list[tuple[str, FoedusError]] = []
        for page in pages([_copy(node) for node in nodes]):
            refused += yield Exclusively(self._change(page, timeout), timeout)
        return refused

    def register_all(self, nodes: Iterable[node_pb2.Node], timeout: float = TIMEOUT_S) -> Program[None]:
        """Does the same, and throws the first refusal."""
        for node_id, error in (yield from self.register(nodes, timeout)):
            raise make_error(error.reason, f"{node_id}: {error.message}", fields=error.fields, details=True)

    def _change(self, page: list[node_pb2.Node], timeout: float) -> Program[list[tuple[str, FoedusError]]]:
        refused = []
        for node, error in (yield from self._send(page, timeout, True)):
            if error is None:
                self._kept[node.node_id] = node
                self._broken.discard(node.node_id)
            else:
                refused.append((node.node_id, error))
        return refused

    def deregister(self, node_id: str, timeout: float = TIMEOUT_S) -> Program[bool]:
        """Removes a node; false if there was none."""
        existed: bool = yield Exclusively(self._remove(node_id, timeout), timeout)
        return existed

    def _remove(self, node_id: str, timeout: float) -> Program[bool]:
        def request(order: stream_pb2.StreamOpen) -> registry_pb.DeregisterNodeRequest:
            return registry_pb.DeregisterNodeRequest(node_id=node_id, order=order)

        answer = yield from self._ordered(methods.DEREGISTER_NODE, request, timeout, True)
        self._kept.pop(node_id, None)
        return answer.existed

    def repeat(self, told: Told) -> Program[None]:
        """Registers all that is kept once more. Throws what another attempt may mend, and tells what was refused for good."""
        known = (self._kept.get(node_id) for node_id in self.kept() if node_id not in self._broken)
        for page in pages([node for node in known if node is not None]):
            ids = [node.node_id for node in page]
            refused = yield Exclusively(self._repeat(ids), TIMEOUT_S)
            for node_id, error in refused:
                if error.reason in OF_CONTENT:
                    self._broken.add(node_id)
                yield from told(node_id, error)

    def _repeat(self, ids: list[str]) -> Program[list[tuple[str, FoedusError]]]:
        # As it is kept by now: it may have been replaced or removed while others had their turn.
        nodes = [self._kept[node_id] for node_id in ids if node_id in self._kept]
        refused = []
        for node, error in (yield from self._send(nodes, TIMEOUT_S, False)) if nodes else []:
            if error is None:
                continue
            if error.retryable:
                raise error
            refused.append((node.node_id, error))
        return refused

    def _send(
        self, page: list[node_pb2.Node], timeout: float, again: bool
    ) -> Program[list[tuple[node_pb2.Node, FoedusError | None]]]:
        """Registers nodes, and lists each with its refusal. One that breaks the schema keeps its whole call out: then halves go."""

        def request(order: stream_pb2.StreamOpen) -> registry_pb.RegisterNodesRequest:
            return registry_pb.RegisterNodesRequest(nodes=page, order=order)

        try:
            answer = yield from self._ordered(methods.REGISTER_NODES, request, timeout, again)
        except FoedusError as error:
            if error.reason not in OF_CONTENT:
                raise
            if len(page) == 1:
                return [(page[0], error)]
            half = len(page) // 2
            first = yield from self._send(page[:half], timeout, again)
            return first + (yield from self._send(page[half:], timeout, again))
        said = [of_failure(result.failure) if result.HasField("failure") else None for result in answer.results]
        return list(zip(page, said, strict=True))

    def _ordered(
        self, method: Unary[Req, Res], request: Callable[[stream_pb2.StreamOpen], Req], timeout: float, again: bool
    ) -> Program[Res]:
        """Numbers a call. One that was repeated, or that a later one overtook on its way, goes again."""
        overtaken = 0
        while True:
            self._calls += 1
            order = stream_pb2.StreamOpen(group=self._group, incarnation=1, n=self._calls)
            try:
                return (yield from invoke(method, request(order), timeout, again=again))
            except FoedusError as error:
                overtaken += 1
                if error.reason != "SESSION_REPLACED" or overtaken == OVERTAKEN_MAX:
                    raise


def _copy(node: node_pb2.Node) -> node_pb2.Node:
    copy = node_pb2.Node()
    copy.CopyFrom(node)
    return copy
