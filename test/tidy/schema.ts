import type { DescFile, DescMessage, DescService } from "@bufbuild/protobuf";
import { SessionControlSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { file_foedus_hub_v1alpha1_hub_service } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { file_foedus_introduction_v1alpha1_introduction_service } from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { SERVICES as NAMES, TABLE } from "../../services/hub/services.ts";

/** FILES with services; a tidy test holds this list against the folder. */
export const FILES: readonly DescFile[] = [
  ...NAMES.map((name) => TABLE[name].rpc.file),
  file_foedus_hub_v1alpha1_hub_service,
  file_foedus_introduction_v1alpha1_introduction_service,
];

/** SERVICES of the schema. */
export const SERVICES: readonly DescService[] = FILES.flatMap((file) => file.services);

/** framesOf are the envelopes of the frames of a service's sessions, which stand in a file that its own imports. */
const framesOf = (file: DescFile): DescMessage[] =>
  file.dependencies.flatMap(({ messages }) => messages.filter(({ name }) => name === "SessionFrame"));

/** FRAMES of sessions between hubs: every message that a `oneof frame` can hold, the envelope of the common frames left out. */
export const FRAMES: readonly DescMessage[] = [SessionControlSchema, ...FILES.flatMap(framesOf)].flatMap((envelope) =>
  envelope.oneofs.flatMap((oneof) =>
    oneof.fields.flatMap((field) => (field.message === undefined || field.message === SessionControlSchema ? [] : [field.message])),
  ),
);
