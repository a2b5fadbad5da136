import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { asBuffer, decodeAnswer, decodeMessage, useDecoder } from "#channel/messages.ts";
import { Inbound } from "#channel/streams.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { SessionRequestSchema } from "#gen/foedus/discovery/v1alpha1/session_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { toServiceDefinition } from "./definition.ts";

const deserialize = toServiceDefinition(DiscoveryService)["session"]!.requestDeserialize;

const announce = (software: string) =>
  asBuffer(toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: { frame: { case: "announce", value: { software } } } })));

/** sourceOf has what the transport made of these bytes, all of it at once, as one read of a socket brings it. */
function sourceOf(messages: readonly Buffer[]) {
  const waiting: unknown[] = messages.map((bytes) => deserialize(bytes));
  return { read: () => waiting.shift() ?? null, on: () => undefined };
}

test("F-6 a frame of a session is decoded when its reader takes it, not when it arrives", async () => {
  let decoded = 0;
  useDecoder(SessionRequestSchema, (bytes) => {
    decoded++;
    return fromBinary(SessionRequestSchema, bytes);
  });
  try {
    const inbound = new Inbound(sourceOf(Array.from({ length: 300 }, (_, i) => announce(`peer ${i}`))));
    expect(decoded).toBe(0);
    for (let i = 0; i < 3; i++)
      expect(await inbound.next()).toMatchObject({ done: false, value: { frame: { frame: { value: { software: `peer ${i}` } } } } });
    expect(decoded).toBe(3);
  } finally {
    useDecoder(SessionRequestSchema, () => undefined);
  }
});

test("F-6 bytes that are no frame end the stream when it comes to them, and what came before them counts", async () => {
  const inbound = new Inbound(sourceOf([announce("good"), Buffer.from([0xff, 0xff]), announce("late")]));
  expect(await inbound.next()).toMatchObject({ done: false });
  await expect(inbound.next()).rejects.toMatchObject({ failure: { reason: "INVALID_FIELD" } });
});

const JUNK = Buffer.from([0xff, 0xff]);

/** heard is what a reader gets of a stream in so many turns. */
async function heard(inbound: Inbound<unknown>, turns: number): Promise<string[]> {
  const all: string[] = [];
  for (let i = 0; i < turns; i++) all.push(await outcome(inbound.next()));
  return all;
}

function outcome(next: Promise<IteratorResult<unknown, undefined>>): Promise<string> {
  return next.then(
    ({ value, done }) =>
      done === true ? "end" : (value as { frame: { frame: { value: { software: string } } } }).frame.frame.value.software,
    (error: FoedusError) => error.failure.reason,
  );
}

/** feedOf is a transport that a test feeds by hand; a reader can wait for it. `open` makes a message when it is read. */
function feedOf(open: (bytes: Buffer) => unknown = deserialize) {
  const waiting: Buffer[] = [];
  let wake = (): void => undefined;
  const read = (): unknown => {
    const bytes = waiting.shift();
    return bytes === undefined ? null : open(bytes);
  };
  const on = (_event: "readable", listener: () => void): void => {
    wake = listener;
  };
  const feed = (...messages: Buffer[]): void => {
    waiting.push(...messages);
    wake();
  };
  return { read, on, feed };
}

/** How bytes that are no message are told: when they are read, when they arrive, or by a decoder that throws. */
const DECODERS = {
  sealed: (bytes: Buffer) => deserialize(bytes),
  "decoded on arrival": (bytes: Buffer) => decodeAnswer(DiscoveryService.method.session, bytes),
  "that throw": (bytes: Buffer) => decodeMessage(SessionRequestSchema, bytes),
};

describe.each(Object.entries(DECODERS))("H2-1 messages %s", (_how, open) => {
  test("a reader that waits gets the error of bytes that are no frame, and nothing of what came behind them", async () => {
    const source = feedOf(open);
    const inbound = new Inbound<unknown>(source);
    const first = outcome(inbound.next());
    source.feed(JUNK, announce("late 1"), announce("late 2"));
    expect(await first).toBe("INVALID_FIELD");
    source.feed(announce("late 3"));
    expect(await heard(inbound, 4)).toEqual(Array(4).fill("INVALID_FIELD"));
  });

  test("nor does one that comes when all of it is there already, or after the transport has ended", async () => {
    for (const ended of [false, true]) {
      const source = feedOf(open);
      const inbound = new Inbound<unknown>(source);
      source.feed(announce("good"), JUNK, announce("late"));
      if (ended) inbound.finish();
      expect(await heard(inbound, 4)).toEqual(["good", "INVALID_FIELD", "INVALID_FIELD", "INVALID_FIELD"]);
    }
  });
});

test("H2-1 a reader that left gets nothing more, whatever has arrived", async () => {
  const inbound = new Inbound<unknown>(sourceOf([announce("good"), announce("late")]));
  expect(await heard(inbound, 1)).toEqual(["good"]);
  await inbound.return();
  expect(await heard(inbound, 2)).toEqual(["end", "end"]);
});

test("H2-1 an end that comes while a message is read answers the waiting reader once, after what was there", async () => {
  const source = feedOf((bytes) => {
    inbound.finish();
    return deserialize(bytes);
  });
  const inbound: Inbound<unknown> = new Inbound<unknown>(source);
  const first = outcome(inbound.next());
  source.feed(announce("one"), announce("two"));
  expect([await first, ...(await heard(inbound, 2))]).toEqual(["one", "two", "end"]);
});
