// Messages and services of the schema, by package: to make requests for `Hub.clients` and to read what they answer.
export { create, fromBinary, toBinary } from "@bufbuild/protobuf";
export * as commandForwarding from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
export * as command from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
export * as access from "#gen/foedus/common/v1/access_pb.ts";
export * as error from "#gen/foedus/common/v1/error_pb.ts";
export * as node from "#gen/foedus/common/v1/node_pb.ts";
export * as value from "#gen/foedus/common/v1/value_pb.ts";
export * as coordination from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
export * as lending from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
export * as resources from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
export * as discovery from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
export * as peer from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
export * as registrySync from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
export * as telemetry from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
