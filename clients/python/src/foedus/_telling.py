"""What a program is told that gave no callback for it: sentences in the log `foedus`, which Python prints if the program sets up no logging."""

import logging
from collections.abc import Callable
from typing import Any

from ._core.updates import REFUSALS_MAX, Refusal
from .errors import FoedusError, make_error

log = logging.getLogger("foedus")

OnError = Callable[[BaseException], Any]


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
            log.warning("the hub refused %s: %s", where, error)
            return None
        return on_error(make_error(error.reason, f"{where}: {error.message}", fields=error.fields, details=True))

    return tell
