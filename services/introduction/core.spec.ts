import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkTranscript } from "../../test/datadriven/index.ts";
import { DOOR, DoorCore, type Effect, type Input } from "./core.ts";

const at = (mono: number) => ({ mono, wall: 1_800_000_000_000 + mono });

function show(effect: Effect): string {
  const { kind, ...rest } = effect;
  const words = Object.entries(rest).map(([key, value]) =>
    key === "failure" ? `${(value as { reason: string }).reason} "${(value as { message: string }).message}"` : `${key}=${String(value)}`,
  );
  return `  ${[kind, ...words].join(" ")}`;
}

describe("the life of an invite", () => {
  test.each(["introduced", "wrong-pin", "expired", "strangers", "not-admitted"])("%s", async (name) => {
    let mono = 0;
    const core = new DoorCore(DOOR, at(0));
    const commands = await checkTranscript(join(import.meta.dirname, "testdata", `${name}.txt`), ({ words: [kind = ""], args }) => {
      const call = Number(args["call"]);
      const out: Effect[] = [];
      const caller = args["caller"] ?? "guest";
      if (kind === "after") {
        mono += Number(args["ms"]);
        core.tick(at(mono), out);
      } else
        core.step(
          at(mono),
          {
            begin: { kind: "begin", call, caller, address: args["address"] ?? "192.0.2.1", invited: args["invited"] !== "no" },
            introduce: { kind: "introduce", call, caller, exchange: Number(args["exchange"]) },
            judged: { kind: "judged", call, proven: args["proven"] === "yes" },
            admitted: {
              kind: "admitted",
              call,
              ...(args["failure"] === undefined ? {} : { failure: { reason: "FOREIGN_CA", message: args["failure"] } }),
            },
            withdraw: { kind: "withdraw" },
          }[kind] as Input,
          out,
        );
      return [...out.map(show), `| ${core.describe()} deadline=${core.deadline() ?? "-"}`].join("\n");
    });
    expect(commands).toBeGreaterThan(3);
  });

  test("S-17 IN6 others that hold the invite and let exchanges lie do not keep a guest out", () => {
    const core = new DoorCore(DOOR, at(0));
    const out: Effect[] = [];
    // As many as there are, each with a certificate of its own.
    for (let i = 1; i <= DOOR.exchanges; i++)
      core.step(at(0), { kind: "begin", call: i, caller: `idle ${i}`, address: "192.0.2.1", invited: true }, out);
    core.step(at(2_000), { kind: "begin", call: 100, caller: "guest", address: "192.0.2.2", invited: true }, out);
    const begun = out.find((effect) => effect.kind === "begun" && effect.call === 100);
    const exchange = begun?.kind === "begun" ? begun.exchange : 0;
    expect(exchange).toBe(DOOR.exchanges + 1);
    expect(out, "the oldest is over").toContainEqual({ kind: "forget", exchange: 1 });
    core.step(at(3_000), { kind: "begin", call: 101, caller: "idle again", address: "192.0.2.1", invited: true }, out);
    core.step(at(3_100), { kind: "introduce", call: 102, caller: "guest", exchange }, out);
    core.step(at(3_100), { kind: "judged", call: 102, proven: true }, out);
    core.step(at(3_100), { kind: "admitted", call: 102 }, out);
    expect(out).toContainEqual({ kind: "welcome", call: 102 });
  });

  test("S-17 IN7 who begins and begins, from several addresses, takes no rate from an address that comes later", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 20, maxLength: 400 }), (gaps) => {
        const core = new DoorCore(DOOR, at(0));
        let mono = 0;
        for (const [i, gap] of gaps.entries()) {
          mono += gap;
          const address = `192.0.2.${i % 5}`;
          core.step(at(mono), { kind: "begin", call: i, caller: `holder ${i % 50}`, address, invited: true }, []);
        }
        const out: Effect[] = [];
        core.step(at(mono), { kind: "begin", call: 1_000, caller: "guest", address: "198.51.100.7", invited: true }, out);
        expect(out.map(({ kind }) => kind)).toContain("begun");
      }),
    );
  });

  test("F-17 whatever the jump between two inputs: after a tick nothing is due, and no expired exchange or invite is judged", () => {
    const act = fc.record({ jump: fc.integer({ min: 0, max: 60_000 }), begin: fc.boolean(), exchange: fc.integer({ min: 1, max: 10 }) });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const core = new DoorCore(DOOR, at(0));
        const begunAt = new Map<number, number>();
        let mono = 0;
        for (const { jump, begin, exchange } of acts) {
          mono += jump;
          const out: Effect[] = [];
          const input: Input = begin
            ? { kind: "begin", call: 1, caller: "guest", address: "192.0.2.1", invited: true }
            : { kind: "introduce", call: 1, caller: "guest", exchange };
          core.step(at(mono), input, out);
          for (const effect of out) {
            if (effect.kind === "begun") begunAt.set(effect.exchange, mono);
            if (effect.kind !== "judge") continue;
            expect(mono).toBeLessThan(Math.min(DOOR.lifeMs, begunAt.get(effect.exchange)! + DOOR.exchangeMs));
            core.step(at(mono), { kind: "judged", call: 1, proven: false }, []);
          }
          core.tick(at(mono), []);
          const due = core.deadline();
          expect(due === undefined || due > mono).toBe(true);
        }
      }),
    );
  });

  test("S-17 IN7 a network of IPv6 counts as one address", () => {
    const core = new DoorCore(DOOR, at(0));
    const begun = (address: string): boolean => {
      const out: Effect[] = [];
      core.step(at(0), { kind: "begin", call: 1, caller: "guest", address, invited: true }, out);
      return out.some(({ kind }) => kind === "begun");
    };
    const taken = Array.from({ length: 100 }, (_, i) =>
      begun(i % 2 === 0 ? `2001:db8::${i.toString(16)}` : `2001:db8:0:0:1::${i.toString(16)}`),
    );
    expect(taken.filter(Boolean)).toHaveLength(DOOR.burst);
    expect([begun("2001:db8:1::1"), begun("::ffff:192.0.2.1"), begun("::ffff:192.0.2.2")]).toEqual([true, true, true]);
  });

  /** Anything that guests, strangers and time can do, in any order; the shell's answers come at once, or late for admissions. */
  type Act =
    | { readonly act: "begin"; readonly caller: string; readonly invited: boolean }
    | { readonly act: "introduce"; readonly caller: string; readonly exchange: number; readonly proven: boolean }
    | { readonly act: "settle"; readonly ok: boolean }
    | { readonly act: "wait"; readonly ms: number }
    | { readonly act: "withdraw" };
  const caller = fc.constantFrom("guest", "other");
  const acts: fc.Arbitrary<Act> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ act: fc.constant("begin" as const), caller, invited: fc.boolean() }) },
    {
      weight: 6,
      arbitrary: fc.record({
        act: fc.constant("introduce" as const),
        caller,
        exchange: fc.integer({ min: 0, max: 12 }),
        proven: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ act: fc.constant("settle" as const), ok: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 40_000 }) }) },
    { weight: 1, arbitrary: fc.record({ act: fc.constant("withdraw" as const) }) },
  );

  test("IN1 IN2 IN3 IN5 whatever happens: three wrong proofs at most, one guest at most, no exchange twice, nothing after the end", () => {
    fc.assert(
      fc.property(fc.array(acts, { maxLength: 120 }), (list) => {
        const core = new DoorCore(DOOR, at(0));
        let mono = 0;
        let call = 0;
        let proven = false;
        let admitting: number | undefined;
        let ended = false;
        const answered = new Set<number>();
        const asked = new Set<number>();
        const judged = new Set<number>();
        const begun = new Map<number, { readonly by: string; readonly mono: number }>();
        const count = { wrong: 0, admits: 0, welcomes: 0, closed: 0 };
        let by = "";
        const feed = (input: Input | undefined): void => {
          const out: Effect[] = [];
          if (input === undefined) core.tick(at(mono), out);
          else core.step(at(mono), input, out);
          for (const effect of out) {
            if (effect.kind === "begun") {
              expect(ended).toBe(false);
              begun.set(effect.exchange, { by, mono });
            }
            if (effect.kind === "judge") {
              expect({ ended, again: judged.has(effect.exchange) }).toEqual({ ended: false, again: false });
              expect(begun.get(effect.exchange)?.by).toBe(by);
              expect(mono - begun.get(effect.exchange)!.mono).toBeLessThan(DOOR.exchangeMs);
              expect(mono).toBeLessThan(DOOR.lifeMs);
              judged.add(effect.exchange);
              if (!proven) count.wrong++;
              feed({ kind: "judged", call: effect.call, proven });
            }
            if (effect.kind === "admit") {
              count.admits++;
              admitting = effect.call;
            }
            if (effect.kind === "welcome") count.welcomes++;
            if (effect.kind === "welcome" || effect.kind === "refuse" || effect.kind === "begun") {
              expect(answered.has(effect.call)).toBe(false);
              answered.add(effect.call);
            }
            if (effect.kind === "closed") {
              count.closed++;
              ended = true;
            }
          }
        };
        for (const act of list) {
          if (act.act === "wait") {
            mono += act.ms;
            feed(undefined);
          } else if (act.act === "withdraw") feed({ kind: "withdraw" });
          else if (act.act === "settle") {
            if (admitting === undefined) continue;
            const done = admitting;
            admitting = undefined;
            feed({ kind: "admitted", call: done, ...(act.ok ? {} : { failure: { reason: "FOREIGN_CA", message: "no" } as const }) });
          } else {
            by = act.caller;
            asked.add(++call);
            if (act.act === "begin") feed({ kind: "begin", call, caller: by, address: by, invited: act.invited });
            else {
              proven = act.proven;
              feed({ kind: "introduce", call, caller: by, exchange: act.exchange });
            }
          }
          expect(count.wrong).toBeLessThanOrEqual(DOOR.attempts);
          expect(count.admits).toBeLessThanOrEqual(1);
          expect(count.welcomes).toBeLessThanOrEqual(count.admits);
          expect(count.closed).toBeLessThanOrEqual(1);
          expect(/exchanges=([\d,]*)/.exec(core.describe())?.[1]?.split(",").filter(Boolean).length ?? 0).toBeLessThanOrEqual(
            DOOR.exchanges,
          );
          if (ended) {
            expect(core.describe()).toContain("exchanges=-");
            expect(core.deadline()).toBeUndefined();
          }
        }
        // Every call has its answer, but the one that is being admitted.
        for (const id of asked) expect(answered.has(id) || id === admitting).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test("IN4 strangers, however many, take nothing from the guest", () => {
    const core = new DoorCore(DOOR, at(0));
    const out: Effect[] = [];
    for (let call = 1; call <= 10_000; call++)
      core.step(at(call), { kind: "begin", call, caller: `stranger-${call}`, address: `192.0.2.${call % 250}`, invited: false }, out);
    expect(out.filter(({ kind }) => kind === "refuse")).toHaveLength(10_000);
    out.length = 0;
    core.step(at(10_001), { kind: "begin", call: 10_001, caller: "guest", address: "192.0.2.2", invited: true }, out);
    expect(out).toEqual([{ kind: "begun", call: 10_001, exchange: 1 }]);
    expect(core.describe()).toBe("open wrong=0/3 exchanges=1");
  });
});
