import { describe, expect, test } from "vitest";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { PeerFrame } from "./messages.ts";
import { VALUE_TYPE } from "./ports.ts";

const text = (value: string) => [{ nodeId: "n", key: "s", value, type: VALUE_TYPE.STRING }];

/** federation is a hub with a node, and a peer that gets every frame in a Buffer, as gRPC gives them. */
function federation() {
  const clock = new Instants();
  const [a, b] = [new TestHub("alpha", clock), new TestHub("beta", clock)];
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  a.register(nodeBytes("n", ["s:string"]));
  const link = new TestLink(a, b);
  settleAll([a, b], [link]);
  /** Segments as beta got them, and as they were then. */
  const got: { readonly bytes: Buffer; readonly was: string }[] = [];
  const settle = (): void => {
    for (let i = 0; i < 50; i++) {
      a.settle();
      for (const { frame } of a.outbox.splice(0)) {
        const bytes = frame.type === "segment" ? Buffer.from(frame.segment) : undefined;
        if (bytes !== undefined) got.push({ bytes, was: bytes.toString("hex") });
        const given: PeerFrame = bytes === undefined ? frame : { type: "segment", segment: bytes };
        b.post({ kind: "frame", session: link.id, frame: given });
      }
      b.settle();
      for (const { frame } of b.outbox.splice(0)) a.post({ kind: "frame", session: link.id, frame });
      clock.advance(50);
    }
  };
  return { a, b, got, settle };
}

describe("what comes in a Buffer", () => {
  test("F-31 a segment in memory and on its way to the disk is not changed by the values that come after it", () => {
    const { a, b, got, settle } = federation();
    for (const [i, value] of ["one", "two", "six"].entries()) {
      a.update(1, i + 1, text(value));
      settle();
    }
    expect(b.ask({ hubIds: ["alpha"] })[0]?.state.map(({ value }) => value)).toEqual(["six"]);
    expect(got.length).toBeGreaterThanOrEqual(3);
    expect(got.map(({ bytes }) => bytes.toString("hex"))).toEqual(got.map(({ was }) => was));
  });

  test("F-30 the table holds copies, so that the message goes when its segment leaves the ring", () => {
    const { a, b, got, settle } = federation();
    a.register(nodeBytes("n", ["s:string"], { name: "again" }));
    a.update(1, 1, text("one"));
    settle();
    for (const { bytes } of got) bytes.fill(0);
    const [record] = b.ask({ hubIds: ["alpha"] });
    expect(record?.state.map(({ value }) => value)).toEqual(["one"]);
    expect(record?.node).toEqual(nodeBytes("n", ["s:string"], { name: "again" }));
  });

  test("F-30 a segment that is kept does not keep the piece of memory that it was read into: what is kept is what the ring counts", () => {
    const { a, b, settle } = federation();
    for (let i = 1; i <= 50; i++) {
      a.update(1, i, text("x".repeat(i)));
      settle();
    }
    const ring = b.core.sources().find(({ own }) => !own)?.ring;
    const held = new Set<ArrayBufferLike>();
    for (let seq = ring?.first ?? 0; seq < (ring?.next ?? 0); seq++) held.add(ring!.get(seq)!.segment.buffer);
    expect(held.size).toBeGreaterThan(40);
    const kept = [...held].reduce((sum, buffer) => sum + buffer.byteLength, 0);
    expect(kept).toBeLessThanOrEqual(ring!.bytes);
  });
});
