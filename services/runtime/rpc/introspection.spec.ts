import { create, createFileRegistry, type DescMethod, fromBinary, getOption } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { access, Principal, TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import {
  Health,
  HealthCheckRequestSchema,
  HealthListRequestSchema,
  HealthCheckResponse_ServingStatus as Serving,
} from "#gen/grpc/health/v1/health_pb.ts";
import { ServerReflection, ServerReflectionRequestSchema, type ServerReflectionResponse } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import {
  ServerReflection as AlphaReflection,
  ServerReflectionRequestSchema as AlphaRequestSchema,
} from "#gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { collect, type Fixture, failureOfCall, serve, until } from "../../../test/rpc/fixture.ts";
import { type Credential, testHub } from "../../../test/testca/index.ts";
import { type ClientOptions, createClient } from "./client/client.ts";

let fixture: Fixture;
let operator: Credential;
let options: ClientOptions;
const closing: { close(): void }[] = [];

beforeAll(async () => {
  const alpha = await testHub("alpha");
  fixture = await serve(alpha, []);
  operator = alpha.operator("ada", "viewer");
  options = { address: `127.0.0.1:${fixture.port}`, credentials: fixture.credentials(operator), clock: systemClock };
});
afterAll(async () => {
  for (const client of closing) client.close();
  await fixture.close();
});

describe("reflection", () => {
  type Ask = Parameters<typeof create<typeof ServerReflectionRequestSchema>>[1];
  const ask = async (request: Ask): Promise<ServerReflectionResponse["messageResponse"]> => {
    const client: ClientOf<typeof ServerReflection> = createClient(ServerReflection, options);
    closing.push(client);
    const call = client.serverReflectionInfo();
    call.send(create(ServerReflectionRequestSchema, request));
    call.end();
    return (await collect(call.responses))[0]!.messageResponse;
  };

  test("lists the services, ours and its own", async () => {
    const answer = await ask({ messageRequest: { case: "listServices", value: "" } });
    expect(answer.value).toMatchObject({
      service: [
        { name: "foedus.test.v1.EchoService" },
        { name: "grpc.health.v1.Health" },
        { name: "grpc.reflection.v1.ServerReflection" },
        { name: "grpc.reflection.v1alpha.ServerReflection" },
      ],
    });
  });

  test.each(["foedus.test.v1.EchoService", "foedus.test.v1.EchoService.Reset", "foedus.test.v1.EchoRequest"])(
    "keeps custom options: %s",
    async (symbol) => {
      const answer = await ask({ messageRequest: { case: "fileContainingSymbol", value: symbol } });
      if (answer.case !== "fileDescriptorResponse") throw new Error(`answered with ${answer.case}`);
      const files = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
      const registry = createFileRegistry(files[0]!, (name) => files.find((file) => file.name === name));
      const echo = registry.getService("foedus.test.v1.EchoService")?.methods[0] as DescMethod;
      const rule = getOption(echo, access);
      expect(rule.principals).toContain(Principal.GATEWAY);
      expect(rule.minTrust).toBe(TrustLevel.LIMITED);
    },
  );

  test("files by name, extensions and what does not exist", async () => {
    expect((await ask({ messageRequest: { case: "fileByFilename", value: "foedus/test/v1/echo_service.proto" } })).case).toBe(
      "fileDescriptorResponse",
    );
    expect(
      (
        await ask({
          messageRequest: {
            case: "fileContainingExtension",
            value: { containingType: "google.protobuf.MethodOptions", extensionNumber: 50610 },
          },
        })
      ).case,
    ).toBe("fileDescriptorResponse");
    expect(
      (await ask({ messageRequest: { case: "allExtensionNumbersOfType", value: "google.protobuf.MethodOptions" } })).value,
    ).toMatchObject({ extensionNumber: [50610] });
    expect((await ask({ messageRequest: { case: "fileByFilename", value: "nope.proto" } })).value).toMatchObject({ errorCode: 5 });
    expect((await ask({})).value).toMatchObject({ errorCode: 3 });
  });

  test.each(["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo", "google.rpc.Status"])(
    "knows the details of errors, which no RPC names: %s",
    async (symbol) => {
      const answer = await ask({ messageRequest: { case: "fileContainingSymbol", value: symbol } });
      if (answer.case !== "fileDescriptorResponse") throw new Error(`answered with ${answer.case}`);
      const files = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
      const registry = createFileRegistry(files[0]!, (name) => files.find((file) => file.name === name));
      expect(registry.getMessage(symbol)?.fields.length).toBeGreaterThan(0);
    },
  );

  test("v1alpha answers too", async () => {
    const client = createClient(AlphaReflection, options);
    closing.push(client);
    const call = client.serverReflectionInfo();
    call.send(create(AlphaRequestSchema, { messageRequest: { case: "fileContainingSymbol", value: "foedus.test.v1.EchoService" } }));
    call.end();
    const [answer] = await collect(call.responses);
    expect(answer?.messageResponse.case).toBe("fileDescriptorResponse");
  });
});

describe("health", () => {
  const service = "foedus.test.v1.EchoService";

  test("check, list and an unknown service", async () => {
    const client = createClient(Health, options);
    closing.push(client);
    fixture.server.health.set("", true);
    expect((await client.check(create(HealthCheckRequestSchema))).status).toBe(Serving.SERVING);
    expect((await client.check(create(HealthCheckRequestSchema, { service }))).status).toBe(Serving.NOT_SERVING);
    expect(Object.keys((await client.list(create(HealthListRequestSchema))).statuses)).toEqual(["", service]);
    expect(await failureOfCall(client.check(create(HealthCheckRequestSchema, { service: "nope" })))).toMatchObject({
      message: "unknown service",
      facts: { grpc_code: "NOT_FOUND" },
    });
  });

  test("watch tells every change, also of a service that is unknown at first", async () => {
    const client = createClient(Health, options);
    closing.push(client);
    const controller = new AbortController();
    const watch = (name: string) =>
      client.watch(create(HealthCheckRequestSchema, { service: name }), { signal: controller.signal })[Symbol.asyncIterator]();
    const [known, later] = [watch(service), watch("later")];
    expect((await known.next()).value?.status).toBe(Serving.NOT_SERVING);
    expect((await later.next()).value?.status).toBe(Serving.SERVICE_UNKNOWN);
    fixture.server.health.set(service, true);
    fixture.server.health.set(service, true);
    fixture.server.health.set("later", true);
    fixture.server.health.set(service, false);
    expect((await later.next()).value?.status).toBe(Serving.SERVING);
    expect((await known.next()).value?.status).toBe(Serving.SERVING);
    expect((await known.next()).value?.status).toBe(Serving.NOT_SERVING);
    controller.abort();
    await until(() => fixture.server.calls === 0);
  });
});
