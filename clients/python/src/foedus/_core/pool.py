"""Channels: one for each address, made anew when the certificates are."""

import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

from .certs import Files, Material
from .target import Target

C = TypeVar("C")

MESSAGE_MAX = 1024 * 1024 + 64 * 1024


@dataclasses.dataclass
class Lease(Generic[C]):
    """Lease is a channel in use."""

    channel: C
    material: Material
    users: int = 0
    retired: bool = False


class Pool(Generic[C]):
    """Gives channels out. Not for several threads at once.

    PP1 what begins after the files were renewed begins on a connection with the new ones; what was open before goes on to its end.
    """

    def __init__(self, target: Target, files: Files, make: Callable[[str, Material], C]) -> None:
        self._target, self._files, self._make = target, files, make
        self._leases: dict[str, Lease[C]] = {}
        self._retired: list[Lease[C]] = []

    def take(self, service: str) -> Lease[C]:
        """A channel to a service, to be given back. Raises UsageError."""
        address = self._target.at(service)
        material = self._files.material()
        lease = self._leases.get(address)
        if lease is None or lease.material != material:
            if lease is not None:
                lease.retired = True
                self._retired.append(lease)
            lease = self._leases[address] = Lease(self._make(address, material), material)
        lease.users += 1
        return lease

    def give_back(self, lease: Lease[C]) -> list[C]:
        """Answers the channels that nobody needs any more, to be closed."""
        lease.users -= 1
        unused = [one for one in self._retired if one.users == 0]
        self._retired = [one for one in self._retired if one.users > 0]
        return [one.channel for one in unused]

    def empty(self) -> list[C]:
        """Answers all channels, to be closed."""
        leases = [*self._leases.values(), *self._retired]
        self._leases, self._retired = {}, []
        return [one.channel for one in leases]


def channel_options(target: Target) -> list[tuple[str, str | int]]:
    """channel_options are those of docs/CLIENTS.md, and the name that the hub's certificate has to carry."""
    return [
        ("grpc.ssl_target_name_override", target.server_name),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 10_000),
        ("grpc.max_receive_message_length", MESSAGE_MAX),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        # A channel with new certificates must not get a connection of the one before.
        ("grpc.use_local_subchannel_pool", 1),
    ]
