import type { DescFile, DescMessage, DescService } from "@bufbuild/protobuf";
import { file_foedus_command_forwarding_v1alpha1_command_forwarding_service } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { SessionFrameSchema as CommandFrame } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { SessionControlSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { file_foedus_discovery_v1alpha1_discovery_service } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { SessionFrameSchema as DiscoveryFrame } from "#gen/foedus/discovery/v1alpha1/session_pb.ts";
import { file_foedus_hub_v1alpha1_hub_service } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { file_foedus_introduction_v1alpha1_introduction_service } from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { file_foedus_registry_sync_v1alpha1_registry_sync_service } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { SessionFrameSchema as RegistryFrame } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { file_foedus_telemetry_v1alpha1_telemetry_service } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";

/** FILES with services; a tidy test holds this list against the folder. */
export const FILES: readonly DescFile[] = [
  file_foedus_discovery_v1alpha1_discovery_service,
  file_foedus_registry_sync_v1alpha1_registry_sync_service,
  file_foedus_command_forwarding_v1alpha1_command_forwarding_service,
  file_foedus_telemetry_v1alpha1_telemetry_service,
  file_foedus_hub_v1alpha1_hub_service,
  file_foedus_introduction_v1alpha1_introduction_service,
];

/** SERVICES of the schema. */
export const SERVICES: readonly DescService[] = FILES.flatMap((file) => file.services);

/** FRAMES of sessions between hubs: every message that a `oneof frame` can hold, the envelope of the common frames left out. */
export const FRAMES: readonly DescMessage[] = [SessionControlSchema, DiscoveryFrame, RegistryFrame, CommandFrame].flatMap((envelope) =>
  envelope.oneofs.flatMap((oneof) =>
    oneof.fields.flatMap((field) => (field.message === undefined || field.message === SessionControlSchema ? [] : [field.message])),
  ),
);
