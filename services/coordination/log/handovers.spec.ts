import { describe, expect, test } from "vitest";
import type { Failure } from "#kernel/error.ts";
import { Stage } from "../../../test/fakes/replica-stage.ts";

describe("a wish that another hub leads", () => {
  const wish = (stage: Stage, call: number, to = "c/1"): void => stage.replica.transfer(stage.now, call, to, stage.out);
  const idOf = (stage: Stage): number => (stage.sent()[0]!.frame as { id: number }).id;
  const no = (reason: Failure["reason"]): Failure => ({ reason, message: "no" });
  const transfers = (stage: Stage) => stage.engine.inputs.filter(({ kind }) => kind === "transfer");

  test("PROTOCOL G13 HO1 goes to whoever leads, and is fulfilled when the other one is seen to lead, not when somebody says so", () => {
    const stage = new Stage();
    stage.lead("b/1");
    wish(stage, 1);
    const [ask] = stage.sent();
    expect(ask).toMatchObject({ peer: "b", frame: { kind: "lead_ask", to: "c" } });
    stage.frame("b", { kind: "lead_answer", id: (ask!.frame as { id: number }).id, failure: undefined });
    expect(stage.told()).toEqual([]);
    stage.lead("c/1");
    expect(stage.told()).toEqual(["1 done"]);
    wish(stage, 2);
    expect(stage.told()).toEqual(["2 done"]);
  });

  test("HO1 whoever leads itself gives it to its engine, as before", () => {
    const stage = new Stage();
    stage.lead("a/1");
    wish(stage, 1);
    expect(transfers(stage)).toMatchObject([{ to: "c/1" }]);
    expect(stage.sent()).toEqual([]);
  });

  test("PROTOCOL G13 HO2 is refused by the hub that was asked, for the question under way, and by no other", () => {
    const stage = new Stage();
    stage.lead("b/1");
    wish(stage, 1);
    const id = idOf(stage);
    for (const peer of ["c", "stranger"]) stage.frame(peer, { kind: "lead_answer", id, failure: no("INVALID_FIELD") });
    for (const other of [0, id + 1, 2 ** 53 - 1]) stage.frame("b", { kind: "lead_answer", id: other, failure: no("INVALID_FIELD") });
    expect(stage.told()).toEqual([]);
    expect(stage.stray()).toBe(5);
    stage.at(500);
    const again = idOf(stage);
    // The first question is over by the second.
    stage.frame("b", { kind: "lead_answer", id, failure: no("INVALID_FIELD") });
    expect(stage.told()).toEqual([]);
    const long: Failure = { reason: "INVALID_FIELD", message: "x".repeat(60_000) };
    stage.frame("b", { kind: "lead_answer", id: again, failure: long });
    const refused = stage.out.find(({ kind }) => kind === "refused") as { failure: Failure };
    expect(refused.failure.message.length).toBeLessThan(600);
    expect(refused.failure.message).toMatch(/^b, which leads, says: x/);
  });

  test("HO2 who does not lead any more refuses nothing: the next one is asked, and at the end it is said how it stands", () => {
    const stage = new Stage();
    wish(stage, 1);
    expect(stage.sent()).toEqual([]);
    stage.lead("b/1");
    const id = idOf(stage);
    stage.frame("b", { kind: "lead_answer", id, failure: no("NOT_LEADER") });
    expect(stage.told()).toEqual([]);
    stage.lead("d/1");
    expect(stage.sent()).toMatchObject([{ peer: "d", frame: { kind: "lead_ask" } }]);
    stage.at(10_000);
    expect(stage.told()).toEqual(["1 OUTCOME_UNKNOWN"]);
    const alone = new Stage();
    wish(alone, 1);
    alone.at(10_000);
    expect(alone.told()).toEqual(["1 NO_QUORUM"]);
  });

  test("PROTOCOL G13 RO5 HO3 of a member reaches the engine, once at a time and once in five seconds; of a stranger, or for one, never", () => {
    const stage = new Stage();
    stage.lead("a/1");
    stage.frame("z", { kind: "lead_ask", id: 1, to: "c" });
    expect(stage.stray()).toBe(1);
    stage.frame("b", { kind: "lead_ask", id: 1, to: "z" });
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { kind: "lead_answer", id: 1, failure: { reason: "PEER_NOT_FOUND" } } }]);
    expect(transfers(stage)).toEqual([]);
    for (let id = 2; id < 102; id++) stage.frame("b", { kind: "lead_ask", id, to: "c" });
    stage.frame("b", { kind: "lead_ask", id: 200, to: "b" });
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { id: 200, failure: { reason: "OVERLOADED" } } }]);
    const [given, ...more] = transfers(stage) as { call: number }[];
    expect(more).toEqual([]);
    stage.say({ kind: "done", call: given!.call });
    // The newest question is the one that is answered.
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { kind: "lead_answer", id: 101, failure: undefined } }]);
    stage.at(4_999);
    stage.frame("b", { kind: "lead_ask", id: 300, to: "c" });
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { id: 300, failure: { reason: "OVERLOADED" } } }]);
    stage.frame("c", { kind: "lead_ask", id: 1, to: "b" });
    stage.at(5_000);
    stage.frame("b", { kind: "lead_ask", id: 301, to: "c" });
    expect(transfers(stage)).toHaveLength(3);
  });

  test("HO3 what the engine refuses is told, and may be asked again at once", () => {
    const stage = new Stage();
    stage.lead("a/1");
    stage.engine.on = (input, out) => {
      if (input.kind === "transfer") out.push({ kind: "refused", call: input.call, failure: no("PEER_UNREACHABLE") });
    };
    for (const id of [7, 8]) stage.frame("b", { kind: "lead_ask", id, to: "c" });
    expect(stage.sent()).toMatchObject([
      { peer: "b", frame: { kind: "lead_answer", id: 7, failure: { reason: "PEER_UNREACHABLE" } } },
      { peer: "b", frame: { kind: "lead_answer", id: 8, failure: { reason: "PEER_UNREACHABLE" } } },
    ]);
  });
});
