"""Effects that a program may ask for. A program is a generator: it yields an effect and is sent the answer, or is thrown the error."""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from ..errors import FoedusError

T = TypeVar("T")
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclasses.dataclass(frozen=True)
class Unary(Generic[Req, Res]):
    """Unary is a call with one answer. `service` says at which address it is made in split mode."""

    path: str
    service: str
    request: type[Req]
    response: type[Res]
    idempotent: bool


@dataclasses.dataclass(frozen=True)
class Stream(Generic[Req, Res]):
    """Stream is a call with many answers and, if `duplex`, with many requests."""

    path: str
    service: str
    request: type[Req]
    response: type[Res]
    duplex: bool


@dataclasses.dataclass(frozen=True)
class Call:
    """Call makes a unary call once. Answer: the response. Throws FoedusError."""

    method: Unary[Any, Any]
    request: Message
    timeout: float


@dataclasses.dataclass(frozen=True)
class Now:
    """Now is answered with the monotonic time, in seconds."""


@dataclasses.dataclass(frozen=True)
class Sleep:
    """Sleep waits; less long if what the program belongs to is closed meanwhile."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Open:
    """Open opens a stream, in place of the one before. Throws FoedusError."""

    method: Stream[Any, Any]
    first: Message


@dataclasses.dataclass(frozen=True)
class Read:
    """Read is answered with the next message of the stream, None at its end. Throws FoedusError."""


@dataclasses.dataclass(frozen=True)
class Shut:
    """Shut ends the stream that is open, if one is."""


@dataclasses.dataclass(frozen=True)
class Exclusively:
    """Exclusively runs a program while no other one of the hub runs so. Throws FoedusError if its turn has not come after `timeout` s."""

    program: "Program[Any]"
    timeout: float


@dataclasses.dataclass(frozen=True)
class Explain:
    """Explain is answered with a better error for a connection that failed, or the same."""

    error: FoedusError
    service: str


@dataclasses.dataclass(frozen=True)
class Tell:
    """Tell calls a function of the program that uses this client. What it raises goes to `on_error` and no further."""

    callback: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Start:
    """Start runs a task beside the stream."""

    task: Any


Effect = Call | Now | Sleep | Open | Read | Shut | Exclusively | Explain | Tell | Start
Program = Generator[Effect, Any, T]


def tell(callback: Callable[..., Any] | None, *arguments: Any) -> Program[None]:
    """tell calls a function, if there is one."""
    if callback is not None:
        yield Tell(callback, arguments)
