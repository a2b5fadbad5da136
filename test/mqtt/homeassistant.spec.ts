import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { COMPONENTS } from "../../adapters/mqtt/homeassistant/components.ts";
import { HomeAssistant } from "../../adapters/mqtt/homeassistant/homeassistant.ts";
import { Confirmations } from "../../adapters/shared/confirmations.ts";
import type { ExecutorAnswer, PlainValue } from "../../clients/typescript/index.ts";
import { CORPUS } from "./homeassistant-corpus.ts";
import { Recorder } from "./recorder.ts";

/** Bench is the mapping with what it did. */
class Bench {
  readonly out = new Recorder();
  readonly confirmations = new Confirmations();
  readonly mapping: HomeAssistant;
  now = 1_000;

  constructor(options: Partial<ConstructorParameters<typeof HomeAssistant>[0]> = {}) {
    const all = {
      discovery: "homeassistant",
      prefix: "",
      maxNodes: 100,
      confirmMs: 500,
      birth: true,
      withoutZigbee2Mqtt: true,
      ...options,
    };
    this.mapping = new HomeAssistant(all, this.out, this.confirmations);
    this.mapping.connected(this.now);
    this.mapping.synced(this.now);
  }

  /** announce says a payload on a discovery topic; "" takes it away. */
  announce(topic: string, payload: unknown): void {
    const text = typeof payload === "string" ? payload : JSON.stringify(payload);
    this.say(`homeassistant/${topic}/config`, text);
  }

  say(topic: string, payload: string, live = true): void {
    this.mapping.take(topic, Buffer.from(payload), live, this.now);
  }

  async run(
    nodeId: string,
    capability: string,
    value: PlainValue,
    then: () => void = () => undefined,
  ): Promise<ExecutorAnswer | undefined> {
    const answer = this.mapping.run({ nodeId, capability, value, timeoutMs: 1_000 }, this.now);
    then();
    this.now += 600;
    this.confirmations.expire(this.now);
    return answer;
  }

  freshness(nodeId: string): unknown {
    return this.out.values.get(`${nodeId} source:freshness`);
  }
}

describe("the corpus", () => {
  test("has at least 60 payloads over 15 components", () => {
    const kinds = new Set(CORPUS.flatMap(({ topic }) => (COMPONENTS.includes(topic.split("/")[0] as string) ? [topic.split("/")[0]] : [])));
    expect(CORPUS.length).toBeGreaterThanOrEqual(60);
    expect(kinds.size).toBeGreaterThanOrEqual(15);
  });

  test.each(CORPUS.map((one) => [one.what, one] as const))("%s", (_what, { topic, payload, becomes, refused }) => {
    const bench = new Bench();
    const before = new Set(bench.out.topics);
    bench.announce(topic, payload);
    const [nodeId] = bench.out.nodes.keys();
    expect(nodeId === undefined ? undefined : bench.out.capabilities(nodeId)).toEqual(becomes);
    const told = bench.out.refusals.map(({ why }) => why).join("; ");
    if (refused === undefined) expect(told).toBe("");
    else expect(told).toContain(refused);
    // Taken away, it leaves nothing behind.
    bench.announce(topic, "");
    expect([...bench.out.nodes.keys()]).toEqual([]);
    expect(bench.out.topics).toEqual(before);
    expect(bench.mapping.counts()).toMatchObject({ announced: 0, topics: 0 });
  });
});

const lamp = (more: object = {}) => ({
  dev: { ids: ["lamp"] },
  stat_t: "lamp/state",
  cmd_t: "lamp/set",
  uniq_id: "lamp_switch",
  ...more,
});

describe("values and commands", () => {
  test("a state is read, and a command goes out and is done when the state comes back", async () => {
    const bench = new Bench();
    bench.announce("switch/lamp/relay", lamp());
    bench.say("lamp/state", "OFF");
    expect(bench.out.values.get("lamp relay")).toBe(false);
    const answer = await bench.run("lamp", "relay", true, () => bench.say("lamp/state", "ON"));
    expect(answer).toEqual({ value: true });
    expect(bench.out.published.at(-1)).toMatchObject({ topic: "lamp/set", payload: "ON" });
    expect(await bench.run("lamp", "relay", false)).toMatchObject({ failure: { reason: "OUTCOME_UNKNOWN" } });
    expect(await bench.run("lamp", "relay", false, () => bench.say("lamp/state", "OFF", false))).toMatchObject({
      failure: { reason: "OUTCOME_UNKNOWN" },
    });
  });

  test("a cover opens, its position counts the other way round, and a light takes JSON", async () => {
    const bench = new Bench();
    bench.announce("cover/c/blind", {
      dev: { ids: ["c"] },
      stat_t: "c/s",
      cmd_t: "c/c",
      pos_t: "c/p",
      set_pos_t: "c/sp",
      pos_open: 0,
      pos_clsd: 200,
    });
    expect(await bench.run("c", "blind.command", "OPEN", () => bench.say("c/s", "opening"))).toEqual({ value: "OPEN" });
    bench.say("c/p", "50");
    expect(bench.out.values.get("c blind.position")).toBe(75);
    expect(await bench.run("c", "blind.position", 25, () => bench.say("c/p", "150"))).toEqual({ value: 25 });
    expect(bench.out.published.at(-1)).toMatchObject({ topic: "c/sp", payload: "150" });
    bench.announce("light/l/lamp", { dev: { ids: ["l"] }, schema: "json", stat_t: "l", cmd_t: "l/set", brightness: true });
    const done = await bench.run("l", "lamp.brightness", 128, () => bench.say("l", '{"state":"ON","brightness":128}'));
    expect(done).toEqual({ value: 128 });
    expect(bench.out.published.at(-1)).toMatchObject({ topic: "l/set", payload: '{"state":"ON","brightness":128}' });
    expect(bench.out.values.get("l lamp")).toBe(true);
  });

  test.each([
    ["NaN", "not a finite number"],
    ["Infinity", "not a finite number"],
    ["1e999", "not a finite number"],
    ["12 bananas", "not a finite number"],
    ['{"x":', "not a finite number"],
  ])("%s is no number, is told, and changes nothing", (payload, why) => {
    const bench = new Bench();
    bench.announce("sensor/s/x", { dev: { ids: ["s"] }, stat_t: "s", unit_of_meas: "W" });
    bench.say("s", "5");
    bench.say("s", payload);
    expect(bench.out.values.get("s x")).toBe(5);
    expect(bench.out.refusals.at(-1)?.why).toContain(why);
  });

  test("an integer beyond 2^53 is refused as a number, and keeps its digits in a text", () => {
    const bench = new Bench();
    bench.announce("sensor/s/x", { dev: { ids: ["s"] }, stat_t: "s", val_tpl: "{{ value_json.n }}", unit_of_meas: "Wh" });
    bench.announce("sensor/s/y", { dev: { ids: ["s"] }, stat_t: "s", val_tpl: "{{ value_json.n }}" });
    bench.say("s", '{"n":9007199254740993}');
    expect(bench.out.values.get("s x")).toBeUndefined();
    expect(bench.out.refusals.at(-1)?.why).toContain("9007199254740993");
    expect(bench.out.values.get("s y")).toBe("9007199254740993");
  });
});

describe("availability, expiry and what is retained", () => {
  const three = (mode: string) => ({
    dev: { ids: ["a"] },
    stat_t: "a",
    avty_mode: mode,
    avty: [{ t: "a/1" }, { topic: "a/2", pl_avail: "up", pl_not_avail: "down" }, { t: "a/3", val_tpl: "{{ value_json.state }}" }],
  });
  const row = (bench: Bench, ...said: string[]): unknown => {
    for (const [i, text] of said.entries()) if (text !== "") bench.say(`a/${i + 1}`, text);
    return bench.freshness("a");
  };
  const ON3 = '{"state":"online"}';

  test.each([
    ["all", ["online", "up", ""], "UNKNOWN"],
    ["all", ["online", "up", ON3], "FRESH"],
    ["any", ["offline", "up", ""], "FRESH"],
    ["any", ["offline", "down", ""], "UNKNOWN"],
    ["latest", ["online", "down", ""], "UNKNOWN"],
    ["latest", ["offline", "up", ""], "FRESH"],
    ["latest", ["offline", "up", '{"state":"nonsense"}'], "FRESH"],
  ])("%s of %j is %s", (mode, said, freshness) => {
    const bench = new Bench();
    bench.announce("sensor/a/x", three(mode));
    expect(bench.freshness("a")).toBe("UNKNOWN");
    expect(row(bench, ...said)).toBe(freshness);
  });

  test("a retained value is stale until something live confirms it, a live one is stale when its time is over, and when the broker was lost", () => {
    const bench = new Bench();
    bench.announce("sensor/s/x", { dev: { ids: ["s"] }, stat_t: "s", exp_aft: 60 });
    bench.say("s", "1", false);
    expect(bench.freshness("s")).toBe("STALE");
    bench.say("s", "1");
    expect(bench.freshness("s")).toBe("FRESH");
    expect(bench.mapping.deadline()).toBe(bench.now + 60_000);
    bench.mapping.tick((bench.now += 60_000));
    expect(bench.freshness("s")).toBe("STALE");
    bench.say("s", "2");
    bench.mapping.disconnected(bench.now);
    expect(bench.freshness("s")).toBe("UNKNOWN");
    bench.mapping.connected(bench.now);
    expect(bench.freshness("s")).toBe("STALE");
  });

  test("it says that it was born, subscribes again to all that it needs, and forgets what is not announced any more", () => {
    const bench = new Bench();
    expect(bench.out.published.at(-1)).toMatchObject({ topic: "homeassistant/status", payload: "online" });
    bench.announce("sensor/s/x", { dev: { ids: ["s"] }, stat_t: "s" });
    bench.announce("sensor/t/x", { dev: { ids: ["t"] }, stat_t: "t" });
    bench.mapping.disconnected(bench.now);
    bench.out.topics.clear();
    bench.mapping.connected(bench.now);
    expect([...bench.out.topics].sort()).toEqual(["homeassistant/+/+/+/config", "homeassistant/+/+/config", "s", "t"]);
    bench.announce("sensor/t/x", { dev: { ids: ["t"] }, stat_t: "t" });
    bench.mapping.synced(bench.now);
    bench.mapping.tick(bench.now + 60_000);
    expect([...bench.out.nodes.keys()]).toEqual(["t"]);
  });
});

describe("one device, however it is announced", () => {
  const single = { dev: { ids: ["m"], name: "Meter" }, stat_t: "m/p", uniq_id: "m_power", unit_of_meas: "W" };
  const second = { dev: { ids: ["m"], name: "Meter" }, stat_t: "m/r", cmd_t: "m/set", uniq_id: "m_relay" };
  const whole = {
    dev: { ids: ["m"], name: "Meter" },
    o: { name: "meterd" },
    cmps: {
      power: { p: "sensor", stat_t: "m/p", uniq_id: "m_power", unit_of_meas: "W" },
      relay: { p: "switch", stat_t: "m/r", cmd_t: "m/set", uniq_id: "m_relay" },
    },
  };

  test("the order of announcements does not matter (property)", () => {
    const all = [
      ["sensor/m/power", single],
      ["switch/m/relay", second],
      ["switch/m/power", { ...second, uniq_id: "m_other", stat_t: "m/q" }],
    ] as const;
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), (order) => {
        const bench = new Bench();
        for (const at of order) bench.announce(all[at]![0], all[at]![1]);
        seen.add(bench.out.capabilities("m").join());
      }),
    );
    expect([...seen]).toEqual(["power DOUBLE r W,power.switch BOOL rw,relay BOOL rw"]);
  });

  test("it moves from one form to the other and back, keeps its node, and leaves nothing behind", () => {
    const bench = new Bench();
    const before = new Set(bench.out.topics);
    bench.announce("sensor/m/power", single);
    bench.announce("switch/m/relay", second);
    bench.say("m/p", "7");
    // Announced in both forms without being told: what was there first stays, and the other is told.
    bench.announce("device/m", whole);
    expect(bench.out.refusals.map(({ why }) => why).join()).toContain("announced on homeassistant/sensor/m/power/config already");
    bench.announce("device/m", "");
    for (const topic of ["sensor/m/power", "switch/m/relay"]) bench.announce(topic, { migrate_discovery: true });
    expect([...bench.out.nodes.keys()]).toEqual(["m"]);
    bench.announce("device/m", whole);
    for (const topic of ["sensor/m/power", "switch/m/relay"]) bench.announce(topic, "");
    expect(bench.out.capabilities("m")).toEqual(["power DOUBLE r W", "relay BOOL rw"]);
    expect(bench.mapping.counts()).toMatchObject({ announced: 1 });
    bench.announce("device/m", { migrate_discovery: true });
    bench.announce("sensor/m/power", single);
    bench.announce("switch/m/relay", second);
    bench.announce("device/m", "");
    expect(bench.out.capabilities("m")).toEqual(["power DOUBLE r W", "relay BOOL rw"]);
    expect(bench.mapping.counts()).toMatchObject({ announced: 2 });
    for (const topic of ["sensor/m/power", "switch/m/relay"]) bench.announce(topic, "");
    expect([...bench.out.nodes.keys()]).toEqual([]);
    expect(bench.out.topics).toEqual(before);
  });

  test("whatever is announced and taken away, nothing is left in the end (property)", () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(
          CORPUS.map((_, i) => i),
          { minLength: 10, maxLength: 30 },
        ),
        (order) => {
          const bench = new Bench();
          const before = new Set(bench.out.topics);
          for (const at of order) bench.announce(CORPUS[at]!.topic, CORPUS[at]!.payload);
          for (const at of order.toReversed()) bench.announce(CORPUS[at]!.topic, "");
          expect([...bench.out.nodes.keys()]).toEqual([]);
          expect(bench.out.topics).toEqual(before);
        },
      ),
      { numRuns: 50 },
    );
  });

  test("more devices than there may be are refused, and any bytes whatever break nothing (property)", () => {
    const bench = new Bench({ maxNodes: 2 });
    for (const id of ["1", "2", "3"]) bench.announce(`sensor/${id}/x`, { dev: { ids: [`d${id}`] }, stat_t: id });
    expect(bench.out.nodes.size).toBe(2);
    expect(bench.out.refusals.at(-1)?.why).toContain("2 nodes already");
    fc.assert(
      fc.property(fc.constantFrom("light", "device", "climate", "cover"), fc.json(), fc.uint8Array(), (component, json, bytes) => {
        const own = new Bench();
        own.announce(`${component}/a/b`, json);
        own.mapping.take(`homeassistant/${component}/a/b/config`, Buffer.from(bytes), true, own.now);
      }),
    );
  });
});
