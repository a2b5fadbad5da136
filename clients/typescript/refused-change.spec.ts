import { create, fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type ClientOf, RawMessage } from "#channel/call.ts";
import { failureToProto } from "#channel/failure.ts";
import {
  type RegistrySyncService,
  type UpdateStateRequest,
  UpdateStateRequestSchema,
  type UpdateStateResponse,
  UpdateStateResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { Updater } from "./updater.ts";

const settle = async (): Promise<void> => {
  for (let i = 0; i < 200; i++) await Promise.resolve();
};

test("a refusal of a change that is not in the batch is no reason to send the batch again at once", async () => {
  const sent: UpdateStateRequest["frame"][] = [];
  const clock = new ManualClock();
  let wake = Promise.withResolvers<void>();
  const say = (frame: UpdateStateResponse["frame"]): void => {
    answers.push(create(UpdateStateResponseSchema, { frame }));
    wake.resolve();
  };
  const answers: UpdateStateResponse[] = [];
  async function* responses(): AsyncGenerator<UpdateStateResponse> {
    for (;;) {
      const next = answers.shift();
      if (next !== undefined) yield next;
      else await wake.promise;
      wake = Promise.withResolvers();
    }
  }
  const failure = failureToProto({ reason: "INVALID_FIELD", message: "no" });
  const send = (message: UpdateStateRequest | RawMessage): boolean => {
    const { frame } = message instanceof RawMessage ? fromBinary(UpdateStateRequestSchema, message.bytes) : message;
    sent.push(frame);
    if (frame.case === "bind") say({ case: "bound", value: { id: frame.value.id, refs: [1], krefs: [1] } as never });
    else if (frame.case === "batch") say({ case: "refused", value: { seq: frame.value.seq, index: 1, failure } as never });
    return true;
  };
  const updateState = () => ({ send, responses: responses(), opened: Promise.resolve(), cancel: () => undefined });
  const told: unknown[] = [];
  const updater = new Updater({ updateState } as never as ClientOf<typeof RegistrySyncService>, {
    clock,
    onRefused: (refusal) => told.push(refusal),
  });
  updater.set("a", "k", 1);
  const batches = () => sent.filter((frame) => frame.case === "batch").length;
  for (let i = 0; i < 10; i++) {
    clock.turn();
    await settle();
  }
  expect([batches(), told]).toEqual([1, []]);
  clock.advance(200);
  await settle();
  expect([batches(), updater.pending]).toEqual([2, 1]);
  updater.close();
});
