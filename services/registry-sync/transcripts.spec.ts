import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { checkTranscript, type Step } from "../../test/datadriven/index.ts";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { NodeRule, PeerFrame } from "./messages.ts";

const RULE: NodeRule = { ids: [], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };

/** World runs the commands of a transcript: hubs, links between them, one clock. */
class World {
  readonly clock = new Instants();
  readonly hubs = new Map<string, TestHub>();
  readonly links = new Map<string, TestLink>();
  readonly #seq = new Map<string, number>();

  hub(name: string | undefined): TestHub {
    const hub = this.hubs.get(name ?? "");
    if (hub === undefined) throw new Error(`no hub ${name}`);
    return hub;
  }

  run({ words, args }: Step): string {
    const [command, one = "", two = "", ...rest] = words;
    switch (command) {
      case "hub": {
        const rules = args["part"]?.split(",");
        const shares = rules === undefined ? [] : [{ name: "part", rules: [{ ...RULE, ids: rules }] }];
        this.hubs.set(one, new TestHub(one, this.clock, { shares, ringSegments: Number(args["ring"] ?? 64) }));
        return this.#describe(one);
      }
      case "map":
        this.hub(one).post({
          kind: "peers",
          peers: [{ hubId: two, share: args["share"] ?? "full", level: Number(args["level"] ?? 3) }],
          complete: true,
        });
        return "";
      case "rules":
        this.hub(one).post({ kind: "shares", shares: [{ name: "part", rules: [{ ...RULE, ids: [two, ...rest] }] }] });
        return this.#turn(one);
      case "register":
        this.hub(one).register(nodeBytes(two, rest));
        return this.#turn(one);
      case "deregister":
        this.hub(one).deregister(two);
        return this.#turn(one);
      case "update": {
        const seq = (this.#seq.get(one) ?? 0) + 1;
        if (seq === 1) this.hub(one).post({ kind: "stream_open", stream: 1, scope: GATEWAY });
        this.#seq.set(one, seq);
        this.hub(one).update(
          1,
          seq,
          Object.entries(args).map(([key, value]) => ({ nodeId: two, key, value: Number(value), type: 3 })),
        );
        return this.#turn(one);
      }
      case "connect":
        this.links.set(`${one}-${two}`, new TestLink(this.hub(one), this.hub(two)));
        return this.#deliver();
      case "disconnect":
        this.links.get(`${one}-${two}`)?.down();
        this.links.delete(`${one}-${two}`);
        return "";
      case "deliver":
        return this.#deliver(args["lose"]);
      case "ping":
        this.links.get(`${one}-${two}`)?.ping();
        return this.#deliver();
      case "crash":
        this.#seq.delete(one);
        this.hubs.set(one, this.hub(one).crash());
        return this.#describe(one);
      case "advance":
        this.clock.advance(Number(one));
        return "";
      case "nodes":
        return this.hub(one)
          .ask()
          .map((r) =>
            `${r.name.hubId}/${r.name.nodeId} ${r.online ? "online" : "offline"} ${r.freshness} ${r.state.map((s) => `${s.key}=${String(s.value)}`).join(" ")}`.trim(),
          )
          .join("\n");
      case "describe":
        return this.#describe(one);
      default:
        throw new Error(`no command ${command}`);
    }
  }

  #turn(name: string): string {
    const hub = this.hub(name);
    hub.settle();
    const refused = [...hub.registered.values()]
      .flat()
      .flatMap((result) => (result.failure === undefined ? [] : [`refused ${result.nodeId}: ${result.failure.reason}`]));
    hub.registered.clear();
    return [...refused, ...hub.refused.splice(0).map((item) => `refused ${item.index}: ${item.failure.reason}`)].join("\n");
  }

  #deliver(lose?: string): string {
    const lines: string[] = [];
    let lost = false;
    const fate = (frame: PeerFrame): number => {
      const drop = frame.type === lose && !lost;
      lost ||= drop;
      lines.push(`${words(frame)}${drop ? " LOST" : ""}`);
      return drop ? 0 : 1;
    };
    settleAll([...this.hubs.values()], [...this.links.values()], fate);
    return lines.join("\n");
  }

  #describe(name: string): string {
    return this.hub(name)
      .core.describe()
      .replace(/session \d+/g, "session");
  }
}

function words(frame: PeerFrame): string {
  switch (frame.type) {
    case "feed_offer":
      return `feed_offer ${frame.head === undefined ? "nothing" : `${frame.head.hubId}/${frame.head.share} ${frame.head.epoch}/${frame.head.seq}`}`;
    case "feed_open":
      return `feed_open ${frame.from.hubId}/${frame.from.share} from ${frame.from.epoch}/${frame.from.seq}`;
    case "ack":
      return `ack ${frame.position.hubId} ${frame.position.epoch}/${frame.position.seq}`;
    case "nack":
      return `nack ${frame.held.hubId} held ${frame.held.epoch}/${frame.held.seq} ${frame.failure.reason}${frame.wantSnapshot ? " wants a snapshot" : ""}`;
    case "segment":
      return "segment";
    case "forget":
    case "forget_done":
      return `${frame.type} ${frame.share}`;
    default:
      return frame.type;
  }
}

describe("transcripts", () => {
  const folder = new URL("testdata/", import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith(".txt"));

  test("there are some", () => {
    expect(files.length).toBeGreaterThanOrEqual(4);
  });

  test.each(files)("%s", async (name) => {
    const world = new World();
    expect(await checkTranscript(new URL(name, folder).pathname, (step) => world.run(step))).toBeGreaterThan(5);
  });
});
