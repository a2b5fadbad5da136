"""States on their way to the hub, without a hub."""

import random
import unittest
import unittest.mock

import foedus
from driver import Driver
from foedus._core.registrar import Registrar
from foedus._core.updates import BATCH, WINDOW, UpdatesCore
from foedus._gen.common.v1 import error_pb2
from foedus._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as pb


def opened(core: UpdatesCore) -> None:
    core.opened += 1
    core.first()


def batch(core: UpdatesCore) -> list[tuple[str, object]]:
    message = core.outgoing()
    assert message is not None
    return [(one.key, one.value.int_value) for one in message.named.updates]


def ack(core: UpdatesCore, seq: int) -> None:
    Driver().run(core.take(pb.UpdateStateResponse(ack=pb.UpdateAck(seq=seq))))


def refuse(core: UpdatesCore, seq: int, index: int, reason: str) -> None:
    failure = error_pb2.Failure(reason=f"ERROR_REASON_{reason}", message="no")
    Driver().run(core.take(pb.UpdateStateResponse(refused=pb.UpdateRefused(seq=seq, index=index, failure=failure))))


class Updates(unittest.TestCase):
    def setUp(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self.core = UpdatesCore(Registrar(), (), lambda one: self.refused.append((one.key, one.error.reason)), None)
        opened(self.core)

    def test_newest_of_each_key_is_sent_again_after_a_cut(self) -> None:
        self.core.set("n", "a", 1)
        self.core.set("n", "b", 1)
        self.assertEqual(batch(self.core), [("a", 1), ("b", 1)])
        self.core.set("n", "a", 2)
        self.assertEqual(batch(self.core), [("a", 2)])
        self.core.set("n", "c", 3)
        self.core.cut()
        opened(self.core)
        self.assertEqual(batch(self.core), [("b", 1), ("a", 2), ("c", 3)])

    def test_what_waits_is_not_overtaken_by_what_was_cut(self) -> None:
        self.core.set("n", "a", 1)
        batch(self.core)
        self.core.set("n", "a", 2)
        self.core.cut()
        opened(self.core)
        self.assertEqual(batch(self.core), [("a", 2)])
        self.assertIsNone(self.core.outgoing())

    def test_who_waits_for_a_value_waits_for_what_replaced_it(self) -> None:
        self.core.set("n", "a", 1)
        ticket = self.core.ticket
        batch(self.core)
        self.core.set("n", "a", 2)
        self.core.cut()
        opened(self.core)
        batch(self.core)
        self.assertFalse(self.core.settled(ticket))
        ack(self.core, 1)
        self.assertTrue(self.core.settled(ticket))
        self.assertEqual(self.core.pending, 0)

    def test_also_for_one_that_was_replaced_before_it_was_sent(self) -> None:
        self.core.set("n", "a", 1)
        ticket = self.core.ticket
        self.core.set("n", "a", 2)
        self.assertEqual(batch(self.core), [("a", 2)])
        self.assertFalse(self.core.settled(ticket))
        ack(self.core, 1)
        self.assertTrue(self.core.settled(ticket))

    def test_also_for_one_that_was_overtaken_when_its_batch_was_refused(self) -> None:
        self.core.set("n", "a", 1)
        self.core.set("n", "bad", 1)
        ticket = self.core.ticket
        batch(self.core)
        self.core.set("n", "a", 2)
        batch(self.core)
        refuse(self.core, 1, 1, "CAPABILITY_NOT_FOUND")
        self.assertIsNone(self.core.outgoing())
        self.assertFalse(self.core.settled(ticket))
        ack(self.core, 2)
        self.assertTrue(self.core.settled(ticket))

    def test_a_refused_change_is_left_out_and_the_rest_goes_again(self) -> None:
        for key in ("a", "bad", "c"):
            self.core.set("n", key, 1)
        batch(self.core)
        self.core.set("n", "c", 2)
        batch(self.core)
        refuse(self.core, 1, 1, "CAPABILITY_NOT_FOUND")
        self.assertEqual(self.refused, [("bad", "CAPABILITY_NOT_FOUND")])
        # c has a newer value on its way.
        self.assertEqual(batch(self.core), [("a", 1)])
        ticket = self.core.ticket
        ack(self.core, 2)
        self.assertFalse(self.core.settled(ticket))
        ack(self.core, 3)
        self.assertTrue(self.core.settled(ticket))

    def test_a_refusal_of_a_change_that_was_not_sent_waits_for_the_next_stream(self) -> None:
        self.core.set("n", "a", 1)
        batch(self.core)
        with self.assertRaises(foedus.FoedusError):
            refuse(self.core, 1, 1, "INVALID_FIELD")
        self.core.cut()
        opened(self.core)
        self.assertEqual((batch(self.core), self.refused), ([("a", 1)], []))

    def test_a_hub_that_asks_for_patience_loses_nothing(self) -> None:
        self.core.set("n", "a", 1)
        batch(self.core)
        with self.assertRaises(foedus.LimitError):
            refuse(self.core, 1, 0, "OVERLOADED")
        self.core.cut()
        opened(self.core)
        self.assertEqual((batch(self.core), self.refused), ([("a", 1)], []))

    def test_a_value_that_waits_is_replaced_and_never_dropped_when_too_many_wait(self) -> None:
        with unittest.mock.patch("foedus._core.updates.WAITING_MAX", 2):
            self.core.set("n", "a", 1)
            batch(self.core)
            self.core.set("n", "b", 1)
            self.core.set("n", "c", 1)
            self.core.cut()
            opened(self.core)
            with self.assertRaises(foedus.LimitError):
                self.core.set("n", "d", 1)
            self.core.set("n", "c", 2)
            self.assertEqual(batch(self.core), [("a", 1), ("b", 1), ("c", 2)])

    def test_batches_are_bounded(self) -> None:
        for at in range(WINDOW + 2):
            for key in range(BATCH):
                self.core.set("n", f"{at}-{key}", 1)
        for _ in range(WINDOW):
            self.assertEqual(len(batch(self.core)), BATCH)
        self.assertIsNone(self.core.outgoing())
        ack(self.core, 1)
        self.assertEqual(len(batch(self.core)), BATCH)

    def test_long_values_make_short_batches(self) -> None:
        for key in range(300):
            self.core.set("n", str(key), "x" * 4096)
        message = self.core.outgoing()
        assert message is not None
        self.assertLess(message.ByteSize(), 768 * 1024)

    def test_an_int_is_good_for_a_capability_of_type_float(self) -> None:
        node = foedus.Node(node_id="n", capabilities=[foedus.capability("t", float), foedus.capability("j", foedus.Json)])
        core = UpdatesCore(Registrar(), [node], None, None)
        opened(core)
        core.set("n", "t", 21)
        core.set("n", "j", "[1]")
        message = core.outgoing()
        assert message is not None
        self.assertEqual([one.value.WhichOneof("kind") for one in message.named.updates], ["double_value", "json_value"])

    def test_at_the_end_the_hub_has_the_newest_of_everything(self) -> None:
        seed = random.randrange(2**32)
        with self.subTest(seed=seed):
            chance = random.Random(seed)
            hub: dict[str, int] = {}
            newest: dict[str, int] = {}
            flight: list[tuple[int, list[tuple[str, int]]]] = []
            seq = 0
            for step in range(20_000):
                key = f"k{chance.randrange(20)}"
                match chance.randrange(6):
                    case 0 | 1:
                        self.core.set("n", key, step)
                        newest[key] = step
                    case 2 | 3:
                        message = self.core.outgoing()
                        if message is not None:
                            seq = message.named.seq
                            changes = [(one.key, one.value.int_value) for one in message.named.updates]
                            flight.append((seq, changes))
                            # The hub takes batches in order, and tells it later.
                            hub.update(changes)
                    case 4 if flight:
                        at = chance.randrange(len(flight))
                        ack(self.core, flight[at][0])
                        del flight[: at + 1]
                    case 5 if chance.random() < 0.1:
                        flight.clear()
                        self.core.cut()
                        opened(self.core)
            while (message := self.core.outgoing()) is not None:
                hub.update((one.key, one.value.int_value) for one in message.named.updates)
                ack(self.core, message.named.seq)
            while self.core.pending > 0:
                ack(self.core, 10**6)
            self.assertEqual(hub, newest)
