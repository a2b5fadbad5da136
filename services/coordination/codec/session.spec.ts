import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type SessionFrame, SessionFrameSchema } from "#gen/foedus/coordination/v1alpha1/session_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { candidateOf, foundingOf } from "../../../test/fakes/federation-books.ts";
import type { Frame } from "../messages.ts";
import { REPORT_MAX } from "../resources/rules.ts";
import { frameFromProto, frameToProto } from "./session.ts";

const FEDERATION = new Uint8Array(16).fill(3);
const FOUNDING = foundingOf(["a", "b"].map((hub) => candidateOf(hub)));
const failure = { reason: "NOT_LEADER", message: "c leads: ask it instead" } as const;
const log = (frame: Extract<Frame, { kind: "log" }>["frame"]): Frame => ({ kind: "log", federation: FEDERATION, frame });

const FRAMES: readonly Frame[] = [
  {
    kind: "greeting",
    candidate: candidateOf("b"),
    federation: FEDERATION,
    incarnation: 4,
    life: 9,
    remembered: { incarnation: 4, life: 2, term: 7, index: 2 ** 40 },
    members: ["a", "b"],
  },
  {
    kind: "greeting",
    candidate: undefined,
    federation: new Uint8Array(),
    incarnation: 0,
    life: 1,
    remembered: { incarnation: 0, life: 0, term: 0, index: 0 },
    members: [],
  },
  { kind: "dismissed", federation: FEDERATION, incarnation: 2 ** 48 },
  { kind: "founding_offer", federationId: "fed", founding: FOUNDING },
  { kind: "founding_offer", federationId: "fed", founding: undefined },
  { kind: "founding_consent", federationId: "fed", signature: new Uint8Array(64).fill(1) },
  { kind: "founding_consent", federationId: "fed", signature: undefined },
  { kind: "founded", founding: FOUNDING, incarnation: 1, voters: [{ hubId: "a", incarnation: 3, publicKey: new Uint8Array(32).fill(7) }] },
  { kind: "join_ask", federationId: "fed", candidate: candidateOf("b"), signature: new Uint8Array(64).fill(2) },
  { kind: "join_answer", federationId: "fed", failure: undefined, incarnation: 7 },
  { kind: "join_answer", federationId: "fed", failure, incarnation: 7 },
  log({ kind: "propose", payload: Uint8Array.of(1, 2, 3) }),
  log({ kind: "declined", session: Number.MAX_SAFE_INTEGER, first: 12, leader: "c", failure }),
  log({ kind: "lead_ask", id: Number.MAX_SAFE_INTEGER, to: "c" }),
  log({ kind: "lead_answer", id: 7, failure: undefined }),
  log({ kind: "lead_answer", id: 7, failure }),
  log({ kind: "read_ask", id: Number.MAX_SAFE_INTEGER }),
  log({ kind: "read_answer", id: 5, index: 2 ** 48, failure: undefined }),
  log({ kind: "read_answer", id: 5, index: 0, failure }),
];

const over = (frame: Frame): SessionFrame => fromBinary(SessionFrameSchema, toBinary(SessionFrameSchema, frameToProto(frame)));

describe("frames of a session", () => {
  test.each(FRAMES.map((frame) => [frame.kind === "log" ? frame.frame.kind : frame.kind, frame] as const))(
    "%s comes back as it was sent",
    (_kind, frame) => {
      const back = frameFromProto(over(frame), "b", "a");
      expect(normal(back)).toEqual(normal(frame));
    },
  );

  test("the longest report of lending fits into a frame", () => {
    const most = { lease: Number.MAX_SAFE_INTEGER, fence: Number.MAX_SAFE_INTEGER };
    const runs = Array.from({ length: REPORT_MAX }, () => ({ ...most, ran: true, orphan: true }));
    const uses = Array.from({ length: REPORT_MAX }, () => ({ ...most, id: "x".repeat(63), usable: true, inUse: true }));
    const frame: Frame = { kind: "lending", frame: { kind: "report", id: Number.MAX_SAFE_INTEGER, runs, uses } };
    expect(toBinary(SessionFrameSchema, frameToProto(frame)).length).toBeLessThanOrEqual(LIMITS.frameBytes);
  });

  test("a frame with a part that is damaged, whatever its bytes, is none, and reading it throws nothing", () => {
    fc.assert(
      fc.property(fc.constantFrom(...FRAMES), fc.uint8Array({ maxLength: 120 }), (frame, bytes) => {
        const proto = over(frame);
        const { value } = proto.frame as { value: Record<string, unknown> };
        for (const field of ["candidate", "founding"]) if (value[field] instanceof Uint8Array) value[field] = bytes;
        const back = frameFromProto(proto, "b", "a");
        expect(back === undefined || typeof back.kind === "string").toBe(true);
      }),
    );
  });

  test("bytes of a peer that are some frame are read, or are none; nothing throws", () => {
    fc.assert(
      fc.property(fc.constantFrom(...FRAMES), fc.nat(), fc.integer({ min: 1, max: 255 }), (frame, at, change) => {
        const bytes = toBinary(SessionFrameSchema, frameToProto(frame));
        bytes[at % bytes.length]! ^= change;
        let proto: SessionFrame;
        try {
          proto = fromBinary(SessionFrameSchema, bytes);
        } catch {
          return;
        }
        expect(() => frameFromProto(proto, "b", "a")).not.toThrow();
      }),
    );
  });

  test("a frame of a kind that this version does not know is none", () => {
    expect(frameFromProto(fromBinary(SessionFrameSchema, new Uint8Array()), "b", "a")).toBeUndefined();
  });
});

/** normal is a value with its keys in order, and without those that are undefined. */
function normal(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, normal(one)]),
  );
}
