"""Plays a gateway or node against a running hub and checks each step: `python smoke.py --help`. Prints a line per step.

`keeper` keeps many nodes registered. `peer` plays another hub as far as Hello and a session of discovery.
"""

import argparse
import base64
import hashlib
import queue
import ssl
import time

import grpc
from foedus.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands_pb
from foedus.command_forwarding.v1alpha1 import command_pb2
from foedus.common.v1 import access_pb2, node_pb2, session_pb2, value_pb2
from foedus.discovery.v1alpha1 import discovery_service_pb2 as discovery_pb
from foedus.discovery.v1alpha1 import session_pb2 as discovery_session_pb
from foedus.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry_pb
from grpc_health.v1 import health_pb2

from foedus_client import Executor, FoedusError, Hub, Updates, Watch, content, value

NODE = "python-lamp"
PATIENCE_S = 60.0


def step(text):
    print(text, flush=True)


def check(what, holds):
    if not holds:
        raise SystemExit(f"failed: {what}")


def refusal(call):
    """The error with which a call is refused."""
    try:
        call()
    except FoedusError as error:
        return error
    raise SystemExit("failed: a call was taken that has to be refused")


def command(hub_id, node_id, capability, argument, key=""):
    target = value_pb2.NodeName(hub_id=hub_id, node_id=node_id)
    return commands_pb.ExecuteRequest(
        command=command_pb2.Command(target=target, capability=capability, value=value(argument), timeout_ms=5000, idempotency_key=key)
    )


def execute(hub, request):
    """Runs a command on a node that was registered just now: with a process per service, commands hear of it a moment later."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return hub.call(hub.commands.Execute, request, again=True).result
        except FoedusError as error:
            if error.reason != "NODE_NOT_FOUND" or time.monotonic() > end:
                raise
            time.sleep(0.05)


def gateway(hub, arguments):
    mine = arguments.hub_id
    step(f"waiting for the hub at {arguments.address}")
    answer = hub.call(hub.health.Check, health_pb2.HealthCheckRequest(), again=True, timeout=arguments.patience)
    check("the hub serves", answer.status == health_pb2.HealthCheckResponse.SERVING)
    step("health SERVING")

    lamp = node_pb2.Node(node_id=NODE, type="light", name="A lamp in Python")
    lamp.capabilities.add(name="state", type=value_pb2.VALUE_TYPE_STRING, readable=True, invocable=True, allowed=["ON", "OFF"])
    lamp.capabilities.add(name="power", type=value_pb2.VALUE_TYPE_DOUBLE, readable=True, unit="W")
    register = registry_pb.RegisterNodeRequest(node=lamp)
    ref = hub.call(hub.registry.RegisterNode, register, again=True).ref
    check("registering again changes nothing", hub.call(hub.registry.RegisterNode, register, again=True).ref == ref)
    step("registered")

    bad = refusal(lambda: hub.call(hub.registry.RegisterNode, registry_pb.RegisterNodeRequest(node=node_pb2.Node(node_id="no spaces"))))
    check("the field is named", (bad.reason, bad.fields, bad.retry_after) == ("INVALID_FIELD", ("node.node_id",), None))
    denied = refusal(lambda: hub.call(hub.discovery.ListPeers, discovery_pb.ListPeersRequest()))
    check("peers are for operators", denied.reason == "ACCESS_DENIED")
    step("refusals have reasons")

    updates, watch = Updates(hub, [lamp]), Watch(hub, registry_pb.NodeFilter(node_id_prefix="python-"))
    updates.set(NODE, "power", 1.5)
    check("the update is durable", updates.drain())
    check("it is watched", watch.until(lambda w: w.state(mine, NODE, "power") == 1.5))
    updates.set(NODE, "no such key", 1.0)
    updates.set(NODE, "power", 2.5)
    check("the updates are answered", updates.drain())
    check("only the wrong one is refused", [key for key, _ in updates.refused] == [(NODE, "no such key")])
    check("the other one arrives", watch.until(lambda w: w.state(mine, NODE, "power") == 2.5))
    step("updated and watched")

    callers = []

    def run(task):
        if content(task.value) == "OFF":
            raise ValueError("the switch is stuck")
        updates.set(NODE, task.capability, content(task.value))
        callers.append(task.caller_hub_id)
        return f"{content(task.value)} for {task.caller_hub_id}"

    older = Executor(hub, [NODE], run)
    check("the executor is attached", older.attached() and not older.refused)
    executor = Executor(hub, [NODE], run)
    check("a newer one is attached", executor.attached() and not executor.refused)
    older.join(PATIENCE_S)
    check("and the older one stays away", (older.is_alive(), older.last_error.reason) == (False, "SESSION_REPLACED"))
    check("the node is online", watch.until(lambda w: w.nodes[(mine, NODE)]["online"]))
    on = command(mine, NODE, "state", "ON", key=f"on-{time.time_ns()}")
    first = execute(hub, on)
    check("it ran", (first.outcome, content(first.value)) == (command_pb2.OUTCOME_DONE, f"ON for {mine}"))
    check("the state followed", watch.until(lambda w: w.state(mine, NODE, "state") == "ON"))
    again = hub.call(hub.commands.Execute, on, again=True).result
    check("the key gives the stored answer", again.replayed and again.name == first.name)
    stuck = refusal(lambda: hub.call(hub.commands.Execute, command(mine, NODE, "state", "OFF")))
    check("a failure of the device is told", (stuck.reason, "stuck" in stuck.message) == ("EXECUTOR_FAILED", True))
    wrong = refusal(lambda: hub.call(hub.commands.Execute, command(mine, NODE, "state", "BLUE")))
    check("a wrong value never reaches the device", wrong.reason == "VALUE_OUT_OF_RANGE")
    step("executed")

    if not arguments.alone:
        step("waiting for a peer's command")
        check("a peer's command ran", wait(lambda: any(caller != mine for caller in callers)))
        step("executed for a peer")
        restart(hub, mine, updates, watch, executor, on)

    executor.close()
    check("the node was there", updates.deregister(NODE))
    check("it is gone for watchers", watch.until(lambda w: (mine, NODE) not in w.nodes))
    updates.close()
    watch.close()
    step("deregistered")


def restart(hub, mine, updates, watch, executor, on):
    """Waits until the hub is restarted, and checks that everything goes on as if nothing had been."""
    first = hub.call(hub.commands.Execute, on, again=True).result
    updates.set(NODE, "power", 3.5)
    check("the update is durable", updates.drain())
    resets, bookmarks, turns, cuts = watch.resets, watch.bookmarks, executor.turns, watch.cuts
    step("waiting for a restart")
    check("the streams are cut", wait(lambda: watch.cuts > cuts))
    updates.set(NODE, "power", 4.5)
    check("what was set meanwhile is durable", updates.drain(PATIENCE_S))
    check("the watch goes on", watch.until(lambda w: w.state(mine, NODE, "power") == 4.5, PATIENCE_S))
    check("a new bookmark came", watch.until(lambda w: w.bookmarks > bookmarks))
    check("it went on from the old one", watch.resets == resets)
    check("the executor came back", executor.attached(turns + 1, PATIENCE_S))
    back = execute(hub, command(mine, NODE, "state", "ON", key=f"back-{time.time_ns()}"))
    check("commands run again", back.outcome == command_pb2.OUTCOME_DONE)
    check("the old key still gives the old answer", hub.call(hub.commands.Execute, on, again=True).result.name == first.name)
    step("came back after a restart")


def keeper(hub, arguments):
    """Keeps more nodes than one call takes, one of them wrong, and checks that they stay as the hub last acknowledged them."""

    def node(name, kind="v1"):
        made = node_pb2.Node(node_id=f"kept-{name}", type=kind)
        made.capabilities.add(name="power", type=value_pb2.VALUE_TYPE_DOUBLE, readable=True)
        return made

    def kind_of(name):
        request = registry_pb.GetNodeRequest(name=value_pb2.NodeName(node_id=f"kept-{name}"))
        return hub.call(hub.registry.GetNode, request, again=True).record.node.type

    nodes = [node(at) for at in range(1001)]
    updates = Updates(hub, [*nodes[:500], node_pb2.Node(node_id="no spaces"), *nodes[500:]])
    for at in (0, 1000):
        updates.set(f"kept-{at}", "power", 1.5)
    check("updates of the first and the last are durable", updates.drain(PATIENCE_S))
    refused = [(at, failure.reason) for at, failure in updates.refused]
    check("only the wrong one is refused", refused == [(("no spaces", ""), "INVALID_FIELD")])
    step("registered many")
    updates.register(node(1, "v2"), node("new"))
    check("the node was there", updates.deregister("kept-2"))
    for power in (2.5, 3.5):
        cuts = updates.cuts
        updates._call.cancel()
        check("the stream is cut", wait(lambda: updates.cuts > cuts))
        updates.set("kept-0", "power", power)
        check("the update is durable", updates.drain(PATIENCE_S))
    check("what was replaced, added and left alone stays so", [kind_of(name) for name in (0, 1, "new")] == ["v1", "v2", "v1"])
    check("what was deregistered stays away", refusal(lambda: kind_of(2)).reason == "NODE_NOT_FOUND")
    updates.close()
    step("kept as they were said")


def wait(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def peer(hub, arguments):
    """Says Hello as another hub, renews the token, and opens a session with the discovery service."""
    with open(arguments.cert, encoding="ascii") as file:
        leaf = ssl.PEM_cert_to_DER_cert(file.read())
    package = "foedus.discovery.v1alpha1"
    incarnation = time.time_ns() // 1_000_000
    hello = discovery_pb.HelloRequest(
        hub_id=arguments.hub_id, incarnation=incarnation, packages=[package], leaves=[leaf], wall_ms=time.time_ns() // 1_000_000
    )
    answer = hub.call(hub.discovery.Hello, hello, again=True, timeout=PATIENCE_S)
    check("both speak the package", package in answer.packages)
    check("a level is granted", answer.level >= access_pb2.TRUST_LEVEL_MINIMAL)
    check("the other hub says where it is", {endpoint.service for endpoint in answer.endpoints} >= {"discovery", "registry-sync"})
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(leaf).digest()).decode().rstrip("=")
    token = next(token for token in answer.tokens if token.thumbprint == thumbprint)
    check("the token has a life", token.expires_in_ms > 0)
    step(f"{answer.hub_id} answered Hello")

    refresh = discovery_pb.RefreshRequest(leaves=[leaf])
    none = refusal(lambda: hub.call(hub.discovery.Refresh, refresh))
    check("without a token nothing else goes", none.reason == "TOKEN_INVALID")
    bearer = (("authorization", f"Bearer {token.jwt}"),)
    renewed = hub.call(hub.discovery.Refresh, refresh, again=True, metadata=bearer).tokens[0]
    check("a new token", renewed.jwt != token.jwt)
    step("the token was renewed")

    frames = queue.SimpleQueue()

    def say(**control):
        frame = discovery_session_pb.SessionFrame(control=session_pb2.SessionControl(**control))
        frames.put(discovery_session_pb.SessionRequest(frame=frame))

    say(open=session_pb2.SessionOpen(hub_id=arguments.hub_id, incarnation=incarnation, n=1, packages=[package], credit=1 << 20))
    metadata = (("authorization", f"Bearer {renewed.jwt}"),)
    seen = []
    for message in hub.discovery.Session(iter(frames.get, None), metadata=metadata, timeout=PATIENCE_S):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("play", choices=("gateway", "keeper", "peer"))
    parser.add_argument("--hub-id", required=True, help="gateway and keeper: the hub; peer: the hub that is played")
    parser.add_argument("--address", required=True, help="host:port; the host is one that the hub's certificate names")
    for service in ("registry-sync", "command-forwarding"):
        parser.add_argument(f"--{service}", help=f"host:port of {service} in split mode")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="how long to wait for the hub, in seconds")
    parser.add_argument("--alone", action="store_true", help="leave out what needs a peer's command and a restart of the hub")
    for file in ("ca", "cert", "key"):
        parser.add_argument(f"--{file}", required=True)
    arguments = parser.parse_args()
    services = {name: at for name in ("registry_sync", "command_forwarding") if (at := getattr(arguments, name)) is not None}
    try:
        hub = Hub(arguments.address, arguments.ca, arguments.cert, arguments.key, **services)
    except OSError as error:
        raise SystemExit(f"{error.filename} cannot be read ({error.strerror}); correct the path, or make it with `foedus pki issue`") from None
    try:
        {"gateway": gateway, "keeper": keeper, "peer": peer}[arguments.play](hub, arguments)
    except FoedusError as error:
        if not error.reason and error.code == grpc.StatusCode.UNAVAILABLE:
            raise SystemExit(f"no hub can be reached at {arguments.address}; start it, or correct --address ({error.message})") from None
        raise SystemExit(f"failed: {error}") from error
    finally:
        hub.close()
    step("done")


if __name__ == "__main__":
    main()
