"""What streams say of themselves: the same with threads and with asyncio."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from ..errors import FoedusError
from ..values import Plain
from .events import EventsCore
from .executor import ExecutorCore
from .kept import Kept
from .updates import Refusal, UpdatesCore
from .watch import HubPart, Name, Watched, WatchCore

K = TypeVar("K", bound=Kept)
OnError = Callable[[BaseException], Any]


class KeptView(Generic[K]):
    """KeptView is what all streams say."""

    _core: K
    # Held while the core is changed or read, where there are threads.
    _lock: AbstractContextManager[Any]

    @property
    def turns(self) -> int:
        """turns counts how often the hub answered as it should."""
        return self._core.turns

    @property
    def cuts(self) -> int:
        """cuts counts how often the stream ended, or could not be opened."""
        return self._core.cuts

    @property
    def last_error(self) -> FoedusError | None:
        """last_error is why it ended last; None if it never has."""
        return self._core.last_error

    @property
    def over(self) -> bool:
        """over says that it will not be opened again."""
        return self._core.over


class UpdatesView(KeptView[UpdatesCore]):
    """UpdatesView is what a stream of states says."""

    @property
    def pending(self) -> int:
        """pending is how many changes are not acknowledged yet."""
        with self._lock:
            return self._core.pending

    @property
    def refused(self) -> list[Refusal]:
        """refused are the last 1,000 changes and nodes that the hub refused for good."""
        with self._lock:
            return list(self._core.refused)


class WatchView(KeptView[WatchCore]):
    """WatchView is what a watch holds."""

    @property
    def nodes(self) -> Mapping[Name, Watched]:
        """nodes are those of the copy by (hub id, node id)."""
        return self._core.nodes

    @property
    def hubs(self) -> Mapping[str, HubPart]:
        """hubs says how current the part of each hub was at the last bookmark."""
        return self._core.hubs

    @property
    def complete(self) -> bool:
        """complete says that everything that the hub had at the last bookmark is here."""
        return self._core.complete

    @property
    def bookmarks(self) -> int:
        """bookmarks counts those that came."""
        return self._core.bookmarks

    @property
    def resets(self) -> int:
        """resets counts how often all nodes of a hub were sent instead of what had changed."""
        return self._core.resets

    def state(self, hub_id: str, node_id: str, key: str) -> Plain | None:
        """state is a value of the copy; None if there is none."""
        with self._lock:
            return self._core.state(hub_id, node_id, key)


class ExecutorView(KeptView[ExecutorCore[Any]]):
    """ExecutorView is what an executor says."""

    @property
    def refused(self) -> list[FoedusError]:
        """refused are the nodes of the offer that the hub did not accept when it was attached last, with the reasons."""
        with self._lock:
            return list(self._core.refused)


class EventsView(KeptView[EventsCore]):
    """EventsView is how far a reader of events is."""

    @property
    def next_seq(self) -> int:
        """next_seq is where it goes on, also in the next run of a program."""
        return self._core.next_seq
