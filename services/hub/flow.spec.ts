import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { whenAborted } from "#channel/abort.ts";
import { type WatchPeersRequest, WatchPeersResponseSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { PeerViewSchema, type PeerView as ProtoView } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import type { PeerView } from "#runtime/peers.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";
import { Flow } from "./flow.ts";
import { losesAccess } from "./peers/loses-access.ts";
import { startOrder } from "./services.ts";

type Push = NonNullable<MessageInitShape<typeof WatchPeersResponseSchema>["push"]>;

let b: TestHub;
let c: TestHub;
beforeAll(async () => {
  [b, c] = [await testHub("b"), await testHub("c")];
});

const viewOf = (hub: TestHub, more: MessageInitShape<typeof PeerViewSchema> = {}): ProtoView =>
  create(PeerViewSchema, { hubId: hub.hubId, level: 2, share: "limited", caPems: [hub.caPem], ...more });

/** Stage is a flow whose discovery is played by the test, and whose server and services write down what reaches them. */
class Stage {
  readonly clock = new ManualClock();
  readonly log = memoryLogger();
  readonly steps: string[] = [];
  readonly requests: WatchPeersRequest[] = [];
  readonly flow: Flow;
  #wake = Promise.withResolvers<void>();
  #waiting: Push[] = [];

  constructor(services: readonly string[], watched: readonly string[] = services) {
    const stage = this;
    const watchPeers = async function* (request: WatchPeersRequest, { signal }: { readonly signal: AbortSignal }) {
      stage.requests.push(request);
      const over = new Promise<void>((resolve) => whenAborted(signal, resolve));
      for (;;) {
        await Promise.race([stage.#wake.promise, over]);
        if (signal.aborted) return;
        stage.#wake = Promise.withResolvers<void>();
        for (const push of stage.#waiting.splice(0)) yield create(WatchPeersResponseSchema, { push });
      }
    };
    this.flow = new Flow({
      hubId: "a",
      services,
      leaf: () => new Uint8Array([1]),
      own: () => [],
      discovery: () => ({ watchPeers }) as never,
      server: () => ({
        cut: (which) => {
          // Of these two hubs: one that is no peer here would be cut if it were connected.
          const cut = [b, c].filter(({ hubId }) => typeof which !== "string" && which({ hubId, thumbprint: `leaf-of-${hubId}` } as never));
          this.steps.push(`cut ${cut.map(({ hubId }) => hubId).join(" ") || "nobody"}`);
          return cut.length;
        },
        recheck: () => this.steps.push(`recheck ${this.#doors()}`),
      }),
      onKeySet: () => undefined,
      onCas: () => void this.steps.push("CAs"),
      onOwnRevoked: () => void this.steps.push("dial anew"),
      clock: this.clock,
      log: this.log,
    });
    for (const service of watched)
      this.flow.peers(service).subscribe(service, (views) => void this.steps.push(`${service} ${show(views)} (${this.#doors()})`));
    this.flow.start();
    this.steps.length = 0;
  }

  /** doors are the levels of the peers whose certificates are taken now. */
  #doors(): string {
    const { authority } = this.flow;
    const known = [b, c].filter(({ hubId }) => authority.bundle(hubId) !== undefined);
    return `doors: ${known.map(({ hubId }) => `${hubId}${authority.level(hubId)}`).join(" ") || "nobody"}`;
  }

  /** push has discovery say something, and gives what happened then. */
  async push(...pushes: readonly Push[]): Promise<string[]> {
    this.#waiting.push(...pushes);
    this.#wake.resolve();
    for (let turn = 0; turn < 32; turn++) await Promise.resolve();
    return this.steps.splice(0);
  }
}

const show = (views: readonly PeerView[]): string =>
  views.map(({ hubId, level, terminated }) => `${hubId}${terminated ? "†" : level}`).join(" ") || "nobody";

const SYNCED: Push = { case: "synced", value: true };
const view = (hub: TestHub, more: MessageInitShape<typeof PeerViewSchema> = {}): Push => ({ case: "view", value: viewOf(hub, more) });

describe("the order in which a change of the peers is told", () => {
  const services = ["registry-sync", "command-forwarding"];
  let stage: Stage;
  beforeEach(async () => {
    stage = new Stage(services);
    await stage.push(view(b), SYNCED);
  });

  test("FL2 on a fall the doors close first, then commands hear of it, then the registry", async () => {
    expect(await stage.push(view(b, { level: 1 }))).toEqual([
      "cut c",
      "recheck doors: b1",
      "command-forwarding b1 (doors: b1)",
      "registry-sync b1 (doors: b1)",
    ]);
  });

  test("FL3 on a rise the registry hears of it first, then commands, and the doors open last", async () => {
    expect(await stage.push(view(b, { level: 3 }))).toEqual([
      "registry-sync b3 (doors: b2)",
      "command-forwarding b3 (doors: b2)",
      "cut c",
      "recheck doors: b3",
    ]);
  });

  test("FL3 FL4 a new peer: its CA is offered to TLS when all services know it", async () => {
    expect(await stage.push(view(c))).toEqual([
      "registry-sync b2 c2 (doors: b2)",
      "command-forwarding b2 c2 (doors: b2)",
      "CAs",
      "cut nobody",
      "recheck doors: b2 c2",
    ]);
  });

  test("FL2 FL4 a peer that is removed: its CA goes, its connections are cut, and then the services let go of it", async () => {
    expect(await stage.push({ case: "removed", value: "b" })).toEqual([
      "CAs",
      "cut b c",
      "recheck doors: nobody",
      "command-forwarding nobody (doors: nobody)",
      "registry-sync nobody (doors: nobody)",
    ]);
  });

  test("FL4 a certificate of a peer that is revoked: who shows it is cut before any service hears of it", async () => {
    const steps = await stage.push(view(b, { revoked: ["leaf-of-b"] }));
    expect(steps.map((step) => step.split(" ")[0])).toEqual(["cut", "recheck", "command-forwarding", "registry-sync"]);
    expect(steps[0]).toBe("cut b c");
  });

  test("FL1 two peers at once, of which one falls and one rises: what is taken is gone everywhere before anything is given", async () => {
    await stage.push(view(c, { level: 1 }));
    const begun = stage.flow.peers("registry-sync").current().length;
    // Both changes are known at once when discovery was away and has told everything anew.
    const again = new Stage(services);
    await again.push(view(b), view(c, { level: 1 }), SYNCED);
    again.flow.restart();
    const steps = await again.push(view(b, { level: 1 }), view(c, { level: 3 }), SYNCED);
    expect(begun).toBe(2);
    expect(steps).toEqual([
      "cut nobody",
      "recheck doors: b1 c1",
      "command-forwarding b1 c1 (doors: b1 c1)",
      "registry-sync b1 c1 (doors: b1 c1)",
      "registry-sync b1 c3 (doors: b1 c1)",
      "command-forwarding b1 c3 (doors: b1 c1)",
      "cut nobody",
      "recheck doors: b1 c3",
    ]);
  });

  test("FL5 a link that an operator ends: no CA and no token at once, the connections after the goodbye", async () => {
    const steps = await stage.push(view(b, { level: 2, terminated: true, minTokenIssuedMs: 5n }));
    expect(steps).toEqual(["CAs", "cut c", "recheck doors: b2", "command-forwarding b† (doors: b2)", "registry-sync b† (doors: b2)"]);
    expect(stage.flow.authority.minTokenIssuedAt("b")).toBe(5);
    stage.clock.advance(1_000);
    expect(stage.steps.splice(0)).toEqual(["cut b"]);
  });

  test("FL5 a link that is enabled again during the goodbye is not cut", async () => {
    await stage.push(view(b, { terminated: true }));
    await stage.push(view(b));
    stage.clock.advance(1_000);
    expect(stage.steps.splice(0)).toEqual(["cut nobody"]);
  });

  test("FL4 own certificates that are revoked: they may not connect, are not dialled, and then what they have open is cut", () => {
    stage.flow.revokeOwn(new Set(["leaf-of-c"]));
    expect(stage.steps).toEqual(["dial anew", "cut c"]);
    expect(stage.flow.authority.revoked("leaf-of-c")).toBe(true);
  });

  test("FL6 a service that throws keeps neither the others nor the doors from a change", async () => {
    stage.flow.peers("registry-sync").subscribe("registry-sync", (views) => {
      if (views.some(({ level }) => level === 3)) throw new Error("cannot");
    });
    stage.steps.length = 0;
    expect((await stage.push(view(b, { level: 3 }))).at(-1)).toBe("recheck doors: b3");
    expect(stage.log.lines.map(({ message }) => message)).toEqual(["service did not take a change of the peers"]);
  });

  test("before discovery has told all it knows nothing is told: empty is not unknown", async () => {
    const fresh = new Stage(services);
    expect(await fresh.push(view(b))).toEqual([]);
    expect(fresh.flow.peers("registry-sync")).toMatchObject({ synced: false });
    expect(await fresh.push(SYNCED)).toHaveLength(5);
    expect(fresh.flow.peers("registry-sync")).toMatchObject({ synced: true });
  });
});

describe("one watch for all services of a process", () => {
  test("each service is told of its own counterpart's endpoint, in the order in which services start", async () => {
    const stage = new Stage(startOrder());
    const endpoint = (service: string, port: number) => ({ service, host: "b.example", port, spiffeId: `spiffe://b/service/${service}` });
    await stage.push(view(b, { endpoint: endpoint("registry-sync", 1), also: [endpoint("discovery", 3)] }), SYNCED);
    expect(stage.requests.map(({ service, also }) => [service, ...also])).toEqual([startOrder()]);
    expect(startOrder().slice(0, 2)).toEqual(["registry-sync", "command-forwarding"]);
    expect(startOrder().at(-1)).toBe("discovery");
    const ports = startOrder().map((service) => [service, stage.flow.peers(service).current()[0]?.endpoint?.port] as const);
    expect(ports.filter(([, port]) => port !== undefined)).toEqual([
      ["registry-sync", 1],
      ["discovery", 3],
    ]);
  });

  test("a process with one service asks as it always did", async () => {
    const stage = new Stage(["registry-sync"]);
    await stage.push(SYNCED);
    expect(stage.requests).toMatchObject([{ service: "registry-sync", also: [] }]);
  });
});

describe("what is a fall", () => {
  const peer = {
    level: 2,
    share: "limited",
    caPems: ["x"],
    revoked: ["r"],
    minTokenIssuedAtWall: 1,
    terminated: false,
  } as unknown as PeerView;
  test.each<[string, Partial<PeerView> | undefined, boolean]>([
    ["a lower level", { level: 1 }, true],
    ["a higher level", { level: 3 }, false],
    ["another share", { share: "full" }, true],
    ["a CA less", { caPems: [] }, true],
    ["a CA more", { caPems: ["x", "y"] }, false],
    ["one more revoked certificate", { revoked: ["r", "s"] }, true],
    ["one less", { revoked: [] }, false],
    ["older tokens void", { minTokenIssuedAtWall: 2 }, true],
    ["an ended link", { terminated: true }, true],
    ["a new token", { token: { jwt: "t", issuedAtWall: 0, expiresAtWall: 1 } }, false],
    ["no peer any more", undefined, true],
  ])("%s", (_what, change, fell) => {
    expect(losesAccess(peer, change === undefined ? undefined : { ...peer, ...change })).toBe(fell);
  });
});

describe("a certificate that is renewed", () => {
  test("what had arrived on the watch before is not told any more: it is older than what the next one says", async () => {
    const stage = new Stage(["registry-sync"]);
    await stage.push(view(b), SYNCED);
    stage.flow.peers("registry-sync").subscribe("registry-sync", (views) => {
      if (views[0]?.level === 3) stage.flow.restart();
    });
    await stage.push(view(b, { level: 3 }), { case: "removed", value: "b" });
    expect(stage.requests).toHaveLength(2);
    expect(show(stage.flow.peers("registry-sync").current())).toBe("b3");
  });

  test("while the hub stops opens no other watch", () => {
    const stage = new Stage(["registry-sync"]);
    stage.flow.stop();
    stage.flow.restart();
    expect(stage.requests).toHaveLength(1);
  });
});
