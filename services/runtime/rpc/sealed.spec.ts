import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { SessionRequestSchema } from "#gen/foedus/discovery/v1alpha1/session_pb.ts";
import { asBuffer, toServiceDefinition, useDecoder } from "./definition.ts";
import { Inbound } from "./streams.ts";

const announce = (software: string) =>
  asBuffer(toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: { frame: { case: "announce", value: { software } } } })));

/** sourceOf has what the transport made of these bytes, all of it at once, as one read of a socket brings it. */
function sourceOf(messages: readonly Buffer[]) {
  const deserialize = toServiceDefinition(DiscoveryService)["session"]!.requestDeserialize;
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
