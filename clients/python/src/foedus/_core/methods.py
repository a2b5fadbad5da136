"""The calls that the client makes."""

from typing import Any

from google.protobuf.descriptor import FileDescriptor

from .._gen import health_pb2
from .._gen.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands
from .._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry
from .._gen.telemetry.v1alpha1 import telemetry_service_pb2 as telemetry
from .effects import Req, Res, Stream, Unary

# Written by `make generate`.
SERVICES = ("discovery", "registry-sync", "command-forwarding", "telemetry", "coordination")


def _method(file: FileDescriptor, name: str) -> tuple[str, str, Any]:
    [service] = file.services_by_name.values()
    # foedus.registry_sync.v1alpha1 is served by registry-sync.
    folder = file.package.split(".")[1].replace("_", "-")
    return f"/{service.full_name}/{name}", folder, service.methods_by_name[name]


def _unary(file: FileDescriptor, name: str, request: type[Req], response: type[Res]) -> Unary[Req, Res]:
    path, service, method = _method(file, name)
    # idempotency_level: NO_SIDE_EFFECTS or IDEMPOTENT.
    return Unary(path, service, request, response, method.GetOptions().idempotency_level != 0)


def _stream(file: FileDescriptor, name: str, request: type[Req], response: type[Res]) -> Stream[Req, Res]:
    path, service, method = _method(file, name)
    return Stream(path, service, request, response, method.client_streaming)


R, C, T = registry.DESCRIPTOR, commands.DESCRIPTOR, telemetry.DESCRIPTOR
REGISTER_NODES = _unary(R, "RegisterNodes", registry.RegisterNodesRequest, registry.RegisterNodesResponse)
DEREGISTER_NODE = _unary(R, "DeregisterNode", registry.DeregisterNodeRequest, registry.DeregisterNodeResponse)
GET_NODE = _unary(R, "GetNode", registry.GetNodeRequest, registry.GetNodeResponse)
LIST_NODES = _unary(R, "ListNodes", registry.ListNodesRequest, registry.ListNodesResponse)
UPDATE_STATE = _stream(R, "UpdateState", registry.UpdateStateRequest, registry.UpdateStateResponse)
WATCH = _stream(R, "Watch", registry.WatchRequest, registry.WatchResponse)
EXECUTE = _unary(C, "Execute", commands.ExecuteRequest, commands.ExecuteResponse)
ATTACH_EXECUTOR = _stream(C, "AttachExecutor", commands.AttachExecutorRequest, commands.AttachExecutorResponse)
WATCH_EVENTS = _stream(T, "WatchEvents", telemetry.WatchEventsRequest, telemetry.WatchEventsResponse)
HEALTH = Unary(
    "/grpc.health.v1.Health/Check", "registry-sync", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse, True
)
