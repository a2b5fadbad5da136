"""What is not input or output, without a hub."""

import ast
import asyncio
import inspect
import json
import os
import pathlib
import tempfile
import threading
import unittest

import foedus
import foedus.aio
from driver import Driver
from foedus._core import calls, effects, methods
from foedus._core.certs import uri_names
from foedus._core.executor import ExecutorCore
from foedus._core.kept import Kept
from foedus._core.pool import Pool
from foedus._core.registrar import Registrar, pages
from foedus._core.target import resolve
from foedus._core.updates import UpdatesCore
from foedus._core.watch import WatchCore
from foedus._gen import error_details_pb2, status_pb2
from foedus._gen.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands_pb
from foedus._gen.registry_sync.v1alpha1 import registry_sync_service_pb2 as pb
from foedus.errors import RULES, make_error, of_failure, of_status, to_failure
from foedus.values import from_value, to_value

GET = pb.GetNodeRequest()


class House(unittest.TestCase):
    def test_the_core_does_no_input_or_output(self) -> None:
        folder = pathlib.Path(inspect.getfile(calls)).parent
        files = sorted(folder.glob("*.py"))
        self.assertGreater(len(files), 10)
        for file in files:
            imported = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, (ast.Import, ast.ImportFrom))
                for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else [one.name for one in node.names if isinstance(node, ast.Import)])
            }
            self.assertEqual(imported & {"grpc", "threading", "asyncio", "time"}, set(), file.name)
            if file.name != "certs.py":
                self.assertEqual(imported & {"socket", "ssl"}, set(), file.name)

    def test_both_have_the_same_names(self) -> None:
        for name in foedus.aio.__all__:
            plain = {one for one in dir(getattr(foedus, name)) if not one.startswith("_")}
            waiting = {one for one in dir(getattr(foedus.aio, name)) if not one.startswith("_")}
            self.assertEqual(plain - waiting, {"lock"} if name == "Watch" else set(), name)
            self.assertEqual(waiting - plain, set(), name)
            for method in plain & waiting - {"executor"}:
                one, other = getattr(getattr(foedus, name), method), getattr(getattr(foedus.aio, name), method)
                if inspect.isfunction(one):
                    self.assertEqual(list(inspect.signature(one).parameters), list(inspect.signature(other).parameters), method)


class Errors(unittest.TestCase):
    def test_every_reason_has_a_kind_a_remedy_and_a_way_through_a_message(self) -> None:
        self.assertGreater(len(RULES), 40)
        for reason in RULES.keys() - {"UNSPECIFIED"}:
            error = make_error(reason, "m", fields=["f"])  # type: ignore[arg-type]
            self.assertIsNot(type(error), foedus.FoedusError, reason)
            self.assertNotEqual(error.remedy, "", reason)
            back = of_failure(to_failure(error))
            self.assertEqual((back.reason, back.message, back.fields, type(back)), (reason, "m", ("f",), type(error)))

    def test_details_say_more_than_the_code(self) -> None:
        status = status_pb2.Status()
        for name, message in (
            ("ErrorInfo", error_details_pb2.ErrorInfo(domain="foedus", reason="RATE_LIMITED", metadata={"a": "b"})),
            ("RetryInfo", error_details_pb2.RetryInfo(retry_delay={"seconds": 1, "nanos": 500_000_000})),
            ("BadRequest", error_details_pb2.BadRequest(field_violations=[{"field": "x"}, {"field": "y"}])),
        ):
            status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=message.SerializeToString())
        error = of_status(8, "slow", status.SerializeToString(), "here")
        self.assertEqual((error.reason, error.retry_after, error.fields, error.facts), ("RATE_LIMITED", 1.5, ("x", "y"), {"a": "b"}))
        self.assertTrue(error.details and error.retryable)
        self.assertIsInstance(error, foedus.LimitError)

    def test_without_details_the_code_and_the_text_decide(self) -> None:
        for code, text, raw, reason in (
            (14, "", None, "PEER_UNREACHABLE"),
            (14, "Peer name hub.home is not in peer certificate", None, "UNKNOWN_IDENTITY"),
            (12, "", None, "UPGRADE_NEEDED"),
            (13, "", b"\xff\xff", "INTERNAL"),
            (8, "Received message larger than max", None, "MESSAGE_TOO_LARGE"),
        ):
            error = of_status(code, text, raw, "here:1")
            self.assertEqual((error.reason, error.details), (reason, False))


class Values(unittest.TestCase):
    def test_they_come_back_as_they_went(self) -> None:
        for content in (True, False, 0, -(2**63), 2**63 - 1, 1.5, float("inf"), "", "é" * 2048, b"\0", foedus.Json.of({"a": [1]}), None):
            back = from_value(to_value(content))
            self.assertEqual((back, type(back)), (content, type(content)))

    def test_what_no_hub_takes_is_refused(self) -> None:
        for content in (2**63, float("nan"), "é" * 2049, "\ud800", b"x" * 4097, foedus.Json("1" * 16_385), [1]):
            with self.assertRaises(foedus.InvalidError):
                to_value(content)  # type: ignore[arg-type]


class Calls(unittest.TestCase):
    def test_what_may_be_repeated_is_within_the_timeout(self) -> None:
        def away(call: effects.Call) -> None:
            raise make_error("PEER_UNREACHABLE", "away", retry_after=0.0)

        driver = Driver(away)
        with self.assertRaises(foedus.UnavailableError):
            driver.run(calls.invoke(methods.GET_NODE, GET, 10.0))
        self.assertGreater(len(driver.made), 4)
        self.assertLess(driver.now, 10.0)
        for wait, most in zip(driver.slept, (0.2, 0.4, 0.8, 1.6), strict=False):
            self.assertTrue(most / 2 <= wait <= most, driver.slept)

    def test_the_hub_says_how_long_to_wait(self) -> None:
        answers = iter([make_error("OVERLOADED", "full", retry_after=3.0, details=True), pb.GetNodeResponse()])

        def full(call: effects.Call) -> object:
            answer = next(answers)
            if isinstance(answer, foedus.FoedusError):
                raise answer
            return answer

        driver = Driver(full)
        driver.run(calls.invoke(methods.GET_NODE, GET, 10.0))
        self.assertEqual(driver.slept, [3.0])

    def test_a_command_without_a_key_is_never_repeated(self) -> None:
        def lost(call: effects.Call) -> None:
            raise of_status(14, "Socket closed", None, "here:1")

        driver = Driver(lost)
        with self.assertRaises(foedus.OutcomeUnknownError):
            driver.run(calls.execute("n", "c", 1, timeout=5))
        self.assertEqual(len(driver.made), 1)
        with self.assertRaises(foedus.OutcomeUnknownError):
            driver.run(calls.execute("n", "c", 1, timeout=5, key="k"))
        self.assertGreater(len(driver.made), 3)

    def test_a_command_that_did_not_leave_is_not_unknown(self) -> None:
        def refused(call: effects.Call) -> None:
            raise of_status(14, "failed to connect to all addresses; last error: Connection refused", None, "here:1")

        with self.assertRaises(foedus.UnavailableError):
            Driver(refused).run(calls.execute("n", "c", 1))


class Registering(unittest.TestCase):
    def test_pages_are_small_enough(self) -> None:
        nodes = [foedus.Node(node_id=f"n{at}", description="x" * 4000) for at in range(1001)]
        cut = list(pages(nodes))
        self.assertEqual([node for page in cut for node in page], nodes)
        for page in cut:
            self.assertLess(pb.RegisterNodesRequest(nodes=page).ByteSize(), 257 * 1024)
            self.assertLessEqual(len(page), 500)

    def test_one_that_breaks_the_schema_keeps_no_other_out_and_is_told_once(self) -> None:
        taken: list[str] = []
        numbers: list[int] = []

        def hub(call: effects.Call) -> pb.RegisterNodesResponse:
            assert isinstance(call.request, pb.RegisterNodesRequest)
            numbers.append(call.request.order.n)
            if any(" " in node.node_id for node in call.request.nodes):
                raise make_error("INVALID_FIELD", "no spaces", details=True)
            taken.extend(node.node_id for node in call.request.nodes)
            return pb.RegisterNodesResponse(results=[pb.NodeResult(node_id=node.node_id) for node in call.request.nodes])

        registrar, told = Registrar(), []

        def tell(node_id: str, error: foedus.FoedusError) -> effects.Program[None]:
            told.append((node_id, error.reason))
            yield from ()

        registrar.keep([foedus.Node(node_id=f"n{at}") for at in range(9)])
        registrar.keep([foedus.Node(node_id="a b")])
        driver = Driver(hub)
        driver.run(registrar.repeat(tell))
        self.assertEqual((sorted(taken), told), ([f"n{at}" for at in range(9)], [("a b", "INVALID_FIELD")]))
        self.assertEqual(numbers, sorted(set(numbers)))
        before = len(driver.made)
        driver.run(registrar.repeat(tell))
        self.assertEqual((len(driver.made) - before, len(told)), (1, 1))

    def test_a_call_that_was_overtaken_goes_again_with_a_new_number(self) -> None:
        numbers: list[int] = []

        def hub(call: effects.Call) -> pb.DeregisterNodeResponse:
            assert isinstance(call.request, pb.DeregisterNodeRequest)
            numbers.append(call.request.order.n)
            if len(numbers) < 3:
                raise make_error("SESSION_REPLACED", "overtaken", details=True)
            return pb.DeregisterNodeResponse(existed=True)

        self.assertTrue(Driver(hub).run(Registrar().deregister("n")))
        self.assertEqual(numbers, [1, 2, 3])


class Streams(unittest.TestCase):
    def test_it_is_opened_again_until_it_is_refused_for_good(self) -> None:
        links: list[tuple[object, bool]] = []
        core = WatchCore(None, False, None, lambda error, again: links.append((error and error.reason, again)))
        core.final = frozenset({"ACCESS_DENIED"})
        driver = Driver()
        numbers = []
        effect = driver.run(core.keep(), effects.Read)
        bookmark = pb.WatchResponse(bookmark=pb.Bookmark())
        for answer in (make_error("PEER_UNREACHABLE", "cut"), None, bookmark, None):
            self.assertIsInstance(effect, effects.Read)
            numbers.append(core.number().n)
            effect = driver.go_on(answer, effects.Read)
        self.assertEqual(numbers, [1, 2, 3, 3])
        self.assertIsNone(driver.go_on(make_error("ACCESS_DENIED", "no", details=True), effects.Read))
        self.assertTrue(core.over)
        self.assertEqual(core.failure(), core.last_error)
        self.assertEqual(
            links,
            [("PEER_UNREACHABLE", True), ("PEER_UNREACHABLE", True), (None, True), ("PEER_UNREACHABLE", True), ("ACCESS_DENIED", False)],
        )
        # The third wait is a first one again: the stream had worked.
        self.assertTrue(all(0.1 <= wait <= 0.2 for wait in (driver.slept[0], driver.slept[2])) and driver.slept[1] >= 0.2, driver.slept)

    def test_nothing_is_opened_after_it_was_closed(self) -> None:
        core = WatchCore(None, False, None, None)
        driver = Driver()
        driver.run(core.keep(), effects.Read)
        core.closed = True
        self.assertIsNone(driver.go_on(None, effects.Open))
        self.assertEqual((core.opened, driver.slept), (1, []))

    def test_what_cannot_be_handled_ends_a_stream_and_no_more(self) -> None:
        core = WatchCore(None, False, None, None)
        driver = Driver()
        driver.run(core.keep(), effects.Read)
        opening = driver.go_on(pb.GetNodeRequest(), effects.Open)
        self.assertIsInstance(opening, effects.Open)
        self.assertEqual(core.last_error and core.last_error.reason, "INTERNAL")
        self.assertEqual(len(driver.slept), 1)

    def test_a_wrong_address_is_not_tried_again(self) -> None:
        core = WatchCore(None, False, None, None)
        driver = Driver()
        driver.run(core.keep(), effects.Open)
        self.assertIsNone(driver.go_on(foedus.UsageError("the address is not known", "Give it."), effects.Open))
        self.assertIsInstance(core.failure(), foedus.UsageError)

    def test_a_watch_goes_on_from_its_last_bookmark(self) -> None:
        kinds: list[str] = []
        core = WatchCore(None, False, lambda event: kinds.append(event.kind), None)
        driver = Driver()
        driver.run(core.keep(), effects.Read)
        name = {"hub_id": "h", "node_id": "n"}
        node = foedus.Node(node_id="n", capabilities=[foedus.capability("a", int)])
        position = {"hub_id": "h", "share": "full", "epoch": 1, "seq": 5, "digest": b"d"}
        events = [{"name": name, "put": node}, {"name": name, "state": {"key": "a", "value": {"int_value": 1}}}, {"name": name, "online": True}]
        driver.go_on(pb.WatchResponse(events={"events": events}), effects.Read)
        self.assertFalse(core.complete)
        driver.go_on(pb.WatchResponse(bookmark={"positions": [position], "hubs": [{"hub_id": "h", "nodes": 1}]}), effects.Read)
        self.assertTrue(core.complete)
        opening = driver.go_on(None, effects.Open)
        self.assertEqual([(one.seq, one.digest) for one in opening.first.resume], [(5, b"d")])
        self.assertEqual((core.state("h", "n", "a"), core.nodes[("h", "n")].online, kinds), (1, True, ["put", "state", "online"]))
        driver.go_on(None, effects.Read)
        driver.go_on(pb.WatchResponse(reset={"position": position}), effects.Read)
        self.assertEqual((dict(core.nodes), core.complete, core.resets), ({}, False, 1))
        # What was cut off before its bookmark is asked for anew.
        opening = driver.go_on(None, effects.Open)
        self.assertEqual(list(opening.first.resume), [])

    def test_a_task_is_answered_on_the_stream_that_it_came_on(self) -> None:
        core = ExecutorCore(["n"], [], 64, False, threading.Event, None)
        core.opened = 1
        # A hub may say that a task is given up before it gives it out.
        driver = Driver()
        driver.run(core.take(commands_pb.AttachExecutorResponse(cancel={"task_id": 2})))
        started = []
        tasks = commands_pb.AttachExecutorResponse(tasks={"tasks": [{"task_id": i, "node_id": "n"} for i in (1, 2, 3)]})
        effect = driver.run(core.take(tasks), effects.Start)
        while effect is not None:
            started.append(effect.task)
            effect = driver.go_on(None, effects.Start)
        self.assertEqual([task.cancelled.is_set() for task in started], [False, True, False])
        core.answer(started[0], "done", None)
        core.answer(started[1], None, ValueError("stuck"))
        message = core.outgoing()
        assert message is not None
        failure = of_failure(message.results.results[1].failure)
        self.assertEqual((failure.reason, "stuck" in failure.message), ("EXECUTOR_FAILED", True))
        core.cut()
        core.opened = 2
        self.assertTrue(started[2].cancelled.is_set())
        # The next stream counts its tasks from the beginning.
        effect = driver.run(core.take(commands_pb.AttachExecutorResponse(tasks={"tasks": [{"task_id": 3, "node_id": "n"}]})), effects.Start)
        core.answer(started[2], "late", None)
        self.assertIsNone(core.outgoing())
        core.answer(effect.task, "in time", None)
        message = core.outgoing()
        assert message is not None
        self.assertEqual(message.results.results[0].value.string_value, "in time")

    def test_no_task_is_begun_after_its_stream_or_after_close(self) -> None:
        core = ExecutorCore(["n"], [], 64, False, threading.Event, None)
        core.opened = 1
        driver = Driver()
        tasks = commands_pb.AttachExecutorResponse(tasks={"tasks": [{"task_id": one, "node_id": "n"} for one in (1, 2)]})
        first = driver.run(core.take(tasks), effects.Start).task
        second = driver.go_on(None, effects.Start).task
        self.assertTrue(core.wanted(first))
        core.cut()
        core.opened = 2
        again = driver.run(core.take(tasks), effects.Start).task
        self.assertEqual([core.wanted(task) for task in (first, second, again)], [False, False, True])
        core.closed = True
        # The second of its message, and the next message.
        self.assertIsNone(driver.go_on(None, effects.Start))
        self.assertIsNone(driver.run(core.take(tasks), effects.Start))
        self.assertFalse(core.wanted(again))

    def test_no_more_tasks_are_started_than_it_takes_and_of_its_nodes_only(self) -> None:
        for tasks, least, reason in (
            ([(i, "n") for i in range(1, 4100)], 4098, "LIMIT_EXCEEDED"),
            ([(1, "n"), (1, "n")], 1, "LIMIT_EXCEEDED"),
            ([(1, "n"), (2, "other")], 1, "OUT_OF_SCOPE"),
        ):
            core = ExecutorCore(["n"], [], 2, False, threading.Event, None)
            frame = commands_pb.AttachExecutorResponse(tasks={"tasks": [{"task_id": one, "node_id": node} for one, node in tasks]})
            driver, started = Driver(), []
            effect = driver.run(core.take(frame), effects.Start)
            with self.assertRaises(foedus.FoedusError) as raised:
                while effect is not None:
                    started.append(effect.task)
                    effect = driver.go_on(None, effects.Start)
            self.assertEqual((len(started), raised.exception.reason), (least, reason))

    def test_a_value_that_cannot_be_sent_is_a_failure_that_says_so(self) -> None:
        core = ExecutorCore(["n"], [], 64, False, asyncio.Event, None)
        driver = Driver()
        effect = driver.run(core.take(commands_pb.AttachExecutorResponse(tasks={"tasks": [{"task_id": 1, "node_id": "n"}]})), effects.Start)
        core.answer(effect.task, 2**70, None)
        message = core.outgoing()
        assert message is not None
        self.assertIn("it ran", message.results.results[0].failure.message)

    def test_every_stream_numbers_itself_in_a_group_of_its_own(self) -> None:
        cores: list[Kept] = [WatchCore(None, False, None, None) for _ in range(2)]
        self.assertNotEqual(cores[0].number().group, cores[1].number().group)
        self.assertEqual(len(cores[0].number().group), 16)
        kept = UpdatesCore(Registrar(), (), None, None, (b"my program", 7))
        kept.opened = 3
        number = kept.number()
        self.assertEqual((number.group, number.incarnation, number.n), (b"my program", 7, 3))
        with self.assertRaises(ValueError):
            UpdatesCore(Registrar(), (), None, None, (b"short", 7))


class Targets(unittest.TestCase):
    FILES = {"ca": "ca.pem", "cert": "c.pem", "key": "c.key"}

    def test_addresses(self) -> None:
        whole = resolve(address="h:1", **self.FILES, hub_id="home", environ={})
        self.assertEqual((whole.at("registry-sync"), whole.server_name), ("h:1", "hub.home"))
        split = resolve(address=["h:1", "registry-sync=h:2"], **self.FILES, hub_id="home", environ={})
        self.assertEqual((split.at("discovery"), split.at("registry-sync"), split.server_name), ("h:1", "h:2", "home"))
        with self.assertRaisesRegex(foedus.UsageError, "command-forwarding"):
            split.at("command-forwarding")
        for bad in ("h", "h:x", "http://h:1", "nothing=h:1", "a:b:1", ""):
            with self.assertRaises(foedus.UsageError, msg=bad):
                resolve(address=bad, **self.FILES, environ={})

    def test_variables_fill_in_what_the_program_does_not_say(self) -> None:
        env = {"FOEDUS_ADDRESS": "h:1,registry-sync=h:2", "FOEDUS_CA": "a", "FOEDUS_CERT": "b", "FOEDUS_KEY": "c"}
        target = resolve(environ=env, cert="mine")
        self.assertEqual((target.at("registry-sync"), target.ca, target.cert, target.key), ("h:2", "a", "mine", "c"))
        with self.assertRaisesRegex(foedus.UsageError, "ca, cert, key"):
            resolve(address="h:1", environ={})

    @unittest.skipUnless(hasattr(os, "mkfifo"), "this system has no named pipes")
    def test_what_is_no_file_is_refused_at_once(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(pipe := os.path.join(folder, "pipe"))
            for file in (pipe, folder, "/dev/zero"):
                with self.assertRaisesRegex(foedus.UsageError, "it is not a file"):
                    resolve(environ={}, contexts=file)

    def test_contexts(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            home = pathlib.Path(folder, "home", ".foedus")
            below = pathlib.Path(folder, "home", "a", "b")
            home.mkdir(parents=True)
            below.mkdir(parents=True)
            context = {"hub_id": "home", "address": "h:1", "ca": "../pki/ca.pem", "cert": "../pki/c.pem", "key": "/k"}
            split = {**context, "services": {"registry-sync": "h:2"}}
            (home / "contexts.json").write_text(json.dumps({"current": "one", "contexts": {"one": context, "two": split}}))
            target = resolve(environ={}, folder=below)
            self.assertEqual(os.path.normpath(target.ca), str(pathlib.Path(folder, "home", "pki", "ca.pem").resolve()))
            self.assertEqual((target.key, target.hub_id, target.at("registry-sync")), ("/k", "home", "h:1"))
            self.assertEqual(resolve(environ={}, folder=below, hub="two").at("registry-sync"), "h:2")
            self.assertEqual(resolve(environ={"FOEDUS_HUB": "two"}, folder=below).at("registry-sync"), "h:2")
            self.assertEqual(resolve(environ={}, folder=below, key="mine").key, "mine")
            with self.assertRaisesRegex(foedus.UsageError, "one, two"):
                resolve(environ={}, folder=below, hub="three")
            with self.assertRaisesRegex(foedus.UsageError, "nothing says where the hub is"):
                resolve(environ={}, folder=folder)
            for text in ("", "[]", '{"contexts": []}', '{"current": "x", "contexts": {"x": {"hub_id": "home"}}}'):
                (home / "contexts.json").write_text(text)
                with self.assertRaises(foedus.UsageError, msg=text):
                    resolve(environ={}, folder=below)


class Certificates(unittest.TestCase):
    def test_damaged_ones_are_refused_and_never_more(self) -> None:
        san = b"\x06\x03\x55\x1d\x11\x04\x14\x30\x12\x86\x10spiffe://home/ab"
        extension = b"\x30" + bytes([len(san)]) + san
        extensions = b"\xa3" + bytes([len(extension) + 2]) + b"\x30" + bytes([len(extension)]) + extension
        body = b"\x30" + bytes([len(extensions)]) + extensions
        whole = b"\x30" + bytes([len(body)]) + body
        self.assertEqual(uri_names(whole), ["spiffe://home/ab"])
        for end in range(len(whole)):
            with self.assertRaises(ValueError):
                uri_names(whole[:end])

    def test_what_begins_after_a_renewal_has_a_new_channel_and_the_old_one_lives_on(self) -> None:
        class Files:
            now: object = "old"

            def material(self) -> object:
                return self.now

        files, made = Files(), []
        target = resolve(address="h:1", **Targets.FILES, hub_id="home", environ={})
        pool = Pool(target, files, lambda address, material: made.append(material) or material)  # type: ignore[arg-type, func-returns-value]
        old, other = pool.take("discovery"), pool.take("registry-sync")
        self.assertIs(old, other)
        files.now = "new"
        new = pool.take("discovery")
        self.assertEqual((new.channel, made), ("new", ["old", "new"]))
        self.assertEqual(pool.give_back(old), [])
        self.assertEqual(pool.give_back(other), ["old"])
        self.assertEqual(pool.give_back(new), [])
        self.assertEqual(pool.empty(), ["new"])


if __name__ == "__main__":
    unittest.main()
