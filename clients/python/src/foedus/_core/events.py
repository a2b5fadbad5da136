"""What happens at a hub, for operators."""

from collections.abc import Callable
from typing import Any

from .._gen.telemetry.v1alpha1 import telemetry_service_pb2 as telemetry_pb
from . import methods
from .effects import Program, tell
from .kept import Kept, OnLink


class EventsCore(Kept):
    """Follows the event log of a hub. After a cut it goes on where it was."""

    method = methods.WATCH_EVENTS

    def __init__(
        self,
        on_event: Callable[[telemetry_pb.Event], Any],
        event_filter: telemetry_pb.EventFilter | None,
        from_seq: int,
        on_missed: Callable[[int], Any] | None,
        on_link: OnLink | None,
    ) -> None:
        super().__init__(on_link)
        self._on_event, self._filter, self._on_missed = on_event, event_filter, on_missed
        self.next_seq = from_seq

    def first(self) -> telemetry_pb.WatchEventsRequest:
        return telemetry_pb.WatchEventsRequest(filter=self._filter, from_seq=self.next_seq)

    def take(self, message: telemetry_pb.WatchEventsResponse) -> Program[None]:
        yield from self.worked()
        if message.missed > 0:
            yield from tell(self._on_missed, message.missed)
        for event in message.events:
            yield from tell(self._on_event, event)
        self.next_seq = message.next_seq
