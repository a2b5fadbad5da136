import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { DiscoveryService, HelloRequestSchema, HelloResponseSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import {
  RegistrySyncService,
  WatchRequestSchema,
  WatchResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { createClient } from "./client/client.ts";

/** A server that answers with bytes as they are: what a peer with other intentions would do. */
let answer: Uint8Array = new Uint8Array(0);
const cancelled = Promise.withResolvers<void>();
const server = new grpc.Server();
let address = "";

beforeAll(async () => {
  const raw = (method: { parent: { typeName: string }; name: string }, responseStream: boolean) => ({
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream,
    requestDeserialize: (bytes: Buffer) => bytes,
    requestSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
  });
  server.addService(
    { hello: raw(DiscoveryService.method.hello, false), watch: raw(RegistrySyncService.method.watch, true) } as never,
    {
      hello: (_call: unknown, done: grpc.sendUnaryData<Buffer>) => done(null, Buffer.from(answer)),
      watch: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        call.on("cancelled", () => cancelled.resolve());
        call.write(Buffer.from(answer));
      },
    } as never,
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  address = `127.0.0.1:${port}`;
});
afterAll(() => server.forceShutdown());

const options = () => ({ address, credentials: grpc.credentials.createInsecure(), clock: systemClock });

async function refusal(call: Promise<unknown>): Promise<FoedusError["failure"]> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof FoedusError)) throw new Error(`not refused: ${String(error)}`);
  return error.failure;
}

describe("answers are judged by the schema as requests are", () => {
  test.each([
    ["endpoints", { endpoints: Array.from({ length: 2_600 }, () => ({ service: "discovery", host: "h", port: 1 })) }],
    ["wall_ms", { wallMs: -(2n ** 63n) }],
    ["incarnation", { incarnation: 2n ** 64n - 1n }],
    ["tokens[0].expires_in_ms", { tokens: [{ expiresInMs: -1n }] }],
    ["hub_id", { hubId: "x".repeat(64) }],
  ])("S-9 F-3 a Hello is not taken if its %s is out of bounds", async (field, hello) => {
    const client = createClient(DiscoveryService, options());
    answer = toBinary(HelloResponseSchema, create(HelloResponseSchema, hello));
    const failure = await refusal(client.hello(create(HelloRequestSchema, { hubId: "a" })));
    expect(failure).toMatchObject({ reason: "INVALID_FIELD", field, message: expect.stringContaining("the answer of Hello") });
    answer = toBinary(HelloResponseSchema, create(HelloResponseSchema, { hubId: "b" }));
    await expect(client.hello(create(HelloRequestSchema, { hubId: "a" }))).resolves.toMatchObject({ hubId: "b" });
    client.close();
  });

  test("bytes that are no message are the server's fault, and named as such", async () => {
    const client = createClient(DiscoveryService, options());
    answer = Uint8Array.of(0x0a, 0xff);
    expect(await refusal(client.hello(create(HelloRequestSchema, { hubId: "a" })))).toMatchObject({ reason: "INVALID_FIELD" });
    client.close();
  });

  test("a stream ends with the field that broke a rule, and is given up", async () => {
    const client = createClient(RegistrySyncService, options());
    const position = { hubId: "b", share: "full", epoch: 2n ** 63n };
    answer = toBinary(WatchResponseSchema, create(WatchResponseSchema, { push: { case: "reset", value: { position } } }));
    const read = async (): Promise<void> => {
      for await (const _ of client.watch(create(WatchRequestSchema, {}))) throw new Error("a broken answer was given out");
    };
    expect(await refusal(read())).toMatchObject({ reason: "INVALID_FIELD", field: "reset.position.epoch" });
    await cancelled.promise;
    client.close();
  });
});
