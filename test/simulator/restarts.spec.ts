import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { SessionRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { frameToProto } from "../../services/registry-sync/codec/frame-codec.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import type { FeedStatus, PeerFrame } from "../../services/registry-sync/messages.ts";
import { Oracle } from "./oracle.ts";
import { Restarts } from "./restarts.ts";
import { Scheduler } from "./scheduler.ts";

const NONE = new Uint8Array(0);
const HOLDER = 0;
const OWNER = 1;

/** A hub acknowledged a feed, was told to forget it, and said that it had. */
function forgotten(): { readonly restarts: Restarts; readonly oracle: Oracle } {
  const oracle = new Oracle(new Scheduler(), 2);
  const restarts = new Restarts(oracle, ["hub-0", "hub-1"]);
  say(restarts, HOLDER, OWNER, { type: "ack", position: at(1, 9) });
  say(restarts, OWNER, HOLDER, { type: "forget", share: "limited" });
  say(restarts, HOLDER, OWNER, { type: "forget_done", share: "limited" });
  return { restarts, oracle };
}

function at(epoch: number, seq: number, share = "limited") {
  return { hubId: "hub-1", share, epoch, seq, digest: new Uint8Array(32) };
}

function say(restarts: Restarts, from: number, to: number, frame: PeerFrame): void {
  restarts.sent(from, to, toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: frameToProto(frame, NONE) })));
}

function snapshot(epoch: number, asOfSeq: number, of = "limited"): PeerFrame {
  const digest = new Uint8Array(32);
  const hlc = { wallMs: 0, logical: 0 };
  const share = { hubId: "hub-1", share: of, epoch, asOfSeq };
  const manifest = segmentCodec.encodeManifest({ ...share, headDigest: digest, stateHash: digest, parts: [], keySerial: 1, hlc, nodes: 0 });
  return { type: "snapshot", manifest: segmentCodec.encodeSigned(manifest, new Uint8Array(64)) };
}

/** What the checker says when the hub comes back with that. */
function cameBackWith(restarts: Restarts, oracle: Oracle, epoch: number, seq: number): string[] {
  restarts.restarted(HOLDER, [{ head: at(epoch, seq), own: false } as unknown as FeedStatus]);
  return oracle.violations.map(({ text }) => text);
}

test("F-15 what was said to be forgotten and is there after a restart is noticed", () => {
  const { restarts, oracle } = forgotten();
  expect(cameBackWith(restarts, oracle, 1, 9)).toEqual(["hub-0 came back with limited 1/9 of hub-1, which it had told to be forgotten"]);
});

test("what its owner gave anew may be there before it was acknowledged", () => {
  const { restarts, oracle } = forgotten();
  say(restarts, OWNER, HOLDER, snapshot(2, 2));
  expect(cameBackWith(restarts, oracle, 2, 2)).toEqual([]);
});

test("a word to forget that was said twice is answered twice, the second time behind what its owner gave anew", () => {
  const { restarts, oracle } = forgotten();
  say(restarts, OWNER, HOLDER, snapshot(2, 2));
  say(restarts, HOLDER, OWNER, { type: "forget_done", share: "limited" });
  expect(cameBackWith(restarts, oracle, 2, 2)).toEqual([]);
  expect(cameBackWith(restarts, oracle, 1, 9)).toHaveLength(1);
});

test("what is older than what its owner gave anew is what was forgotten", () => {
  const { restarts, oracle } = forgotten();
  say(restarts, OWNER, HOLDER, snapshot(2, 2));
  expect(cameBackWith(restarts, oracle, 1, 9)).toHaveLength(1);
});

test("an acknowledgement that crosses the word to forget is no promise", () => {
  const oracle = new Oracle(new Scheduler(), 2);
  const restarts = new Restarts(oracle, ["hub-0", "hub-1"]);
  say(restarts, OWNER, HOLDER, { type: "forget", share: "limited" });
  say(restarts, HOLDER, OWNER, { type: "ack", position: at(1, 2) });
  restarts.restarted(HOLDER, []);
  expect(oracle.violations).toEqual([]);
  say(restarts, OWNER, HOLDER, snapshot(2, 1));
  say(restarts, HOLDER, OWNER, { type: "ack", position: at(2, 1) });
  restarts.restarted(HOLDER, []);
  expect(oracle.violations).toHaveLength(1);
});

test("a share that its owner gave in place of the acknowledged one may be there before it was acknowledged, at a lower position", () => {
  const oracle = new Oracle(new Scheduler(), 2);
  const restarts = new Restarts(oracle, ["hub-0", "hub-1"]);
  say(restarts, HOLDER, OWNER, { type: "ack", position: at(1, 5, "full") });
  expect(cameBackWith(restarts, oracle, 1, 1)).toEqual(["hub-0 came back with limited 1/1 of hub-1 after it had acknowledged full 1/5"]);
  say(restarts, OWNER, HOLDER, snapshot(1, 1));
  // This one crosses the snapshot.
  say(restarts, HOLDER, OWNER, { type: "ack", position: at(1, 6, "full") });
  expect(cameBackWith(restarts, oracle, 1, 1)).toHaveLength(1);
  expect(cameBackWith(restarts, oracle, 1, 0)).toHaveLength(2);
  // Once that is acknowledged, the share before must not come back.
  say(restarts, HOLDER, OWNER, { type: "ack", position: at(1, 1) });
  restarts.restarted(HOLDER, [{ head: at(1, 6, "full"), own: false } as unknown as FeedStatus]);
  expect(oracle.violations).toHaveLength(3);
});
