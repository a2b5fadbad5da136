"""What a program is told that gave no callback for it: sentences in the log `foedus`, which Python prints if the program sets up no logging."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ._core.kept import Kept
from ._core.updates import REFUSALS_MAX, Refusal
from .errors import FoedusError, make_error

log = logging.getLogger("foedus")

OnError = Callable[[BaseException], Any]
K = TypeVar("K", bound=Kept)

# A reason that was told is not told again so soon, even if a stream worked meanwhile, seconds.
AGAIN_S = 60.0


def _printable(error: FoedusError) -> str:
    """Writes an error on one line that shows all that is in it: a hub may have put into it what rewrites a terminal."""
    return "".join(one if one.isprintable() else " " if one in "\n\t" else f"\\u{{{ord(one):x}}}" for one in str(error))


class Links:
    """Links tells which streams of a hub are down, and why, of those that have no `on_link`.

    Each reason is told once until the stream works again, once for all streams that are down for it, and at most once a minute. That a
    stream is not opened again is always told.
    """

    def __init__(self, hub_id: str) -> None:
        self._hub_id = hub_id
        self._lock = threading.Lock()
        # Reasons since it worked last, of each stream that is down.
        self._down: dict[Kept, set[str]] = {}
        self._told_at: dict[str, float] = {}

    def told(self, core: K, what: str) -> K:
        """told gives a stream that has no `on_link` one that writes to the log."""
        if core.on_link is None:
            core.on_link = functools.partial(self._changed, core, what)
        return core

    def _changed(self, core: Kept, what: str, error: FoedusError | None, will_retry: bool) -> None:
        if error is not None and self._is_news(core, error.reason, will_retry):
            fate = "is down and will be reopened" if will_retry else "has ended and will not be reopened"
            log.warning("the stream to hub %s for %s %s: %s", self._hub_id, what, fate, _printable(error))
        elif error is None:
            with self._lock:
                self._down.pop(core, None)

    def _is_news(self, core: Kept, reason: str, will_retry: bool) -> bool:
        now = time.monotonic()
        with self._lock:
            # Streams that were closed meanwhile have told nothing of it.
            self._down = {one: reasons for one, reasons in self._down.items() if not (one.closed or one.over)}
            known = any(reason in reasons for reasons in self._down.values())
            if will_retry:
                # What came again too soon is told a minute after the last time, if it is still so.
                if not known and reason in self._told_at and now < self._told_at[reason] + AGAIN_S:
                    return False
                self._down.setdefault(core, set()).add(reason)
                if known:
                    return False
            self._told_at[reason] = now
            return True


def refusals_told(on_error: OnError | None) -> Callable[[Refusal], Any]:
    """refusals_told makes the `on_refused` of a program that has none.

    It tells each node, and each key of a node, once for each reason: a device that reports every second is refused every second. Of a
    node that was refused the keys are refused as well, which is no news. Beyond 1,000 nothing is told.
    """
    told: set[tuple[str, str, str]] = set()
    nodes: set[str] = set()

    def tell(refusal: Refusal) -> Any:
        error = refusal.error
        known = (refusal.node_id, refusal.key, error.reason)
        if known in told or len(told) == REFUSALS_MAX or (refusal.key != "" and refusal.node_id in nodes):
            return None
        told.add(known)
        if refusal.key == "":
            nodes.add(refusal.node_id)
        where = f"node {refusal.node_id!r}" + ("" if refusal.key == "" else f", key {refusal.key!r}")
        if on_error is None:
            log.warning("the hub refused %s: %s", where, _printable(error))
            return None
        return on_error(make_error(error.reason, f"{where}: {error.message}", fields=error.fields, details=True))

    return tell
