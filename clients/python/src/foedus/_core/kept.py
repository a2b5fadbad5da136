"""One stream that is kept open."""

import abc
import os
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from .._gen.common.v1 import stream_pb2
from ..errors import FoedusError, UsageError, make_error
from .calls import Backoff
from .effects import Explain, Open, Program, Read, Shut, Sleep, Stream, tell

# Reasons after which a stream is not opened again: somebody must change something first. That another server was found, or that a
# certificate was refused, is none of them: certificates are renewed, and another hub may be on the port for a while.
FINAL = frozenset({"SESSION_REPLACED", "ACCESS_DENIED", "UPGRADE_NEEDED", "NOT_CONFIGURED"})

# Streams that replace one another at the hub: a group that the program keeps, and a number that rises with each of its starts.
Identity = tuple[bytes, int]
OnLink = Callable[[FoedusError | None, bool], Any]


class Kept(abc.ABC):
    """Keeps one stream to a hub: reads it, opens it again after a cut, and numbers it so that the hub can tell it from the one before.

    PK1 at most one stream is open; what is outgoing goes to that one.
    PK2 two streams are opened at least a wait of the back-off apart, which only `worked` shortens to the first.
    PK3 nothing that the hub or a callback does ends the program but a reason in `final`, and `close`.
    PK4 after `close` nothing is opened.
    """

    method: Stream[Any, Any]
    final: frozenset[str] = FINAL

    def __init__(self, on_link: OnLink | None, identity: Identity | None = None) -> None:
        self.on_link = on_link
        self._group, self._incarnation = (os.urandom(16), 1) if identity is None else identity
        if not 8 <= len(self._group) <= 64 or not 0 <= self._incarnation < 2**53:
            raise ValueError("an identity is a group of 8 to 64 bytes and an incarnation from 0 to 2**53 - 1")
        self._backoff = Backoff()
        self._up = False
        # Why the hub ends the stream, as it said on it.
        self._said: FoedusError | None = None
        # Streams opened so far: the number of the newest.
        self.opened = 0
        self.turns = 0
        self.cuts = 0
        self.last_error: FoedusError | None = None
        self.closed = False
        self.over = False

    def number(self) -> stream_pb2.StreamOpen:
        return stream_pb2.StreamOpen(group=self._group, incarnation=self._incarnation, n=self.opened)

    def prepare(self) -> Program[None]:
        """What the hub must know before a stream."""
        yield from ()

    @abc.abstractmethod
    def first(self) -> Message:
        """The first message of a stream."""

    @abc.abstractmethod
    def take(self, message: Any) -> Program[None]:
        """Takes a message of the hub."""

    def outgoing(self) -> Message | None:
        """Takes the next message for the hub off what waits; None while there is none."""
        return None

    def cut(self) -> None:
        """The stream is over; what is not answered is as good as not sent."""

    def worked(self) -> Program[None]:
        """The hub answered as it should: the next cut waits briefly again."""
        self.turns += 1
        self._backoff.reset()
        if not self._up:
            self._up = True
            yield from tell(self.on_link, None, True)

    def said(self, error: FoedusError) -> None:
        self._said = error

    def failure(self) -> FoedusError | None:
        """Why nothing will be done any more; None while it may be."""
        if self.closed:
            return make_error("CANCELLED", "it was closed")
        return (self.last_error or make_error("CANCELLED", "it has ended")) if self.over else None

    def keep(self) -> Program[None]:
        """The life of the stream."""
        try:
            while not self.closed:
                error = yield from self._once()
                if self.closed:
                    break
                self.last_error, self._up = error, False
                self.cuts += 1
                # A wrong address or file does not mend itself either.
                final = error.reason in self.final or isinstance(error, UsageError)
                self.over = final
                yield from tell(self.on_link, error, not final)
                if final:
                    break
                yield Sleep(self._backoff.delay())
        finally:
            self.over = True

    def _once(self) -> Program[FoedusError]:
        self.opened += 1
        try:
            yield from self.prepare()
            if self.closed:
                return make_error("CANCELLED", "it was closed")
            yield Open(self.method, self.first())
            while (message := (yield Read())) is not None:
                yield from self.take(message)
            error = make_error("PEER_UNREACHABLE", "the hub ended the stream")
        except FoedusError as failure:
            error = failure
            if not failure.details and not self.closed:
                error = yield Explain(failure, self.method.service)
        except Exception as bug:
            error = make_error("INTERNAL", f"what the hub sent could not be handled ({bug!r})")
            error.__cause__ = bug
        yield Shut()
        self.cut()
        error, self._said = self._said or error, None
        return error
