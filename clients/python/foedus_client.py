"""A client of a Foedus hub for nodes, gateways and operators, written from docs/PROTOCOL.md and docs/CLIENTS.md.

It shows what a client has to do, in as few lines as that takes: mutual TLS, deadlines, errors with reasons, retries that cannot run a
command twice, and streams that go on where they were after the hub was away. Each stream has a thread of its own.
"""

import collections
import os
import queue
import random
import threading
import time

import grpc
from foedus.command_forwarding.v1alpha1 import command_forwarding_service_pb2 as commands_pb
from foedus.command_forwarding.v1alpha1 import command_forwarding_service_pb2_grpc as commands_grpc
from foedus.common.v1 import error_pb2
from foedus.common.v1 import stream_pb2
from foedus.common.v1 import value_pb2
from foedus.discovery.v1alpha1 import discovery_service_pb2_grpc as discovery_grpc
from foedus.registry_sync.v1alpha1 import registry_sync_service_pb2 as registry_pb
from foedus.registry_sync.v1alpha1 import registry_sync_service_pb2_grpc as registry_grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_status import rpc_status

# PROTOCOL.md, Connections.
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.max_receive_message_length", 1024 * 1024 + 64 * 1024),
    ("grpc.enable_retries", 0),
)
BACKOFF_S = (0.2, 10.0)

# How often a call that a later one overtook on its way is made again.
OVERTAKEN_MAX = 8
# Most nodes of one RegisterNodes call, and their bytes: a message has at most 768 KiB.
PAGE = (1000, 768 * 1024 - 1024)

# Reasons of what a message has in it: the same nodes in another call may be taken.
OF_CONTENT = ("INVALID_FIELD", "VALUE_OUT_OF_RANGE", "MESSAGE_TOO_LARGE")

# Reasons after which a stream is not opened again by itself. A certificate that was refused may be renewed.
FINAL = ("SESSION_REPLACED", "ACCESS_DENIED", "OUT_OF_SCOPE")


class FoedusError(Exception):
    """A refusal of the hub: gRPC code, reason of docs/ERRORS.md, fields at fault, and seconds to wait if a retry may help."""

    def __init__(self, code, reason, message, fields=(), retry_after=None):
        super().__init__(f"{reason or code.name}: {message}")
        self.code, self.reason, self.message = code, reason, message
        self.fields, self.retry_after = tuple(fields), retry_after


def error_of(error):
    """Reads the google.rpc details of a failed call."""
    reason, fields, retry_after = "", [], None
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == "foedus":
            reason = info.reason
        elif detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    if not reason and error.code() == grpc.StatusCode.UNAVAILABLE:
        # No hub answered: nothing was said about the request, so the same call may be made again if it is idempotent.
        retry_after = 0.0
    return FoedusError(error.code(), reason, error.details() or "", fields, retry_after)


def failure_of(failure):
    """Reads a Failure that stands in a message instead of a status."""
    return FoedusError(None, error_pb2.ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_"), failure.message)


def is_passing(failure):
    """Says whether the same may be taken later."""
    known = error_pb2.ErrorReason.DESCRIPTOR.values_by_name[f"ERROR_REASON_{failure.reason}"]
    return known.GetOptions().Extensions[error_pb2.rule].retryable


def pages(nodes):
    """Cuts nodes into calls that are small enough; a node that is too long goes alone, and is refused alone."""
    page, size = [], 0
    for node in nodes:
        length = node.ByteSize() + 8
        if page and (len(page) == PAGE[0] or size + length > PAGE[1]):
            yield page
            page, size = [], 0
        page.append(node)
        size += length
    if page:
        yield page


def value(content):
    """Makes a Value of a Python value."""
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}
    return value_pb2.Value(**{kinds[type(content)]: content})


def content(message):
    """Gives the Python value of a Value; None for none."""
    kind = message.WhichOneof("kind")
    return None if kind is None else getattr(message, kind)


class Backoff:
    """Waits longer each time, at random, until something worked (docs/PROTOCOL.md, Coming back)."""

    def __init__(self):
        self.reset()

    def reset(self):
        self._next = BACKOFF_S[0]

    def delay(self):
        delay = self._next * random.uniform(0.5, 1.0)
        self._next = min(BACKOFF_S[1], self._next * 2)
        return delay


class Hub:
    """A hub as one identity sees it. `addresses` may name a port per service; else all are at `address`."""

    def __init__(self, address, ca, cert, key, **addresses):
        with open(ca, "rb") as roots, open(key, "rb") as private, open(cert, "rb") as chain:
            # The hub's own CA and nothing else: only certificates that it gave to its services pass as a server.
            self._credentials = grpc.ssl_channel_credentials(roots.read(), private.read(), chain.read())
        self._channels = {}
        at = lambda service: self._channel(addresses.get(service, address))
        self.discovery = discovery_grpc.DiscoveryServiceStub(at("discovery"))
        self.registry = registry_grpc.RegistrySyncServiceStub(at("registry_sync"))
        self.commands = commands_grpc.CommandForwardingServiceStub(at("command_forwarding"))
        self.health = health_pb2_grpc.HealthStub(at("registry_sync"))

    def _channel(self, address):
        if address not in self._channels:
            self._channels[address] = grpc.secure_channel(address, self._credentials, CHANNEL_OPTIONS)
        return self._channels[address]

    def close(self):
        for channel in self._channels.values():
            channel.close()

    def call(self, method, request, timeout=10.0, again=False, metadata=()):
        """Makes a unary call. `again`: it may be repeated within the timeout, as RPCs that are idempotent and commands with a key may."""
        end, backoff = time.monotonic() + timeout, Backoff()
        while True:
            left = end - time.monotonic()
            try:
                return method(request, timeout=max(0.001, left), metadata=metadata)
            except grpc.RpcError as cause:
                error = error_of(cause)
                wait = None if error.retry_after is None else max(error.retry_after, backoff.delay())
                if not again or wait is None or end - time.monotonic() < wait:
                    raise error from cause
                time.sleep(wait)


class Stream(threading.Thread):
    """A long stream that is opened again whenever it ends, until it is closed or refused for good.

    `turns` and `cuts` count how often it worked and ended; `last_error` is why it ended last.
    """

    def __init__(self, name):
        super().__init__(name=name, daemon=True)
        self._group, self._opened = os.urandom(16), 0
        self.turns, self.cuts = 0, 0
        self.last_error = None
        self._stopped = threading.Event()
        self._call = None
        self._backoff = Backoff()

    def number(self):
        """Numbers the stream that is opened next, for its first message: what the network still holds of the one before then counts for nothing."""
        self._opened += 1
        return stream_pb2.StreamOpen(group=self._group, incarnation=1, n=self._opened)

    def open(self):
        """Opens the stream and returns its call; overridden."""
        raise NotImplementedError

    def take(self, message):
        """Takes a message of the hub; overridden."""
        raise NotImplementedError

    def cut(self):
        """Told when the stream ended; overridden where that matters."""

    def run(self):
        while not self._stopped.is_set():
            self.last_error = None
            try:
                self._call = self.open()
                for message in self._call:
                    self.take(message)
            except grpc.RpcError as cause:
                self.last_error = error_of(cause)
            except FoedusError as error:
                self.last_error = error
            self.cuts += 1
            self.cut()
            if self.last_error is not None and self.last_error.reason in FINAL:
                return
            self._stopped.wait(self._backoff.delay())

    def worked(self):
        """The hub answered as it should: the next cut waits briefly again."""
        self.turns += 1
        self._backoff.reset()

    def close(self):
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()
        self.join(timeout=10)


class Updates(Stream):
    """Sends states by name. After a cut, what was not acknowledged goes again: of each key the newest value only.

    `nodes` are registered before each stream, as `register` and `deregister` left them: a hub that lost its store has forgotten them, and
    one that knows them changes nothing. What the hub refuses for good is in `refused`; a node that it refuses stands there with an empty key.
    """

    def __init__(self, hub, nodes=()):
        super().__init__("updates")
        self._hub, self._lock = hub, threading.Condition()
        self._nodes = {}
        self._keep(nodes)
        # Held while the hub is told of nodes: what is registered before a stream must not overtake what the program says meanwhile.
        self._telling = threading.Lock()
        self._order_group, self._calls = os.urandom(16), 0
        self._waiting = collections.OrderedDict()
        self._sent = collections.OrderedDict()
        self._turn, self._seq = 0, 0
        self.refused = []
        self.start()

    def _keep(self, nodes):
        for node in nodes:
            # A copy: the program may go on with its own.
            self._nodes[node.node_id] = type(node).FromString(node.SerializeToString())

    def register(self, *nodes):
        """Adds or replaces nodes, and keeps them registered. Raises the first refusal; the others are registered all the same."""
        failures = []
        with self._telling:
            for page in pages(nodes):
                for node, failure in self._register(page):
                    if failure is None:
                        self._keep([node])
                    else:
                        failures.append(failure)
        if failures:
            raise failures[0]

    def deregister(self, node_id):
        """Removes a node; False if there was none."""
        with self._telling:
            request = registry_pb.DeregisterNodeRequest(node_id=node_id)
            existed = self._ordered(self._hub.registry.DeregisterNode, request, again=True).existed
            self._nodes.pop(node_id, None)
            return existed

    def _ordered(self, method, request, again=False):
        """Numbers a call: what the network holds back of it counts for nothing once a newer one was taken. One that was repeated, or overtaken, goes again."""
        for left in reversed(range(OVERTAKEN_MAX)):
            self._calls += 1
            request.order.CopyFrom(stream_pb2.StreamOpen(group=self._order_group, incarnation=1, n=self._calls))
            try:
                return self._hub.call(method, request, again=again)
            except FoedusError as error:
                if error.reason != "SESSION_REPLACED" or left == 0:
                    raise

    def _register(self, page):
        """Registers nodes, and lists each with its refusal or None. One that breaks the schema keeps its whole call out: then halves go."""
        try:
            answer = self._ordered(self._hub.registry.RegisterNodes, registry_pb.RegisterNodesRequest(nodes=page))
        except FoedusError as error:
            if error.reason not in OF_CONTENT:
                raise
            if len(page) == 1:
                return [(page[0], error)]
            half = len(page) // 2
            return self._register(page[:half]) + self._register(page[half:])
        said = [failure_of(result.failure) if result.HasField("failure") else None for result in answer.results]
        return list(zip(page, said))

    def _register_kept(self):
        with self._telling:
            for page in pages(self._nodes.values()):
                for node, failure in self._register(page):
                    if failure is None:
                        continue
                    if failure.code is None and is_passing(failure):
                        raise failure
                    at = (node.node_id, "")
                    if all(known != at for known, _ in self.refused):
                        self.refused.append((at, failure))

    def set(self, node_id, key, new):
        with self._lock:
            self._waiting.pop((node_id, key), None)
            self._waiting[(node_id, key)] = new
            self._lock.notify_all()

    def drain(self, timeout=30.0):
        """Waits until all that was set is durable at the hub, or refused; False if it takes longer."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._waiting and not self._sent, timeout)

    def open(self):
        self._register_kept()
        with self._lock:
            self._turn += 1
            self._seq = 0
        return self._hub.registry.UpdateState(self._batches(self._turn, self.number()))

    def _batches(self, turn, number):
        # A bind of nothing: hubs that do not know the number answer it all the same.
        yield registry_pb.UpdateStateRequest(stream=number, bind=registry_pb.Bind())
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or turn != self._turn or self._stopped.is_set())
                if turn != self._turn or self._stopped.is_set():
                    return
                self._seq += 1
                batch = registry_pb.NamedUpdates(seq=self._seq)
                self._sent[self._seq], self._waiting = self._waiting, collections.OrderedDict()
                for (node_id, key), new in self._sent[self._seq].items():
                    batch.updates.add(node_id=node_id, key=key, value=value(new))
            yield registry_pb.UpdateStateRequest(named=batch)

    def take(self, message):
        with self._lock:
            if message.HasField("ack"):
                for seq in [seq for seq in self._sent if seq <= message.ack.seq]:
                    del self._sent[seq]
                self.worked()
            elif message.HasField("refused"):
                # A batch is refused whole: the change at fault is left out, the others go again unless a later batch has newer values.
                changes = list(self._sent.pop(message.refused.seq).items())
                self.refused.append((changes.pop(message.refused.index)[0], failure_of(message.refused.failure)))
                newer = {key for seq, batch in self._sent.items() if seq > message.refused.seq for key in batch}
                self._again([(key, new) for key, new in changes if key not in newer])
            self._lock.notify_all()

    def cut(self):
        with self._lock:
            self._turn += 1
            unanswered = [change for batch in self._sent.values() for change in batch.items()]
            self._sent.clear()
            self._again(unanswered)

    def _again(self, changes):
        newer, self._waiting = self._waiting, collections.OrderedDict()
        for key, new in [*changes, *newer.items()]:
            self._waiting.pop(key, None)
            self._waiting[key] = new
        self._lock.notify_all()

    def close(self):
        with self._lock:
            self._stopped.set()
            self._lock.notify_all()
        super().close()


class Watch(Stream):
    """Keeps a copy of the nodes that a filter selects. After a cut it goes on from the last bookmark."""

    def __init__(self, hub, node_filter=None):
        super().__init__("watch")
        self._hub, self._filter = hub, node_filter
        self._positions = {}
        self.changed = threading.Condition()
        self.nodes = {}
        self.bookmarks, self.resets = 0, 0
        self.start()

    def open(self):
        request = registry_pb.WatchRequest(filter=self._filter, resume=self._positions.values(), stream=self.number())
        return self._hub.registry.Watch(request)

    def take(self, message):
        with self.changed:
            getattr(self, f"_{message.WhichOneof('push')}")(message)
            self.changed.notify_all()

    def _events(self, message):
        for event in message.events.events:
            name, change = (event.name.hub_id, event.name.node_id), event.WhichOneof("change")
            if change == "removed":
                self.nodes.pop(name, None)
            elif change == "put":
                before = self.nodes.get(name, {}).get("state", {})
                # A node that is put again keeps the values of the capabilities that stay.
                names = {capability.name for capability in event.put.capabilities}
                kept = {key: known for key, known in before.items() if key in names}
                self.nodes[name] = {"node": event.put, "state": kept, "online": self.nodes.get(name, {}).get("online", False)}
            elif name in self.nodes and change == "state":
                self.nodes[name]["state"][event.state.key] = content(event.state.value)
            elif name in self.nodes and change == "online":
                self.nodes[name]["online"] = event.online

    def _bookmark(self, message):
        self._positions = {position.hub_id: position for position in message.bookmark.positions}
        self.bookmarks += 1
        self.worked()

    def _reset(self, message):
        self.resets += 1
        self._forget(message.reset.position.hub_id)

    def _gone(self, message):
        self._forget(message.gone.position.hub_id)

    def _forget(self, hub_id):
        self._positions.pop(hub_id, None)
        self.nodes = {name: node for name, node in self.nodes.items() if name[0] != hub_id}

    def until(self, condition, timeout=30.0):
        """Waits until a condition on the copy holds; False if it takes longer."""
        with self.changed:
            return self.changed.wait_for(lambda: condition(self), timeout)

    def state(self, hub_id, node_id, key):
        node = self.nodes.get((hub_id, node_id))
        return None if node is None else node["state"].get(key)


class Executor(Stream):
    """Runs commands of nodes: `run(task)` returns the value to answer with, or raises to say that it failed."""

    def __init__(self, hub, node_ids, run):
        super().__init__("executor")
        self._hub, self._node_ids, self._run = hub, node_ids, run
        self._results = queue.SimpleQueue()
        self._attached = threading.Condition()
        self.refused = []
        self.start()

    def open(self):
        self._results = results = queue.SimpleQueue()
        attach = commands_pb.Attach(node_ids=self._node_ids, stream=self.number())
        return self._hub.commands.AttachExecutor(self._frames(attach, results))

    def _frames(self, attach, results):
        yield commands_pb.AttachExecutorRequest(attach=attach)
        # The iterator must not end before the stream: half a stream closed would detach the executor.
        for result in iter(results.get, None):
            yield commands_pb.AttachExecutorRequest(results=commands_pb.TaskResults(results=[result]))

    def take(self, message):
        frame = message.WhichOneof("frame")
        if frame == "attached":
            with self._attached:
                self.refused = [failure_of(failure) for failure in message.attached.refused]
                self.worked()
                self._attached.notify_all()
        elif frame == "tasks":
            for task in message.tasks.tasks:
                self._results.put(self._result(task))
        elif frame == "detached":
            self.last_error = failure_of(message.detached.failure)

    def _result(self, task):
        result = commands_pb.TaskResult(task_id=task.task_id)
        try:
            answer = self._run(task)
            if answer is not None:
                result.value.CopyFrom(value(answer))
        except Exception as error:  # what the device's code throws is the command's failure, not this stream's
            result.failure.reason = error_pb2.ERROR_REASON_EXECUTOR_FAILED
            result.failure.message = str(error)
        return result

    def cut(self):
        self._results.put(None)

    def attached(self, turns=1, timeout=30.0):
        """Waits until the hub took the offer for the nth time; False if it takes longer."""
        with self._attached:
            return self._attached.wait_for(lambda: self.turns >= turns, timeout)
