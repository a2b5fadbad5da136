"""What the drivers with threads and with asyncio have in common: credentials, and how errors of gRPC are read."""

from collections.abc import Iterable
from typing import Any, Protocol

import grpc

from ._core.certs import Material
from .errors import FoedusError, of_status

DETAILS = "grpc-status-details-bin"


class Failed(Protocol):
    """Failed is an RpcError of grpc or of grpc.aio."""

    def code(self) -> Any: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Any: ...


def credentials(material: Material) -> grpc.ChannelCredentials:
    """credentials trust the hub's own CA and no other root."""
    return grpc.ssl_channel_credentials(material.ca, material.key, material.cert)


def error_of(failed: Failed, address: str) -> FoedusError:
    """error_of reads how a call ended."""
    trailers: Iterable[tuple[str, str | bytes]] = failed.trailing_metadata() or ()
    raw = next((value for key, value in trailers if key == DETAILS), None)
    details = raw if isinstance(raw, bytes) else None
    return of_status(failed.code().value[0], failed.details() or "", details, address)
