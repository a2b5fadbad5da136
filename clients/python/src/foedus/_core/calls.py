"""Unary calls, repeated where that is safe."""

import dataclasses
import random
from collections.abc import Iterable

from .._gen.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands_pb
from .._gen.command_forwarding.v1alpha1 import command_pb2
from .._gen.common.v1 import value_pb2
from .._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry_pb
from ..errors import FoedusError, InvalidError, NotFoundError, make_error, unsent
from ..values import Plain, from_value, to_value
from . import methods
from .effects import Call, Explain, Now, Program, Req, Res, Sleep, Unary

TIMEOUT_S = 10.0


class Backoff:
    """Waits longer each time, shortened at random, until something worked (docs/PROTOCOL.md, E7)."""

    def __init__(self, base: float = 0.2, most: float = 10.0) -> None:
        self._base, self._most = base, most
        self._next = base

    def reset(self) -> None:
        self._next = self._base

    def delay(self) -> float:
        delay = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._most, self._next * 2)
        return delay


def invoke(method: Unary[Req, Res], request: Req, timeout: float = TIMEOUT_S, again: bool | None = None) -> Program[Res]:
    """Makes a call; again within the timeout if it may be repeated, which `again` says of a method that is not always idempotent."""
    repeats = method.idempotent if again is None else again
    end, backoff = (yield Now()) + timeout, Backoff()
    while True:
        left = end - (yield Now())
        try:
            answer: Res = yield Call(method, request, max(0.001, left))
            return answer
        except FoedusError as error:
            wait = None if error.retry_after is None else max(error.retry_after, backoff.delay())
            if not repeats or wait is None or end - (yield Now()) < wait:
                better: FoedusError = yield Explain(error, method.service)
                raise better from error
        yield Sleep(wait)


def node_name(target: str) -> value_pb2.NodeName:
    """Reads `hub/node`, or `node` for one of this hub or the only one of that id."""
    hub_id, _, node_id = target.rpartition("/")
    return value_pb2.NodeName(hub_id=hub_id, node_id=node_id)


@dataclasses.dataclass(frozen=True)
class Result:
    """Result is the answer of a command that was done.

    `name` names the command for ever: (hub, epoch, seq). `duration` are the seconds that it took at this hub. `replayed` says that it was
    not run now: an earlier command with the same key was.
    """

    value: Plain | None
    name: tuple[str, int, int]
    duration: float
    replayed: bool


def execute(
    target: str, capability: str, value: Plain | None, *, timeout: float = TIMEOUT_S, key: str = "", hops: Iterable[str] = ()
) -> Program[Result]:
    """Runs a command. With a key it is repeated until its outcome is known, within the timeout."""
    if not 0 < timeout <= 3600:
        raise InvalidError("INVALID_FIELD", "the timeout of a command is more than 0 s and at most 3,600 s")
    command = command_pb2.Command(
        target=node_name(target),
        capability=capability,
        value=to_value(value),
        timeout_ms=max(1, round(timeout * 1000)),
        idempotency_key=key,
        hops=hops,
    )
    request = commands_pb.ExecuteRequest(command=command)
    try:
        # A second more than the command has, so that the hub can say what became of it.
        answer = yield from invoke(methods.EXECUTE, request, timeout + 1, again=key != "")
    except FoedusError as error:
        raise _outcome(error) from error
    result = answer.result
    name = (result.name.hub_id, result.name.epoch, result.name.seq)
    return Result(from_value(result.value), name, result.duration_ms / 1000, result.replayed)


def _outcome(error: FoedusError) -> FoedusError:
    """Says of a command whose answer was lost that nobody knows what became of it."""
    if error.details or unsent(error) or error.reason not in ("PEER_UNREACHABLE", "DEADLINE_EXPIRED", "CANCELLED", "INTERNAL"):
        return error
    return make_error("OUTCOME_UNKNOWN", f"the answer of the hub was lost ({error.message})", facts=error.facts)


def get_node(target: str, max_staleness: float | None, timeout: float) -> Program[registry_pb.NodeRecord]:
    staleness = None if max_staleness is None else round(max_staleness * 1000)
    request = registry_pb.GetNodeRequest(name=node_name(target), max_staleness_ms=staleness)
    answer = yield from invoke(methods.GET_NODE, request, timeout)
    return answer.record


def find_node(target: str, timeout: float) -> Program[registry_pb.NodeRecord | None]:
    try:
        return (yield from get_node(target, None, timeout))
    except NotFoundError:
        return None


def list_page(
    node_filter: registry_pb.NodeFilter | None, page_token: str, timeout: float
) -> Program[registry_pb.ListNodesResponse]:
    request = registry_pb.ListNodesRequest(filter=node_filter, page_size=1000, page_token=page_token)
    return (yield from invoke(methods.LIST_NODES, request, timeout))
