// Trust in a peer falls and rises while commands and nodes go back and forth: the order of `flow.ts`, in hubs as they ship, over real mutual TLS.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { ErrorReason } from "#gen/foedus/common/v1/error_pb.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { execute, get, isOperational, peer, register, stateOf, text, update } from "../../test/support/acts.ts";
import { type Clients, Federation, until } from "../../test/support/federation.ts";
import { CommandCore } from "../command-forwarding/core.ts";
import { RegistryCore } from "../registry-sync/core.ts";
import { Flow } from "./flow.ts";
import { loadHubConfig, type RunningHub, type StartHubOptions, startHub } from "./index.ts";
import { ViewAuthority } from "./peers/authority.ts";

const OWNER = "factory";
const PEER = "home";

const device = (nodeId: string): Node => {
  const capabilities = [{ name: "state", type: ValueType.STRING, readable: true, invocable: true }];
  return create(NodeSchema, { nodeId, type: "light", name: nodeId, capabilities });
};

const levelName = (level: number): string => ["NONE", "MINIMAL", "LIMITED", "FULL"][level] ?? String(level);

/** watchOwner writes down, in order, what the owner's doors, services and cores do about the peer. All of them go on as they would. */
function watchOwner(steps: string[]): void {
  const { update: updateDoors } = ViewAuthority.prototype;
  vi.spyOn(ViewAuthority.prototype, "update").mockImplementation(function (this: ViewAuthority, views, log) {
    const before = this.level(PEER);
    updateDoors.call(this, views, log);
    const level = this.level(PEER);
    if (this.hubId === OWNER && level !== before) steps.push(`doors: ${levelName(level)}`);
  });
  const { peers } = Flow.prototype;
  vi.spyOn(Flow.prototype, "peers").mockImplementation(function (this: Flow, service) {
    const source = peers.call(this, service);
    if (this.authority.hubId !== OWNER) return source;
    let known = 0;
    const { subscribe } = source;
    const spied: typeof subscribe = (name, listener) =>
      subscribe(name, (views) => {
        const level = views.find(({ hubId }) => hubId === PEER)?.level ?? 0;
        if (level !== known) steps.push(`${service} hears: ${levelName(level)}`);
        known = level;
        listener(views);
      });
    return Object.defineProperty(source, "subscribe", { value: spied });
  });
  const { step: stepCommands } = CommandCore.prototype;
  vi.spyOn(CommandCore.prototype, "step").mockImplementation(function (this: CommandCore, now, input, out) {
    if (input.kind === "invocations" && input.peer === PEER) steps.push("commands let in");
    const level = input.kind === "peers" ? input.peers.find(({ hubId }) => hubId === PEER)?.level : undefined;
    if (level !== undefined) steps.push(`commands know: ${levelName(level)}`);
    stepCommands.call(this, now, input, out);
  });
  const { step: stepRegistry } = RegistryCore.prototype;
  vi.spyOn(RegistryCore.prototype, "step").mockImplementation(function (this: RegistryCore, now, input, out) {
    const from = out.length;
    const owners = this.sources()[0]?.hubId === OWNER;
    if (owners && input.kind === "frame") steps.push("frame let in");
    const level = input.kind === "peers" ? input.peers.find(({ hubId }) => hubId === PEER)?.level : undefined;
    if (level !== undefined) steps.push(`registry knows: ${levelName(level)}`);
    stepRegistry.call(this, now, input, out);
    if (!owners) return;
    for (const effect of out.slice(from))
      if (effect.kind === "send") steps.push(effect.frame.type === "forget" ? "feed taken away" : "frame sent");
  });
}

/** DATA are the steps in which something of the peer is taken or done, or something is given to it. */
const DATA = /^(?:commands let in|command run|frame let in|frame sent)$/;

describe("trust in a peer changes while commands and nodes go back and forth", () => {
  const steps: string[] = [];
  const running: RunningHub[] = [];
  let federation: Federation;
  let owner: RunningHub;
  let clients: { readonly owner: Clients; readonly ownerGateway: Clients; readonly peer: Clients; readonly peerGateway: Clients };
  let rounds = 0;
  let over = false;
  let load: Promise<unknown> = Promise.resolve();

  const start = async (id: string, extras: Pick<StartHubOptions, "localCommands"> = {}): Promise<RunningHub> => {
    const file = join(federation.hub(id).dir, "hub.json");
    const hub = await startHub({ ...loadHubConfig({ file }), runs: "hub", ...extras });
    running.push(hub);
    return hub;
  };

  /** round does one of everything: a command from the peer to the owner, and a change of a node of each. Some fail while there is no trust. */
  const round = async (): Promise<void> => {
    const value = text(`round ${++rounds}`);
    await Promise.all([
      execute(clients.peer, OWNER, "press-1", "state", value, 1_000).catch(() => undefined),
      update(clients.peerGateway, "lamp-1", { state: value }),
      update(clients.ownerGateway, "press-1", { state: value }),
    ]);
  };

  /** setTrust has the owner's operator write another ceiling into the federation file. */
  const setTrust = async (level: string): Promise<void> => {
    const file = join(federation.hub(OWNER).dir, "federation.json");
    const { peers } = JSON.parse(readFileSync(file, "utf8")) as { readonly peers: readonly object[] };
    writeFileSync(file, JSON.stringify({ peers: peers.map((one) => ({ ...one, max_trust: level })) }));
    await owner.reload();
  };

  beforeEach(async () => {
    // Only the peer dials, so that it is the owner's doors which decide.
    federation = await Federation.prepare({
      logLevel: "error",
      hubs: [
        { id: PEER, peers: [{ hub: OWNER }], reachable: false, config: { discovery: { backoff_max_ms: 1_000 } } },
        { id: OWNER, peers: [{ hub: PEER, maxTrust: "limited" }] },
      ],
    });
    watchOwner(steps);
    await start(PEER);
    owner = await start(OWNER, {
      localCommands: ({ value }) => {
        steps.push("command run");
        return value;
      },
    });
    const [ofOwner, ofPeer] = [federation.hub(OWNER), federation.hub(PEER)];
    clients = {
      owner: ofOwner.clients(),
      ownerGateway: ofOwner.clients("gateway-zigbee"),
      peer: ofPeer.clients(),
      peerGateway: ofPeer.clients("gateway-zigbee"),
    };
    await register(clients.ownerGateway, device("press-1"));
    await register(clients.peerGateway, device("lamp-1"));
    await until("a command", () => execute(clients.peer, OWNER, "press-1", "state", text("first"), 1_000));
    await until("the peer's node at the owner", () => get(clients.owner, PEER, "lamp-1"));
    const work = async (): Promise<void> => {
      while (!over) await round();
    };
    load = work();
    await until("some rounds", () => rounds > 10);
  }, 60_000);

  afterEach(async () => {
    over = true;
    await load;
    await Promise.all(running.splice(0).map((hub) => hub.stop()));
    await federation?.stop();
    vi.restoreAllMocks();
  }, 30_000);

  /** What is told of the peer, as far as data rests on it. */
  const told = (): string[] => steps.filter((step) => /^(?:(?:registry-sync|command-forwarding) hears|doors): /.test(step));
  const stepsAfter = (step: string): string[] => {
    expect(steps).toContain(step);
    return steps.slice(steps.indexOf(step) + 1);
  };
  const stepsBefore = (step: string): string[] => {
    expect(steps).toContain(step);
    return steps.slice(0, steps.indexOf(step));
  };

  test("once a fall is told nothing of the peer is let in, and its feed goes last; on a rise all is in place before anything flows", async () => {
    expect(new Set(steps.filter((step) => DATA.test(step))).size, "all of it flows").toBe(4);

    steps.length = 0;
    await setTrust("minimal");
    const level = async (): Promise<TrustLevel> => (await peer(clients.owner, PEER)).level;
    await until("the answer that trust is minimal", async () => (await level()) === TrustLevel.MINIMAL);
    steps.push("answered");
    const refused = async (): Promise<boolean> =>
      (await peer(clients.peer, OWNER)).sessions.some(({ failure }) => failure?.reason === ErrorReason.TRUST_TOO_LOW);
    await until("the refusal of the peer's sessions", refused);
    const fallenAt = rounds;
    await until("more rounds", () => rounds > fallenAt + 10);
    expect(told()).toEqual(["doors: MINIMAL", "command-forwarding hears: MINIMAL", "registry-sync hears: MINIMAL"]);
    expect(stepsAfter("commands know: MINIMAL")).not.toContain("commands let in");
    expect(stepsBefore("feed taken away")).toEqual(expect.arrayContaining(["doors: MINIMAL", "command-forwarding hears: MINIMAL"]));
    expect(stepsAfter("registry knows: MINIMAL").filter((step) => step.startsWith("frame "))).toEqual([]);
    expect(stepsAfter("answered").filter((step) => / let in$|^frame sent$/.test(step))).toEqual([]);
    await expect(execute(clients.peer, OWNER, "press-1", "state", text("late"), 1_000)).rejects.toMatchObject({
      failure: { reason: "PEER_UNREACHABLE" },
    });

    steps.length = 0;
    await setTrust("limited");
    await until("the link", () => isOperational(clients.owner, PEER));
    await until("a command", () => steps.includes("command run"));
    const raisedAt = rounds;
    await until("the peer's node as it is now", async () => {
      const state = stateOf(await get(clients.owner, PEER, "lamp-1"), "state");
      return Number(String(state).split(" ")[1]) > raisedAt;
    });
    expect(told()).toEqual(["registry-sync hears: LIMITED", "command-forwarding hears: LIMITED", "doors: LIMITED"]);
    expect(stepsBefore("doors: LIMITED").filter((step) => DATA.test(step))).toEqual([]);
    expect(new Set(stepsAfter("doors: LIMITED").filter((step) => DATA.test(step))).size, "all of it flows again").toBe(4);
  }, 60_000);
});
