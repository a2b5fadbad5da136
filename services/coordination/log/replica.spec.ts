import { describe, expect, test } from "vitest";
import type { Failure } from "#kernel/error.ts";
import { keyOf } from "../../../test/fakes/federation-books.ts";
import { put, Stage, stateOf } from "../../../test/fakes/replica-stage.ts";
import { commandCodec } from "../codec/commands.ts";
import { writeState } from "../codec/state.ts";
import { writeBatch } from "./batch.ts";
import type { ReplicaFrame } from "./replica-messages.ts";

const payloadsOf = (sent: ReturnType<Stage["sent"]>): Uint8Array[] =>
  sent.flatMap(({ frame }) => (frame.kind === "propose" ? [frame.payload] : []));
const batchOf = (author: string, more: { readonly session?: number; readonly federation?: Uint8Array } = {}): Uint8Array =>
  writeBatch(
    { federation: stateOf().federation, author, incarnation: 1, session: 1, first: 1, commands: [commandCodec.write(put("x"))], ...more },
    keyOf(author).crypto,
  );

describe("a command", () => {
  test("RO1 is decided when it was carried out here, whoever led", () => {
    const stage = new Stage();
    stage.submit(1);
    stage.submit(2);
    expect(stage.sent()).toEqual([]);
    stage.lead("b/1");
    const [payload] = payloadsOf(stage.sent());
    stage.lead("c/1");
    const again = payloadsOf(stage.sent());
    expect(again).toEqual([payload]);
    stage.commit(payload!);
    stage.commit(payload!);
    expect(stage.told()).toEqual(["1 decided", "2 decided"]);
  });

  test("RO1 goes to this hub's own engine while it leads", () => {
    const stage = new Stage();
    stage.lead("a/1");
    stage.submit(1);
    expect(stage.sent()).toEqual([]);
    const [input] = stage.engine.inputs;
    stage.commit((input as { payload: Uint8Array }).payload);
    expect(stage.told()).toEqual(["1 decided"]);
  });

  test("RO1 that may have left is unknown after its time, and one that did not is refused for good", () => {
    const stage = new Stage();
    stage.submit(1);
    stage.at(9_999);
    expect(stage.told()).toEqual([]);
    stage.at(10_000);
    expect(stage.told()).toEqual(["1 DEADLINE_EXPIRED"]);
    stage.lead("b/1");
    expect(stage.sent()).toEqual([]);
    stage.submit(2);
    stage.at(20_000);
    expect(stage.told()).toEqual(["2 OUTCOME_UNKNOWN"]);
    // It may still happen, and nobody is told twice.
    stage.commit(...payloadsOf(stage.sent()).slice(0, 1));
    expect(stage.told()).toEqual([]);
    expect(stage.state.books.values.get("k2")).toBeDefined();
  });

  test("S1-18 RO2 without a quorum is refused with the reason, at once after a while, and never happens if it had not left", () => {
    const stage = new Stage();
    stage.engine.quorum = false;
    stage.at(0);
    stage.submit(1);
    stage.at(2_999);
    expect(stage.told()).toEqual([]);
    stage.at(3_000);
    expect(stage.told()).toEqual(["1 NO_QUORUM"]);
    stage.submit(2);
    stage.read(3);
    expect(stage.told()).toEqual(["2 NO_QUORUM", "3 NO_QUORUM"]);
    stage.engine.quorum = true;
    stage.at(4_000);
    stage.lead("b/1");
    expect(stage.sent()).toEqual([]);
    stage.submit(4);
    expect(payloadsOf(stage.sent())).toHaveLength(1);
  });

  test("of a hub that wants too much at once is refused, and nothing comes of it", () => {
    const stage = new Stage({ waiting: 1 });
    stage.submit(1);
    stage.submit(2);
    expect(stage.told()).toEqual(["2 OVERLOADED"]);
  });

  test("RO1 that a snapshot may have in it is unknown", () => {
    const stage = new Stage();
    stage.lead("b/1");
    stage.submit(1);
    const [payload] = payloadsOf(stage.sent());
    stage.submit(2);
    const ahead = stateOf();
    ahead.apply({ index: 7, term: 1, time: 1_000_000, payloads: [payload!] });
    stage.say({
      kind: "install",
      snapshot: { index: 7, term: 1, time: 1_000_000, membership: stage.engine.status().membership, state: writeState(ahead.dump()) },
    });
    expect(stage.told()).toEqual(["1 OUTCOME_UNKNOWN"]);
    expect(stage.state.at.index).toBe(7);
    expect(stage.state.books.values.get("k1")).toBeDefined();
  });

  test("RO1 whose session the log has left behind is unknown, and those behind it get numbers of a new one", () => {
    const stage = new Stage();
    stage.lead("b/1");
    stage.submit(1);
    // A later start of this hub wrote with a larger session: this one was restored, or its clock set back.
    stage.commit(batchOf("a", { session: 2_000_000 }));
    expect(stage.told()).toEqual(["1 OUTCOME_UNKNOWN"]);
    stage.sent();
    stage.submit(2);
    stage.commit(...payloadsOf(stage.sent()));
    expect(stage.told()).toEqual(["2 decided"]);
  });

  test("RO1 gets a number of another session where the log has numbers of this one that were never given here", () => {
    const stage = new Stage();
    stage.lead("b/1");
    stage.commit(batchOf("a", { session: 5 }));
    stage.submit(1);
    stage.commit(...payloadsOf(stage.sent()));
    expect(stage.told()).toEqual(["1 decided"]);
    expect(stage.state.books.values.get("k1")).toBeDefined();
  });

  test("PROTOCOL G6 that was declined goes to whoever leads, also if that is the same hub again", () => {
    const stage = new Stage();
    stage.lead("b/1");
    stage.submit(1);
    stage.sent();
    const failure: Failure = { reason: "NOT_LEADER", message: "c leads" };
    stage.frame("b", { kind: "declined", session: 5, first: 1, leader: "c", failure });
    stage.at(999);
    expect(stage.sent()).toEqual([]);
    // Word of a new leader never comes, because b leads again, or still.
    stage.at(1_000);
    expect(stage.sent().map(({ peer }) => peer)).toEqual(["b"]);
    // Who does not lead has nothing to decline.
    stage.frame("c", { kind: "declined", session: 5, first: 1, leader: "a", failure });
    stage.submit(2);
    expect(stage.sent().map(({ peer }) => peer)).toEqual(["b"]);
  });
});

describe("a read", () => {
  test("RO3 is served when this hub has applied what was decided when it was asked", () => {
    const stage = new Stage();
    stage.read(1);
    stage.lead("b/1");
    const [ask] = stage.sent();
    expect(ask).toMatchObject({ peer: "b", frame: { kind: "read_ask" } });
    const { id } = ask!.frame as { id: number };
    stage.frame("b", { kind: "read_answer", id, index: 1, failure: undefined });
    expect(stage.told()).toEqual([]);
    stage.commit();
    expect(stage.told()).toEqual(["1 readable"]);
  });

  test("PROTOCOL G7 RO5 is confirmed by nobody but whom it was put to", () => {
    const stage = new Stage();
    stage.lead("b/1");
    stage.read(1);
    const { id } = stage.sent()[0]!.frame as { id: number };
    for (const peer of ["c", "stranger"]) stage.frame(peer, { kind: "read_answer", id, index: 0, failure: undefined });
    expect(stage.told()).toEqual([]);
    expect(stage.stray()).toBe(2);
    stage.frame("b", { kind: "read_answer", id, index: 0, failure: undefined });
    expect(stage.told()).toEqual(["1 readable"]);
  });

  test("RO3 is asked of the next leader when the first one does not answer, and an answer of before counts no more", () => {
    const stage = new Stage();
    stage.lead("b/1");
    stage.read(1);
    const { id } = stage.sent()[0]!.frame as { id: number };
    stage.lead("c/1");
    expect(stage.sent().map(({ peer }) => peer)).toEqual(["c"]);
    stage.frame("b", { kind: "read_answer", id, index: 0, failure: undefined });
    expect(stage.told()).toEqual([]);
  });

  test("RO2 that nobody confirms is refused after its time", () => {
    const stage = new Stage();
    stage.read(1);
    stage.at(10_000);
    expect(stage.told()).toEqual(["1 DEADLINE_EXPIRED"]);
  });

  test("of a member is put to the engine, and answered with its word", () => {
    const stage = new Stage();
    stage.engine.on = (input, out) => {
      if (input.kind === "read") out.push({ kind: "readable", call: input.call, index: 9 });
    };
    stage.frame("b", { kind: "read_ask", id: 77 });
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { kind: "read_answer", id: 77, index: 9, failure: undefined } }]);
    stage.engine.on = (input, out) => {
      if (input.kind === "read") out.push({ kind: "refused", call: input.call, failure: { reason: "NOT_LEADER", message: "no" } });
    };
    stage.frame("b", { kind: "read_ask", id: 78 });
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { kind: "read_answer", id: 78, failure: { reason: "NOT_LEADER" } } }]);
  });
});

describe("a frame", () => {
  test.each<[string, string, ReplicaFrame<string>]>([
    ["to another replica of this hub", "b", { kind: "engine", from: "b/1", to: "a/2", frame: "x" }],
    ["to another hub", "b", { kind: "engine", from: "b/1", to: "c/1", frame: "x" }],
    ["of a replica of another hub", "b", { kind: "engine", from: "c/1", to: "a/1", frame: "x" }],
    ["with a batch of another hub", "b", { kind: "propose", payload: batchOf("c") }],
    ["with a batch of a hub that is no member", "z", { kind: "propose", payload: batchOf("z") }],
    ["with bytes that are no batch", "b", { kind: "propose", payload: Uint8Array.of(1, 2, 3) }],
    ["with a question of a hub that is no member", "z", { kind: "read_ask", id: 1 }],
    ["with an answer that nobody asked for", "b", { kind: "read_answer", id: 1, index: 1, failure: undefined }],
  ])("PROTOCOL G4 RO4 RO5 %s is counted, and reaches no engine", (_what, peer, frame) => {
    const stage = new Stage();
    stage.lead("a/1");
    stage.frame(peer, frame);
    expect(stage.stray()).toBe(1);
    expect(stage.engine.inputs).toEqual([]);
    expect(stage.sent()).toEqual([]);
  });

  test("PROTOCOL G6 G7 RO5 with a batch or a question is nothing where nobody leads: it would take the room that this hub has for its own", () => {
    const stage = new Stage({ leaderless: true });
    stage.frame("b", { kind: "propose", payload: batchOf("b") });
    stage.frame("b", { kind: "read_ask", id: 1 });
    expect(stage.stray()).toBe(2);
    expect(stage.engine.inputs).toEqual([]);
    expect(stage.sent()).toEqual([]);
  });

  test("of a replica reaches the engine", () => {
    const stage = new Stage();
    stage.frame("b", { kind: "engine", from: "b/3", to: "a/1", frame: "x" });
    expect(stage.engine.inputs).toEqual([{ kind: "frame", from: "b/3", frame: "x" }]);
  });

  test("PROTOCOL G6 with a batch that the engine refuses is declined, with who leads", () => {
    const stage = new Stage();
    stage.engine.on = (input, out) => {
      if (input.kind !== "propose") return;
      out.push({ kind: "refused", call: input.call, failure: { reason: "NOT_LEADER", message: "no", facts: { leader: "c/4" } } });
    };
    stage.frame("b", { kind: "propose", payload: batchOf("b") });
    expect(stage.sent()).toMatchObject([{ peer: "b", frame: { kind: "declined", session: 1, first: 1, leader: "c" } }]);
  });
});

describe("log time", () => {
  test("passes although nobody writes, once for what is due, and only where the log is led", () => {
    const stage = new Stage();
    const due = (): number | undefined => stage.now.wall + 100;
    stage.state.due = due;
    stage.lead("b/1");
    stage.at(200);
    expect(stage.sent()).toEqual([]);
    const at = stage.now.wall + 50;
    stage.state.due = () => at;
    stage.lead("a/1");
    stage.at(249);
    expect(stage.engine.inputs).toEqual([]);
    stage.at(250);
    stage.at(300);
    expect(stage.engine.inputs.map(({ kind }) => kind)).toEqual(["propose"]);
  });
});
