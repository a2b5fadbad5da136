import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import type { SessionControl } from "#gen/foedus/common/v1/session_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type SessionFrame,
  SessionFrameSchema,
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  SessionResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Failure, FoedusError } from "#kernel/error.ts";
import { type DuplexPair, duplexPair } from "../../../test/fakes/duplex-pair.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { sessionCodec } from "./session-codec.ts";
import { acceptSession, dialSession } from "./session-ends.ts";
import type { SessionHandlers, SessionStream } from "./session-stream.ts";

const WINDOW = 64 * 1024;
const codec = sessionCodec<SessionFrame>(RegistrySyncService.method.session);
const segment = (bytes: number): SessionFrame =>
  create(SessionFrameSchema, { frame: { case: "segment", value: { segment: new Uint8Array(bytes).fill(7) } } });

/** turn lets everything happen that needs no time. */
async function turn(clock: ManualClock): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.turn();
  }
}

interface End {
  stream: SessionStream<SessionFrame>;
  readonly frames: { readonly frame: SessionFrame; readonly bytes: number }[];
  readonly controls: string[];
  readonly failures: Failure[];
  readonly ended: Failure[];
  credits: number;
  refuse: Failure | undefined;
  hold: Promise<void> | undefined;
}

function newEnd(): End {
  return {
    stream: undefined as unknown as SessionStream<SessionFrame>,
    frames: [],
    controls: [],
    failures: [],
    ended: [],
    credits: 0,
    refuse: undefined,
    hold: undefined,
  };
}

function handlers(end: End): SessionHandlers<SessionFrame> {
  return {
    onControl: (control: SessionControl) => {
      end.controls.push(control.frame.case ?? "");
      if (control.frame.case === "terminated") end.stream.close({ reason: "TERMINATED", message: "told" }, false);
    },
    check: () => end.refuse,
    onFrame: (frame, bytes) => {
      end.frames.push({ frame, bytes });
      return end.hold;
    },
    onCredit: () => void end.credits++,
    onViolation: (failure) => {
      end.failures.push(failure);
      end.stream.close(failure, false);
    },
    onEnd: (failure) => void end.ended.push(failure),
  };
}

interface Pair {
  readonly clock: ManualClock;
  readonly log: ReturnType<typeof memoryLogger>;
  readonly wire: DuplexPair<SessionRequest, SessionResponse>;
  readonly dialer: End;
  readonly acceptor: End;
  readonly done: Promise<unknown>;
}

async function pair(open = true): Promise<Pair> {
  const clock = new ManualClock();
  const log = memoryLogger();
  const wire = duplexPair<SessionRequest, SessionResponse>(RegistrySyncService.method.session);
  const [dialer, acceptor] = [newEnd(), newEnd()];
  const options = { codec, clock, log, windowBytes: WINDOW };
  dialer.stream = dialSession(wire.client, handlers(dialer), options);
  const accepted = acceptSession(wire.requests, wire.out, handlers(acceptor), options);
  acceptor.stream = accepted.stream;
  wire.serve(accepted.done);
  const done = accepted.done.then(
    () => "done",
    (error: FoedusError) => error.failure,
  );
  if (open) for (const end of [dialer, acceptor]) end.stream.sendControl({ case: "open", value: { hubId: "x" } });
  await turn(clock);
  return { clock, log, wire, dialer, acceptor, done };
}

describe("session stream", () => {
  test("the bytes of a request are those of the response", () => {
    const bytes = codec.encode(segment(100));
    expect(bytes).toEqual(Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: segment(100) }))));
    expect(fromBinary(SessionResponseSchema, bytes).frame?.frame.case).toBe("segment");
  });

  test("S0-5 frames go both ways, encoded once or not", async () => {
    const { clock, dialer, acceptor } = await pair();
    const raw = new RawMessage(codec.encode(segment(10)));
    for (const { stream } of [dialer, acceptor]) {
      expect(stream.send(segment(10))).toBe(true);
      expect(stream.send(raw)).toBe(true);
    }
    await turn(clock);
    for (const { frames } of [dialer, acceptor]) {
      expect(frames.map(({ frame }) => frame.frame.case)).toEqual(["segment", "segment"]);
      expect(frames.map(({ bytes }) => bytes)).toEqual([raw.bytes.length, raw.bytes.length]);
    }
    expect(dialer.stream.counters).toMatchObject({ framesOut: 3, framesIn: 3 });
    expect(dialer.stream.counters.bytesOut).toBe(acceptor.stream.counters.bytesIn);
  });

  test("nothing of the service is sent before the other side's open gives credit", async () => {
    const { clock, dialer, acceptor } = await pair(false);
    expect(dialer.stream.writable).toBe(false);
    expect(dialer.stream.send(segment(10))).toBe(true);
    await turn(clock);
    expect(acceptor.frames).toEqual([]);
    acceptor.stream.sendControl({ case: "open", value: {} });
    await turn(clock);
    expect(acceptor.frames.length).toBe(1);
    expect(dialer.credits).toBe(1);
  });

  test("D-21 a slow consumer stops the sender at one window, common frames still come through, and credit starts it again", async () => {
    const { clock, dialer, acceptor } = await pair();
    const gate = Promise.withResolvers<void>();
    acceptor.hold = gate.promise;
    let sent = 0;
    while (dialer.stream.send(segment(10_000))) sent++;
    await turn(clock);
    // One window was on credit (with one frame of overshoot), another waits at the sender.
    expect(dialer.stream.counters.bytesOut).toBeLessThan(WINDOW + 11_000);
    expect(sent * 10_000).toBeLessThanOrEqual(2 * WINDOW + 11_000);
    expect(dialer.stream.writable).toBe(false);
    expect(acceptor.frames.length).toBe(1);
    dialer.stream.sendControl({ case: "ping", value: { n: 1n } });
    await turn(clock);
    expect(acceptor.controls).toEqual(["open", "ping"]);
    acceptor.hold = undefined;
    gate.resolve();
    await turn(clock);
    expect(acceptor.frames.length).toBe(sent);
    expect(dialer.stream.writable).toBe(true);
    expect(dialer.credits).toBeGreaterThan(0);
    expect(dialer.stream.counters.stalls).toBe(1);
    expect(acceptor.failures).toEqual([]);
  });

  test("a sender that ignores credit is ended", async () => {
    const { clock, wire, acceptor, dialer } = await pair();
    acceptor.hold = new Promise(() => undefined);
    for (let i = 0; i < 10; i++) wire.client.send(new RawMessage(codec.encode(segment(10_000))));
    await turn(clock);
    expect(acceptor.failures[0]?.reason).toBe("LIMIT_EXCEEDED");
    expect(dialer.ended[0]?.reason).toBe("LIMIT_EXCEEDED");
  });

  test.each([1_000, 10_000, 60_000, 250_000])("credit may be overdrawn by one frame, of %i bytes, and not by a second", async (bytes) => {
    const { clock, wire, acceptor } = await pair();
    acceptor.hold = new Promise(() => undefined);
    const raw = new RawMessage(codec.encode(segment(bytes)));
    const allowed = Math.ceil(WINDOW / raw.bytes.length);
    for (let n = 0; n < allowed; n++) wire.client.send(raw);
    await turn(clock);
    expect(acceptor.failures).toEqual([]);
    wire.client.send(raw);
    await turn(clock);
    expect(acceptor.failures.map(({ reason }) => reason)).toEqual(["LIMIT_EXCEEDED"]);
  });

  test("a reader with a small window gives credit as often as it must: Credit is not among the few common frames", async () => {
    const { clock, wire, dialer, acceptor } = await pair();
    for (let n = 0; n < 1_000; n++)
      wire.client.send(new RawMessage(codec.encode(codec.control({ frame: { case: "credit", value: { bytes: 64 } } }))));
    await turn(clock);
    expect([...acceptor.failures, ...dialer.ended]).toEqual([]);
    expect(acceptor.stream.writable).toBe(true);
  });

  test("B0-6 a frame that is too large neither leaves nor enters; snapshot parts may be larger", async () => {
    const { clock, wire, log, dialer, acceptor } = await pair();
    expect(dialer.stream.send(segment(300_000))).toBe(false);
    expect(log.lines.at(-1)?.message).toBe("frame is too large and was not sent");
    expect(
      dialer.stream.send(
        create(SessionFrameSchema, { frame: { case: "snapshotPart", value: { index: 1, data: new Uint8Array(1024 * 1024) } } }),
      ),
    ).toBe(true);
    await turn(clock);
    expect(acceptor.frames.map(({ frame }) => frame.frame.case)).toEqual(["snapshotPart"]);
    wire.client.send(new RawMessage(codec.encode(segment(300_000))));
    await turn(clock);
    expect(acceptor.failures[0]?.reason).toBe("MESSAGE_TOO_LARGE");
  });

  test("a flood of pings is ended", async () => {
    const { clock, dialer, acceptor } = await pair();
    for (let n = 0; n < 100; n++) dialer.stream.sendControl({ case: "ping", value: { n: BigInt(n) } });
    await turn(clock);
    expect(acceptor.failures[0]?.reason).toBe("RATE_LIMITED");
  });

  test("S0-18 a refused frame and one that is unknown end the stream", async () => {
    const { clock, dialer, acceptor } = await pair();
    acceptor.refuse = { reason: "TRUST_TOO_LOW", message: "no" };
    dialer.stream.send(segment(1));
    await turn(clock);
    expect(acceptor.frames).toEqual([]);
    expect(dialer.ended[0]?.reason).toBe("TRUST_TOO_LOW");
    const other = await pair();
    other.wire.client.send(new RawMessage(Buffer.alloc(0)));
    await turn(other.clock);
    expect(other.acceptor.failures[0]?.reason).toBe("INVALID_FIELD");
  });

  test.each(["dialer", "acceptor"] as const)(
    "H2-2 %s: bytes that are no frame break the rules, and the other side is told",
    async (who) => {
      const { clock, wire, dialer, acceptor, done } = await pair();
      const [one, other] = who === "dialer" ? [dialer, acceptor] : [acceptor, dialer];
      const out = who === "dialer" ? wire.out : wire.client;
      out.send(new RawMessage(Buffer.from([0xff, 0xff])));
      out.send(new RawMessage(codec.encode(segment(1))));
      await turn(clock);
      expect(one.failures.map(({ reason }) => reason)).toEqual(["INVALID_FIELD"]);
      expect(one.frames).toEqual([]);
      expect(other.controls).toEqual(["open", "terminated"]);
      expect(other.ended.map(({ reason }) => reason)).toEqual(["INVALID_FIELD"]);
      // A dialer reads no more, and so does not see that the call ends; it gives the acceptor the time to hear why.
      clock.advance(5_000);
      await turn(clock);
      expect(one.ended.map(({ reason }) => reason)).toEqual(["INVALID_FIELD"]);
      await done;
      expect(clock.pending).toBe(0);
    },
  );

  test("H2-2 nothing behind a frame that broke the rules is taken, and it is one violation however much follows", async () => {
    const { clock, wire, acceptor, dialer } = await pair();
    for (const bytes of [300_000, 1, 300_000]) wire.client.send(new RawMessage(codec.encode(segment(bytes))));
    await turn(clock);
    expect(acceptor.failures.map(({ reason }) => reason)).toEqual(["MESSAGE_TOO_LARGE"]);
    expect(acceptor.frames).toEqual([]);
    expect(dialer.ended.map(({ reason }) => reason)).toEqual(["MESSAGE_TOO_LARGE"]);
  });

  test.each(["dialer", "acceptor"] as const)("the %s says TERMINATED after everything else, and both ends know why", async (who) => {
    const { clock, dialer, acceptor, done } = await pair();
    const [one, other] = who === "dialer" ? [dialer, acceptor] : [acceptor, dialer];
    one.stream.send(segment(1000));
    one.stream.close({ reason: "SHUTTING_DOWN", message: "good night" }, true);
    expect(one.stream.send(segment(1))).toBe(false);
    await turn(clock);
    expect(other.frames.length).toBe(1);
    expect(other.controls.at(-1)).toBe("terminated");
    expect(one.controls).toEqual(["open"]);
    expect(one.ended).toEqual([{ reason: "SHUTTING_DOWN", message: "good night" }]);
    expect(other.ended).toEqual([{ reason: "SHUTTING_DOWN", message: "good night" }]);
    expect(await done).toBe("done");
    expect(clock.pending).toBe(0);
  });

  test("a peer that does not finish is cut after 5 s", async () => {
    const { clock, wire, dialer, acceptor, done } = await pair();
    wire.silence();
    dialer.stream.close({ reason: "PEER_UNREACHABLE", message: "silent" }, true);
    acceptor.stream.close({ reason: "PEER_UNREACHABLE", message: "silent" }, true);
    await turn(clock);
    expect(dialer.ended).toEqual([]);
    clock.advance(5_000);
    await turn(clock);
    expect(dialer.ended.length).toBe(1);
    expect(acceptor.ended.length).toBe(1);
    expect(await done).toMatchObject({ reason: "PEER_UNREACHABLE" });
  });

  test("a dialer that has finished and does not read keeps its call for 5 s and no longer", async () => {
    const { clock, wire, acceptor, done } = await pair();
    let over = false;
    void done.then(() => {
      over = true;
    });
    wire.out.stuck = true;
    wire.out.send(new RawMessage(codec.encode(segment(300 * 1024))));
    wire.client.end();
    await turn(clock);
    expect(acceptor.ended.length).toBe(1);
    clock.advance(4_900);
    await turn(clock);
    expect(over).toBe(false);
    clock.advance(100);
    await turn(clock);
    expect(await Promise.race([done, Promise.resolve("still open")])).toMatchObject({ reason: "DEADLINE_EXPIRED" });
    expect(clock.pending).toBe(0);
  });

  test("a lost connection and a wordless end have a reason, and S0-9 sending answers false", async () => {
    const lost = await pair();
    lost.wire.cut();
    await turn(lost.clock);
    expect(lost.dialer.ended).toMatchObject([{ reason: "PEER_UNREACHABLE", message: "the connection is gone" }]);
    expect(lost.dialer.stream.send(segment(1))).toBe(false);
    expect(lost.dialer.stream.sendControl({ case: "ping", value: {} })).toBe(false);
    const wordless = await pair();
    wordless.wire.client.end();
    await turn(wordless.clock);
    expect(wordless.acceptor.ended).toMatchObject([{ reason: "PEER_UNREACHABLE" }]);
    const broken = create(SessionFrameSchema, { frame: { case: "segment", value: { segment: "no bytes" as unknown as Uint8Array } } });
    expect((await pair()).dialer.stream.send(broken)).toBe(false);
  });

  test("a consumer that fails ends the stream and not the process", async () => {
    const { clock, log, dialer, acceptor } = await pair();
    acceptor.hold = Promise.reject(new Error("bug"));
    dialer.stream.send(segment(1));
    await turn(clock);
    expect(dialer.ended[0]?.reason).toBe("INTERNAL");
    expect(log.lines.some(({ message }) => message === "frame could not be handled")).toBe(true);
  });
});
