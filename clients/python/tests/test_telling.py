"""What a program is told that gave no callback for it, without a hub."""

import unittest
import unittest.mock

import foedus
import foedus._telling
from driver import Driver
from foedus import _hub
from foedus._core import effects
from foedus._core.registrar import Registrar
from foedus._core.updates import UpdatesCore
from foedus._gen.common.v1 import error_pb2
from foedus._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as pb
from foedus._core.watch import WatchCore
from foedus._telling import AGAIN_S, Links, refusals_told
from foedus.aio import _hub as aio_hub
from foedus.errors import make_error


def hub(call: effects.Call) -> pb.RegisterNodesResponse:
    """A hub that takes the node of the caller's certificate only, and no id with a space."""
    assert isinstance(call.request, pb.RegisterNodesRequest)
    if any(" " in node.node_id for node in call.request.nodes):
        raise make_error("INVALID_FIELD", "no spaces", details=True)
    results = []
    for node in call.request.nodes:
        result = pb.NodeResult(node_id=node.node_id)
        if node.node_id != "lamp":
            result.failure.CopyFrom(error_pb2.Failure(reason=error_pb2.ERROR_REASON_OUT_OF_SCOPE, message="not yours"))
        results.append(result)
    return pb.RegisterNodesResponse(results=results)


def refuse(core: UpdatesCore, key: str) -> None:
    """Sets a key of the lamp, which the hub refuses."""
    core.set("lamp", key, 1)
    message = core.outgoing()
    assert message is not None
    failure = error_pb2.Failure(reason=error_pb2.ERROR_REASON_CAPABILITY_NOT_FOUND, message="unknown key")
    Driver().run(core.take(pb.UpdateStateResponse(refused=pb.UpdateRefused(seq=message.named.seq, index=0, failure=failure))))


AWAY = make_error("PEER_UNREACHABLE", "nothing listens at here:1")
FOREIGN = make_error("FOREIGN_CA", "another hub")


class Downs(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        clock = unittest.mock.patch("foedus._telling.time.monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)
        self.links = Links("home")

    def stream(self, what: str) -> WatchCore:
        return self.links.told(WatchCore(None, False, None, None), what)

    def said(self, *changes: tuple[WatchCore, foedus.FoedusError | None, bool]) -> list[str]:
        with self.assertLogs("foedus", "WARNING") as logs:
            # assertLogs wants one.
            foedus._telling.log.warning("first")
            for core, error, will_retry in changes:
                assert core.on_link is not None
                core.on_link(error, will_retry)
        return [record.getMessage() for record in logs.records[1:]]

    def test_a_reason_is_one_sentence_until_the_stream_works_again(self) -> None:
        core = self.stream("updates")
        away, foreign, works = (core, AWAY, True), (core, FOREIGN, True), (core, None, True)
        said = self.said(away, away, foreign, away, foreign)
        self.assertEqual(
            said, [f"the stream to hub home for updates is down and will be reopened: {error}" for error in (AWAY, FOREIGN)]
        )
        self.now += AGAIN_S
        self.assertEqual(self.said(away, foreign), [])
        self.assertEqual(len(self.said(works, away, away)), 1)

    def test_a_stream_that_comes_and_goes_tells_once_a_minute(self) -> None:
        core = self.stream("updates")
        changes = [(core, AWAY, True), (core, None, True)] * 100
        self.assertEqual(len(self.said(*changes)), 1)
        self.now += AGAIN_S
        self.assertEqual(len(self.said(*changes)), 1)

    def test_one_that_went_again_within_the_minute_and_stays_away_is_told_when_the_minute_is_over(self) -> None:
        core = self.stream("updates")
        self.said((core, AWAY, True), (core, None, True))
        self.now += AGAIN_S / 2
        self.assertEqual(self.said((core, AWAY, True)), [])
        self.now += AGAIN_S / 2
        self.assertEqual(len(self.said(*[(core, AWAY, True)] * 3)), 1)

    def test_what_all_streams_of_a_hub_are_down_for_is_told_once(self) -> None:
        updates, executor = self.stream("updates"), self.stream("executor")
        self.assertEqual(len(self.said((updates, AWAY, True), (executor, AWAY, True))), 1)
        self.now += AGAIN_S
        self.assertEqual(self.said((updates, None, True), (executor, AWAY, True), (updates, AWAY, True)), [])

    def test_a_stream_that_was_closed_hides_nothing(self) -> None:
        closed, core = self.stream("updates"), self.stream("executor")
        self.said((closed, AWAY, True))
        closed.closed = True
        self.now += AGAIN_S
        self.assertEqual(len(self.said((core, AWAY, True))), 1)

    def test_that_a_stream_is_not_opened_again_is_always_told(self) -> None:
        replaced = make_error("SESSION_REPLACED", "another executor")
        for what in ("updates", "executor"):
            self.assertEqual(
                self.said((self.stream(what), replaced, False)),
                [f"the stream to hub home for {what} has ended and will not be reopened: {replaced}"],
            )

    def test_a_program_with_a_callback_of_its_own_is_told_nothing_else(self) -> None:
        told: list[object] = []
        core = self.links.told(WatchCore(None, False, None, lambda *link: told.append(link)), "watch")
        self.assertEqual(self.said((core, AWAY, True)), [])
        self.assertEqual(told, [(AWAY, True)])

    def test_all_streams_of_both_hubs_tell(self) -> None:
        for module in (_hub, aio_hub):
            hub = module.Hub(unittest.mock.Mock(), unittest.mock.Mock(), 1.0)
            for name, call in {
                "Updates": lambda: hub.updates(),
                "Watch": lambda: hub.watch(),
                "Executor": lambda: hub.executor(["lamp"], lambda _: None),
                "Events": lambda: hub.events(lambda _: None),
            }.items():
                with unittest.mock.patch.object(module, name) as made, self.subTest(f"{module.__name__} {name}"):
                    call()
                    self.assertIsNotNone(made.call_args.args[1].on_link)


    def test_what_a_hub_says_cannot_rewrite_the_terminal(self) -> None:
        said = self.said((self.stream("updates"), make_error("INTERNAL", "\x1b]0;mine\x07\nsudo \u202eé"), True))
        self.assertIn("INTERNAL: \\u{1b}]0;mine\\u{7} sudo \\u{202e}é. ", said[0])


class Refusals(unittest.TestCase):
    def test_without_a_callback_the_log_says_which_node_was_refused_and_why_once(self) -> None:
        nodes = [foedus.Node(node_id=node_id) for node_id in ("lamp", "lamp9", "a lamp")]
        core = UpdatesCore(Registrar(), nodes, refusals_told(None), None)
        with self.assertLogs("foedus", "WARNING") as logs:
            Driver(hub).run(core.prepare())
            Driver(hub).run(core.prepare())
        said = sorted(record.getMessage() for record in logs.records)
        self.assertEqual(len(said), 2, said)
        self.assertRegex(said[0], "^the hub refused node 'a lamp': INVALID_FIELD: no spaces")
        self.assertRegex(said[1], "^the hub refused node 'lamp9': OUT_OF_SCOPE: not yours")

    def test_a_key_that_is_refused_with_every_report_is_told_once(self) -> None:
        core = UpdatesCore(Registrar(), (), refusals_told(None), None)
        core.opened += 1
        core.first()
        with self.assertLogs("foedus", "WARNING") as logs:
            for _ in range(3):
                refuse(core, "pwoer")
            refuse(core, "stat")
        said = [record.getMessage() for record in logs.records]
        self.assertEqual(len(said), 2, said)
        self.assertRegex(said[0], "^the hub refused node 'lamp', key 'pwoer': CAPABILITY_NOT_FOUND")
        self.assertEqual(len(core.refused), 4)

    def test_of_a_node_that_was_refused_the_keys_are_no_news(self) -> None:
        errors: list[BaseException] = []
        tell = refusals_told(errors.append)
        error = make_error("OUT_OF_SCOPE", "not yours")
        tell(foedus.Refusal("lamp9", "", error))
        tell(foedus.Refusal("lamp9", "power", error))
        self.assertEqual([str(one) for one in errors], [str(make_error("OUT_OF_SCOPE", "node 'lamp9': not yours"))])

    def test_both_hubs_tell_when_the_program_gave_no_callback(self) -> None:
        for module in (_hub, aio_hub):
            with unittest.mock.patch.object(module, "Updates") as made, self.subTest(module.__name__):
                module.Hub(unittest.mock.Mock(), unittest.mock.Mock(), 1.0).updates()
                core = made.call_args.args[1]
                with self.assertLogs("foedus", "WARNING"):
                    Driver().run(core._node_refused("lamp9", make_error("OUT_OF_SCOPE", "not yours")))
