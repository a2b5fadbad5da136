"""A client of Foedus hubs: register nodes, report their state, answer their commands, watch the nodes of all hubs and command them.

    hub = foedus.Hub.connect("localhost:18800", ca="ca.pem", cert="node-lamp.pem", key="node-lamp.key")

`foedus.aio` has the same for asyncio.
"""

from ._core.calls import Result
from ._core.updates import Refusal
from ._core.watch import HubPart, NodeEvent, Watched
from ._gen.common.v1.node_pb2 import NODE_KIND_AGENT, NODE_KIND_DEVICE, AgentCard, AgentSkill, Capability, Node
from ._gen.registry_sync.v1alpha1.registry_sync_service_pb2 import NodeFilter, NodeRecord
from ._gen.telemetry.v1alpha1.telemetry_service_pb2 import Event, EventFilter
from ._hub import Events, Executor, Hub, Task, Updates, Watch
from ._version import __version__
from .errors import (
    ConflictError,
    DeniedError,
    ExpiredError,
    FoedusError,
    InternalError,
    InvalidError,
    LimitError,
    NotFoundError,
    OutcomeUnknownError,
    Reason,
    StoppedError,
    UnavailableError,
    UsageError,
)
from .values import Json, Plain, capability

__all__ = [
    "NODE_KIND_AGENT",
    "NODE_KIND_DEVICE",
    "AgentCard",
    "AgentSkill",
    "Capability",
    "ConflictError",
    "DeniedError",
    "Event",
    "EventFilter",
    "Events",
    "Executor",
    "ExpiredError",
    "FoedusError",
    "Hub",
    "HubPart",
    "InternalError",
    "InvalidError",
    "Json",
    "LimitError",
    "Node",
    "NodeEvent",
    "NodeFilter",
    "NodeRecord",
    "NotFoundError",
    "OutcomeUnknownError",
    "Plain",
    "Reason",
    "Refusal",
    "Result",
    "StoppedError",
    "Task",
    "UnavailableError",
    "Updates",
    "UsageError",
    "Watch",
    "Watched",
    "__version__",
    "capability",
]
