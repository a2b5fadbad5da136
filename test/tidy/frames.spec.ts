import { getOption } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { CostClass, frame_access } from "#gen/foedus/common/v1/access_pb.ts";
import { FRAMES, SERVICES } from "./schema.ts";

/** Where each of the seven messages of the first federation protocol went. */
const SEVEN: Readonly<Record<string, readonly string[]>> = {
  FEDERATION_HELLO: ["SessionOpen"],
  FEDERATION_SYNC: ["FeedOffer", "FeedOpen", "Segment", "Snapshot", "SnapshotPart", "Ack", "Nack", "Forget", "ForgetDone"],
  FEDERATION_COMMAND: ["Invocations"],
  FEDERATION_RESPONSE: ["Results"],
  FEDERATION_STATE: ["Segment"],
  FEDERATION_PING: ["Ping"],
  FEDERATION_PONG: ["Pong"],
};

/** Frames without a counterpart there: flow control, token renewal, an end that is said, news of the sender. */
const FURTHER = ["Credit", "Refresh", "Terminated", "Announce"];

/** Who speaks what that protocol had. A service that came later says on its sessions what it had not. */
const HEIRS = /^foedus\/(?:common|discovery|registry_sync|command_forwarding)\//;

describe("what hubs say to each other", () => {
  test("S0-18 S0-4 the seven messages are frames of the schema, and there is no frame that has no purpose here", () => {
    const names = new Set(FRAMES.filter(({ file }) => HEIRS.test(file.name)).map(({ name }) => name));
    const known = new Set([...Object.values(SEVEN).flat(), ...FURTHER]);
    expect([...names].filter((name) => !known.has(name))).toEqual([]);
    expect([...known].filter((name) => !names.has(name))).toEqual([]);
    expect(SERVICES.flatMap(({ methods }) => methods).some(({ name }) => name === "Hello")).toBe(true);
  });

  test("F-6 every frame of a service states what it costs: cheap is only what carries data and has its bytes bounded by credit", () => {
    const own = FRAMES.filter((frame) => frame.file.name !== "foedus/common/v1/session");
    expect(own.length).toBeGreaterThan(10);
    const costs = own.map((frame) => [frame.name, getOption(frame, frame_access).cost] as const);
    expect(costs.filter(([, cost]) => cost === CostClass.UNSPECIFIED)).toEqual([]);
    const cheap = costs.filter(([, cost]) => cost === CostClass.CHEAP).map(([name]) => name);
    expect(cheap.sort()).toEqual([
      "Ack",
      "EngineFrame",
      "Invocations",
      "LogDeclined",
      "LogPropose",
      "MigrationParcel",
      "ReadAnswer",
      "ReadAsk",
      "Results",
      "Segment",
      "SnapshotPart",
    ]);
  });

  test("S0-14 S0-15 S0-16 S0-17 the fields of the seed are there, under the names of this schema", () => {
    const fields = (name: string): string[] =>
      FRAMES.find((frame) => frame.name === name)!.fields.flatMap((field) => [
        field.name,
        ...(field.message?.fields.map((inner) => inner.name) ?? []),
      ]);
    expect(fields("Invocations")).toEqual(expect.arrayContaining(["node_id", "capability", "value"]));
    expect(fields("Results")).toEqual(expect.arrayContaining(["outcome", "value", "failure"]));
  });
});
