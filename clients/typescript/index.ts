// The SDK: what a program outside a hub needs to call one. Everything here is public; nothing else is.
export { whenAborted } from "#channel/abort.ts";
export type { CallOptions, ClientDuplex, ClientOf } from "#channel/call.ts";
export { type Clock, systemClock, type Timer } from "#channel/clock.ts";
export type { BackoffConfig } from "#kernel/backoff.ts";
export { type Freshness, SOURCE_FRESHNESS, SOURCE_REFRESH, SOURCE_STALE } from "#kernel/freshness.ts";
export { printable } from "#kernel/printable.ts";
export type { StateChange } from "../../services/registry-sync/table/changes.ts";
export { AgentHost, type AgentHostOptions, type HostedAgentOptions, type TakeIn, type TakesIn } from "./agents/agent-host.ts";
export { type AgentCheckpoint, type AgentStanding, MovableAgent, type MovableOptions, movedTo } from "./agents/movable-agent.ts";
export type { AgentRegistry } from "./agents/registered.ts";
export {
  type ChangeOptions,
  ChangeStream,
  type FeedPosition,
  type NodeFilterInit,
  type RegistryChange,
  type WatchEvent,
} from "./change-stream.ts";
export {
  type CommandName,
  type CommandOutcome,
  type CommandRequest,
  CommandStream,
  type CommandStreamOptions,
  type OnResult,
  OUTCOME,
  OUTCOME_NAMES,
  type Outcome,
  type PlainCommand,
  type PlainValue,
  plainOf,
  valueOfPlain,
} from "./command-stream.ts";
export { type Failure, FoedusError, fail, hasReason, isRetryable, REASONS, type Reason, remedyOf } from "./errors.ts";
export { type Event, type EventFilterInit, EventKind, type EventOptions, EventStream, Severity } from "./event-stream.ts";
export { type ExecutorAnswer, ExecutorClient, type ExecutorOptions, type ExecutorTask } from "./executor-client.ts";
export { Following, type FollowOptions } from "./following.ts";
export {
  type CommandResult,
  type ConnectOptions,
  type HostAgentsOptions,
  Hub,
  type HubClients,
  type OutcomeName,
  type ServeOptions,
  type UpdaterOfHubOptions,
  type WatchOptions,
} from "./hub.ts";
export { type GiveUp, type OnError, STREAM_BACKOFF, type StreamIdentity } from "./kept-stream.ts";
export { valueProblem } from "./plain.ts";
export { type CallerIdentity, type CallerRole, callerIn, callerOf, caOf } from "./reach/caller.ts";
export { SERVICE_NAMES, type ServiceName, type TargetOptions } from "./reach/target.ts";
export {
  Mirror,
  type MirrorFeed,
  type MirrorHub,
  type MirrorOptions,
  NO_SLOT,
  type NodeEntry,
  type NodeInit,
  numbersOf,
  type Refusal,
  type RegisteringOptions,
  RegistryClient,
  type SetValue,
  type UpdateBatch,
  Updater,
  type UpdaterOptions,
  VALUE_TYPE,
  type ValueType,
} from "./registry-client.ts";
export { VALUE_CHANGES_MOST, type ValueCondition, ValueStream, type ValueStreamOptions } from "./values/value-stream.ts";
