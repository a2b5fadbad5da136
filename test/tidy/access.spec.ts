import { getOption, hasOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { needsValidation } from "#channel/validation.ts";
import { access, frame_access, Principal } from "#gen/foedus/common/v1/access_pb.ts";
import { HelloRequestSchema, RefreshRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { costlyFields } from "#runtime/rpc/interceptors/rate.ts";
import { filesUnder, read } from "./files.ts";
import { FILES, FRAMES, SERVICES } from "./schema.ts";

describe("who may call what stands in the schema", () => {
  test("the check sees every service of the schema", () => {
    const withServices = filesUnder("proto/foedus", (path) => path.endsWith(".proto") && /^service \w+/m.test(read(path)));
    expect(FILES.map((file) => `proto/${file.name}.proto`).sort()).toEqual(withServices.sort());
    expect(SERVICES.flatMap((service) => service.methods).length).toBeGreaterThanOrEqual(30);
    expect(FRAMES.length).toBeGreaterThan(15);
  });

  test("every RPC names the principals that may call it", () => {
    const open = SERVICES.flatMap((service) => service.methods).filter(
      (method) => !hasOption(method, access) || getOption(method, access).principals.length === 0,
    );
    expect(open.map((method) => `${method.parent.name}.${method.name}`)).toEqual([]);
  });

  test("every frame between hubs is for peers only and states the trust it needs", () => {
    const wrong = FRAMES.filter((frame) => {
      const rule = getOption(frame, frame_access);
      return !hasOption(frame, frame_access) || rule.minTrust === 0 || rule.principals.join() !== String(Principal.PEER);
    });
    expect(wrong.map((frame) => frame.typeName)).toEqual([]);
  });

  test("an RPC that peers may call states the trust it needs, or is called before trust is decided", () => {
    const wrong = SERVICES.flatMap((service) => service.methods).filter((method) => {
      const rule = getOption(method, access);
      return rule.principals.includes(Principal.PEER) && rule.minTrust === 0 && !rule.tokenless;
    });
    expect(wrong.map((method) => method.name)).toEqual([]);
  });

  test("A8 what comes several times in a request of another hub is paid for each time, or costs next to nothing", () => {
    const cheap = ["HelloRequest.packages", "HelloRequest.endpoints"];
    const open = SERVICES.flatMap((service) => service.methods).filter((method) => {
      const { principals } = getOption(method, access);
      return principals.includes(Principal.PEER) || principals.includes(Principal.STRANGER);
    });
    const requests = [...new Set(open.filter((method) => needsValidation(method)).map(({ input }) => input))];
    const free = requests.flatMap((input) =>
      input.fields
        .filter((field) => field.fieldKind === "list" && !costlyFields(input).includes(field.localName))
        .map((field) => `${input.name}.${field.localName}`),
    );
    expect(requests.map(({ name }) => name)).toContain("HelloRequest");
    expect(free).toEqual(cheap);
    expect(costlyFields(HelloRequestSchema)).toEqual(["leaves"]);
    expect(costlyFields(RefreshRequestSchema)).toEqual(["leaves"]);
  });

  test("only Hello, and what an installation asks before it acts, is open to peers without a token", () => {
    const tokenless = SERVICES.flatMap((service) => service.methods).filter((method) => getOption(method, access).tokenless);
    expect(tokenless.map((method) => method.name)).toEqual(["Hello", "GetDialled"]);
  });

  test("only the introduction door is open to strangers, and to nobody else", () => {
    const open = SERVICES.flatMap((service) => service.methods).filter((method) =>
      getOption(method, access).principals.includes(Principal.STRANGER),
    );
    expect(open.map((method) => `${method.parent.name}.${method.name}`)).toEqual([
      "IntroductionService.Begin",
      "IntroductionService.Introduce",
    ]);
    expect(open.map((method) => getOption(method, access).principals)).toEqual([[Principal.STRANGER], [Principal.STRANGER]]);
  });

  test("every unary RPC says whether it may be repeated, except those that act", () => {
    const unknown = SERVICES.flatMap((service) => service.methods).filter(
      (method) => method.methodKind === "unary" && method.idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
    );
    expect(unknown.map((method) => method.name)).toEqual([
      ...["Execute", "ChangeValue", "AdmitMember", "RemoveMember", "OpenBallot", "RequestResource", "AnswerRequest", "MigrateAgent"],
    ]);
  });

  test("streams that live as long as a connection say so", () => {
    const streams = SERVICES.flatMap((service) => service.methods).filter((method) => method.methodKind !== "unary");
    expect(streams.filter((method) => !getOption(method, access).longLived).map((method) => method.name)).toEqual([]);
  });
});
