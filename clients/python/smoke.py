"""Plays a gateway or node against a running hub and checks each step: `python smoke.py --help`. Prints a line per step.

`asyncio` is a gateway with asyncio, and the operator of the current context. `keeper` keeps many nodes registered. `peer` plays another hub as far as Hello and a session of discovery.
"""

import argparse
import asyncio
import base64
import hashlib
import queue
import ssl
import threading
import time

import grpc
import foedus
import foedus.aio
# A peer is a hub: what it says is no part of the client, but comes with it.
from foedus._gen.common.v1 import access_pb2, session_pb2
from foedus._gen.discovery.v1alpha1 import discovery_service_pb2 as discovery_pb
from foedus._gen.discovery.v1alpha1 import session_pb2 as discovery_session_pb

NODE = "python-lamp"
SERVICES = ("registry-sync", "command-forwarding", "telemetry")
PATIENCE_S = 60.0


def step(text):
    print(text, flush=True)


def check(what, holds):
    if not holds:
        raise SystemExit(f"failed: {what}")


def expected(*_):
    """What this script causes and checks by itself: without a callback the log would tell it."""


def refusal(call):
    """The error with which a call is refused."""
    try:
        call()
    except foedus.FoedusError as error:
        return error
    raise SystemExit("failed: a call was taken that has to be refused")


def execute(hub, target, capability, value, key):
    """Runs a command on a node that was registered just now: with a process per service, commands hear of it a moment later."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return hub.execute(target, capability, value, timeout=5, key=key)
        except foedus.NotFoundError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def gateway(hub, arguments):
    mine = arguments.hub_id
    step(f"waiting for the hub at {arguments.address}")
    check("the hub serves", hub.serving(timeout=arguments.patience))
    step("health SERVING")

    lamp = foedus.Node(
        node_id=NODE,
        type="light",
        name="A lamp in Python",
        capabilities=[
            foedus.capability("state", str, invocable=True, allowed=["ON", "OFF"]),
            foedus.capability("power", float, unit="W"),
        ],
    )
    hub.register(lamp)
    hub.register(lamp)
    step("registered")

    bad = refusal(lambda: hub.register(foedus.Node(node_id="no spaces")))
    check("the field is named", (bad.reason, bad.fields, bad.retry_after) == ("INVALID_FIELD", ("nodes[0].node_id",), None))
    check("and says what to do", bad.remedy == "Correct the named field and call again.")
    denied = refusal(lambda: hub.events(print, on_link=expected).wait(PATIENCE_S))
    check("events are for operators", (denied.reason, type(denied)) == ("ACCESS_DENIED", foedus.DeniedError))
    step("refusals have reasons")

    updates, watch = hub.updates(lamp, on_refused=expected), hub.watch(foedus.NodeFilter(node_id_prefix="python-"))
    updates.set(NODE, "power", 1.5)
    updates.drain()
    watch.until(lambda w: w.state(mine, NODE, "power") == 1.5)
    updates.set(NODE, "no such key", 1.0)
    updates.set(NODE, "power", 2)
    updates.drain()
    check("only the wrong one is refused", [(one.node_id, one.key) for one in updates.refused] == [(NODE, "no such key")])
    watch.until(lambda w: w.state(mine, NODE, "power") == 2.0)
    nothing = hub.watch(foedus.NodeFilter(hub_ids=["nobody"]))
    nothing.ready(PATIENCE_S)
    check("of hubs that nobody knows there is nothing", (len(nothing.nodes), list(nothing.hubs)) == (0, []))
    nothing.close()
    step("updated and watched")

    callers = []

    def run(task):
        if task.value == "OFF":
            raise ValueError("the switch is stuck")
        updates.set(NODE, task.capability, task.value)
        callers.append(task.caller_hub_id)
        return f"{task.value} for {task.caller_hub_id}"

    older = hub.executor([NODE], run, on_link=expected)
    older.attached()
    executor = hub.executor([NODE], run)
    executor.attached()
    check("all nodes are accepted", not older.refused and not executor.refused)
    check("the older one stays away", refusal(lambda: older.wait(PATIENCE_S)).reason == "SESSION_REPLACED")
    watch.until(lambda w: w.nodes[(mine, NODE)].online)
    key = f"on-{time.time_ns()}"
    first = execute(hub, f"{mine}/{NODE}", "state", "ON", key)
    check("it ran", (first.value, first.replayed) == (f"ON for {mine}", False))
    watch.until(lambda w: w.state(mine, NODE, "state") == "ON")
    again = hub.execute(f"{mine}/{NODE}", "state", "ON", key=key)
    check("the key gives the stored answer", again.replayed and again.name == first.name)
    stuck = refusal(lambda: hub.execute(f"{mine}/{NODE}", "state", "OFF"))
    check("a failure of the device is told", (stuck.reason, "stuck" in stuck.message) == ("EXECUTOR_FAILED", True))
    wrong = refusal(lambda: hub.execute(f"{mine}/{NODE}", "state", "BLUE"))
    check("a wrong value never reaches the device", wrong.reason == "VALUE_OUT_OF_RANGE")
    check("it is listed", [record.node.name for record in hub.list_nodes(foedus.NodeFilter(node_id_prefix=NODE))] == ["A lamp in Python"])
    step("executed")

    if not arguments.alone:
        step("waiting for a peer's command")
        check("a peer's command ran", wait(lambda: any(caller != mine for caller in callers)))
        step("executed for a peer")
        restart(hub, mine, updates, watch, executor, key)

    executor.close()
    check("the node was there", hub.deregister(NODE))
    watch.until(lambda w: (mine, NODE) not in w.nodes)
    updates.close()
    watch.close()
    step("deregistered")


def restart(hub, mine, updates, watch, executor, key):
    """Waits until the hub is restarted, and checks that everything goes on as if nothing had been."""
    target = f"{mine}/{NODE}"
    first = hub.execute(target, "state", "ON", key=key)
    updates.set(NODE, "power", 3.5)
    updates.drain()
    resets, bookmarks, turns, cuts = watch.resets, watch.bookmarks, executor.turns, watch.cuts
    step("waiting for a restart")
    check("the streams are cut", wait(lambda: watch.cuts > cuts))
    updates.set(NODE, "power", 4.5)
    updates.drain(PATIENCE_S)
    watch.until(lambda w: w.state(mine, NODE, "power") == 4.5, PATIENCE_S)
    watch.until(lambda w: w.bookmarks > bookmarks)
    check("it went on from the old bookmark", watch.resets == resets)
    executor.attached(turns + 1, PATIENCE_S)
    execute(hub, target, "state", "ON", f"back-{time.time_ns()}")
    check("the old key still gives the old answer", hub.execute(target, "state", "ON", key=key).name == first.name)
    step("came back after a restart")


def keeper(hub, arguments):
    """Keeps more nodes than one call takes, one of them wrong, and checks that they stay as the hub last acknowledged them."""

    def node(name, kind="v1"):
        return foedus.Node(node_id=f"kept-{name}", type=kind, capabilities=[foedus.capability("power", float)])

    def kind_of(name):
        return hub.node(f"kept-{name}").node.type

    nodes = [node(at) for at in range(1001)]
    broken = foedus.Node(node_id="no spaces")
    updates = hub.updates(*nodes[:500], broken, *nodes[500:], on_refused=expected, on_link=expected)
    for at in (0, 1000):
        updates.set(f"kept-{at}", "power", 1.5)
    updates.drain(PATIENCE_S)
    refused = [(one.node_id, one.key, one.error.reason) for one in updates.refused]
    check("only the wrong one is refused", refused == [("no spaces", "", "INVALID_FIELD")])
    step("registered many")
    hub.register(node(1, "v2"), node("new"))
    check("the node was there", hub.deregister("kept-2"))
    for power in (2.5, 3.5):
        cuts = updates.cuts
        updates._turn.call.cancel()
        check("the stream is cut", wait(lambda: updates.cuts > cuts))
        updates.set("kept-0", "power", power)
        updates.drain(PATIENCE_S)
    check("what was replaced, added and left alone stays so", [kind_of(name) for name in (0, 1, "new")] == ["v1", "v2", "v1"])
    check("what was deregistered stays away", refusal(lambda: kind_of(2)).reason == "NODE_NOT_FOUND")
    updates.close()
    step("kept as they were said")


async def waiting(hub, operator, arguments):
    """Does with asyncio what a gateway does, is cancelled, and fails in callbacks; an operator commands it and reads events."""
    mine, node_id = arguments.hub_id, "python-async"
    target = f"{mine}/{node_id}"
    check("the hub serves", await hub.serving(timeout=arguments.patience))
    lamp = foedus.Node(
        node_id=node_id, capabilities=[foedus.capability("state", str, invocable=True), foedus.capability("power", float)]
    )
    await hub.register(lamp)
    failures, links, changes = [], [], []
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def run(task):
        if task.value == "slow":
            begun.set()
            await task.cancelled.wait()
            given_up.set()
        elif task.value == "offline":
            raise foedus.FoedusError("NODE_OFFLINE", "it is unplugged")
        updates.set(node_id, "state", task.value)
        return task.value

    async def changed(event):
        await asyncio.sleep(0)
        changes.append(event.kind)
        raise ValueError("this callback always fails")

    selected = foedus.NodeFilter(node_id_prefix=node_id)
    async with (
        hub.updates(lamp, on_link=lambda error, again: links.append((error, again))) as updates,
        hub.watch(selected, on_event=changed, on_error=failures.append) as watch,
        hub.executor([node_id], run) as executor,
    ):
        updates.set(node_id, "power", 1)
        await updates.drain()
        await executor.attached()
        await watch.ready()
        step("attached")
        # With a process per service, commands hear of a node a moment after it was registered.
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    check("it ran", (await operator.execute(target, "state", "ON")).value == "ON")
                    break
                except foedus.NotFoundError:
                    await asyncio.sleep(0.05)
        await watch.until(lambda w: (w.state(mine, node_id, "state"), w.state(mine, node_id, "power")) == ("ON", 1.0))
        check("callbacks that fail are told and end nothing", len(failures) == len(changes) > 0 and watch.cuts == 0)
        check("the stream says that it works", links == [(None, True)])
        slow = asyncio.create_task(operator.execute(target, "state", "slow"))
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
            slow.cancel()
            await given_up.wait()
        step("a cancelled call is given up by the device")
        try:
            await operator.execute(target, "state", "offline")
            check("a handler may refuse", False)
        except foedus.UnavailableError as error:
            check("with a reason of its own", (error.reason, "unplugged" in error.message, error.details) == ("NODE_OFFLINE", True, True))
        check("it is listed", [record.name.node_id async for record in operator.list_nodes(selected)] == [node_id])
        check("it is shown", (await operator.node(target)).online)
        kinds = []
        async with operator.events(lambda event: kinds.append(event.text), from_seq=1):
            async with asyncio.timeout(PATIENCE_S):
                while "node registered" not in kinds:
                    await asyncio.sleep(0.01)
        step("listed and told as events")
    check("the node was there", await hub.deregister(node_id))
    await operator.close()
    try:
        await operator.node(target)
        check("nothing is called after it was closed", False)
    except foedus.StoppedError:
        step("closed")


async def both(addresses, files, arguments):
    async with foedus.aio.Hub.connect(addresses, **files) as hub, foedus.aio.Hub.connect() as operator:
        await waiting(hub, operator, arguments)


def closing(hub, arguments):
    """Closes a hub in one thread while another waits for the answer of a command."""
    node_id, running, over = "python-slow", threading.Event(), threading.Event()
    hub.register(foedus.Node(node_id=node_id, capabilities=[foedus.capability("go", bool, invocable=True)]))

    def run(task):
        running.set()
        over.wait(PATIENCE_S)

    found = []
    with hub.executor([node_id], run) as executor:
        executor.attached()
        caller = foedus.Hub.connect(timeout=PATIENCE_S)
        thread = threading.Thread(target=lambda: found.append(refusal(lambda: execute(caller, node_id, "go", True, ""))))
        thread.start()
        check("the command is running", running.wait(PATIENCE_S))
        caller.close()
        thread.join(PATIENCE_S)
        over.set()
    check("nobody knows what became of it", [type(error) for error in found] == [foedus.OutcomeUnknownError])
    check("the node was there", hub.deregister(node_id))
    step("a closed hub leaves nobody waiting")


def wait(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def peer(arguments):
    """Says Hello as another hub, renews the token, and opens a session with the discovery service."""
    with open(arguments.ca, "rb") as ca, open(arguments.cert, "rb") as cert, open(arguments.key, "rb") as key:
        credentials = grpc.ssl_channel_credentials(ca.read(), key.read(), cert.read())
    channel = grpc.secure_channel(arguments.address, credentials)
    path = "/foedus.discovery.v1alpha1.DiscoveryService/"

    def unary(method, request, metadata=()):
        send, read = type(request).SerializeToString, getattr(discovery_pb, f"{method}Response").FromString
        return channel.unary_unary(path + method, send, read)(request, timeout=PATIENCE_S, wait_for_ready=True, metadata=metadata)

    session = channel.stream_stream(
        f"{path}Session", discovery_session_pb.SessionRequest.SerializeToString, discovery_session_pb.SessionResponse.FromString
    )
    with open(arguments.cert, encoding="ascii") as file:
        leaf = ssl.PEM_cert_to_DER_cert(file.read())
    package = "foedus.discovery.v1alpha1"
    incarnation = time.time_ns() // 1_000_000
    hello = discovery_pb.HelloRequest(
        hub_id=arguments.hub_id, incarnation=incarnation, packages=[package], leaves=[leaf], wall_ms=time.time_ns() // 1_000_000
    )
    answer = unary("Hello", hello)
    check("both speak the package", package in answer.packages)
    check("a level is granted", answer.level >= access_pb2.TRUST_LEVEL_MINIMAL)
    check("the other hub says where it is", {endpoint.service for endpoint in answer.endpoints} >= {"discovery", "registry-sync"})
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(leaf).digest()).decode().rstrip("=")
    token = next(token for token in answer.tokens if token.thumbprint == thumbprint)
    check("the token has a life", token.expires_in_ms > 0)
    step(f"{answer.hub_id} answered Hello")

    refresh = discovery_pb.RefreshRequest(leaves=[leaf])
    try:
        unary("Refresh", refresh)
        check("without a token nothing else goes", False)
    except grpc.RpcError as error:
        check("without a token nothing else goes", error.code() == grpc.StatusCode.UNAUTHENTICATED)
    bearer = (("authorization", f"Bearer {token.jwt}"),)
    renewed = unary("Refresh", refresh, bearer).tokens[0]
    check("a new token", renewed.jwt != token.jwt)
    step("the token was renewed")

    frames = queue.SimpleQueue()

    def say(**control):
        frame = discovery_session_pb.SessionFrame(control=session_pb2.SessionControl(**control))
        frames.put(discovery_session_pb.SessionRequest(frame=frame))

    say(open=session_pb2.SessionOpen(hub_id=arguments.hub_id, incarnation=incarnation, n=1, packages=[package], credit=1 << 20))
    metadata = (("authorization", f"Bearer {renewed.jwt}"),)
    seen = []
    for message in session(iter(frames.get, None), metadata=metadata, timeout=PATIENCE_S):
        kind = message.frame.WhichOneof("frame")
        frame = message.frame.control.WhichOneof("frame") if kind == "control" else kind
        seen.append(frame)
        if frame == "open":
            check("it is the hub that answered Hello", message.frame.control.open.hub_id == answer.hub_id)
            say(ping=session_pb2.Ping(n=1))
        elif frame == "ping":
            say(pong=session_pb2.Pong(n=message.frame.control.ping.n))
        elif frame == "pong":
            say(terminated=session_pb2.Terminated(reconnect=False))
            frames.put(None)
    check("the open comes first, then the answer to the ping", (seen[0], "pong" in seen) == ("open", True))
    step("a session was opened, proved alive and ended")
    channel.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("play", choices=("gateway", "asyncio", "keeper", "peer"))
    parser.add_argument("--hub-id", required=True, help="gateway and keeper: the hub; peer: the hub that is played")
    parser.add_argument("--address", required=True, help="host:port; the host is one that the hub's certificate names")
    for service in SERVICES:
        parser.add_argument(f"--{service}", help=f"host:port of {service} in split mode")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="how long to wait for the hub, in seconds")
    parser.add_argument("--alone", action="store_true", help="leave out what needs a peer's command and a restart of the hub")
    for file in ("ca", "cert", "key"):
        parser.add_argument(f"--{file}", required=True)
    arguments = parser.parse_args()
    services = [f"{name}={at}" for name in SERVICES if (at := getattr(arguments, name.replace("-", "_")))]
    try:
        if arguments.play == "peer":
            peer(arguments)
        else:
            files = {"ca": arguments.ca, "cert": arguments.cert, "key": arguments.key}
            if arguments.play == "asyncio":
                asyncio.run(both([arguments.address, *services], files, arguments))
            with foedus.Hub.connect([arguments.address, *services], **files) as hub:
                {"gateway": gateway, "asyncio": closing, "keeper": keeper}[arguments.play](hub, arguments)
    except foedus.UsageError as error:
        raise SystemExit(str(error)) from None
    except foedus.FoedusError as error:
        raise SystemExit(f"failed: {error}") from error
    step("done")


if __name__ == "__main__":
    main()
