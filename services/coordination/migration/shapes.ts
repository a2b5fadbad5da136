import { bytes, choice, flag, list, maybeWord, message, type Shape, text, uint, word } from "#kernel/wire/shape.ts";
import {
  type AgentRecord,
  BOUNDS,
  CAUSES,
  type Claim,
  type Migration,
  type MigrationCommand,
  type MigrationData,
  STATUSES,
  STEPS,
} from "./messages.ts";
import { PHASES, type SagaRecord } from "./saga/saga-record.ts";

/** As `isNodeId` and `isHubId` of the kernel have them. */
const NODE = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

const MESSAGE_BYTES = 1_500;

const agent = (no: number) => text(no, 63, NODE);
const hub = (no: number) => text(no, 63, LABEL);
const count = (no: number) => uint(no, undefined, 1);
const size = (no: number) => uint(no, BOUNDS.checkpointBytes, 1);
const digest = (no: number) => bytes(no, 32, 32);

const ONLY = message({ transfer: count(1) });
const SIZED = message({ transfer: count(1), bytes: size(2) });

/** MIGRATION_COMMAND is a command of the log about agents and their migrations. */
export const MIGRATION_COMMAND = choice({
  enlist: message({ agent: agent(1), nodeKey: bytes(2, 32, 32) }),
  dismiss: message({ agent: agent(1), fence: count(2) }),
  request: message({
    agent: agent(1),
    fence: count(2),
    to: hub(3),
    stepMs: uint(4, BOUNDS.stepMs[1], BOUNDS.stepMs[0]),
    why: text(5, BOUNDS.whyBytes),
  }),
  validate: SIZED,
  accept: message({ transfer: count(1), bytes: size(2), sealingKey: bytes(3, 32, 32), until: count(4) }),
  prepare: ONLY,
  checkpoint: SIZED,
  transfer: message({ transfer: count(1), digest: digest(2) }),
  confirm: message({ transfer: count(1), fence: count(2), digest: digest(3), claim: bytes(4, 64, 64) }),
  release: ONLY,
  abort: message({ transfer: count(1), cause: word(2, CAUSES), message: text(3, MESSAGE_BYTES) }),
}) satisfies Shape<MigrationCommand>;

/** AGENT_RECORD is an agent in a dump of the book. */
export const AGENT_RECORD = message({
  agent: agent(1),
  owner: hub(2),
  fence: count(3),
  nodeKey: bytes(4, 32, 32),
  since: uint(5),
  lost: flag(6),
}) satisfies Shape<AgentRecord>;

/** MIGRATION is a migration in a dump of the book. */
export const MIGRATION = message({
  transfer: count(1),
  agent: agent(2),
  fence: count(3),
  from: hub(4),
  to: hub(5),
  by: hub(6),
  why: text(7, BOUNDS.whyBytes),
  step: word(8, STEPS),
  status: word(9, STATUSES),
  stepMs: uint(10),
  deadline: uint(11),
  times: list(12, STEPS.length, message({ at: uint(1) })),
  bytes: uint(13, BOUNDS.checkpointBytes),
  sealingKey: bytes(14, 32),
  until: uint(15),
  digest: bytes(17, 32),
  claim: bytes(18, 64),
  index: uint(19),
  cause: maybeWord(20, CAUSES),
  message: text(21, MESSAGE_BYTES),
}) satisfies Shape<Migration>;

/** MIGRATION_DATA is the whole state of the book. */
export const MIGRATION_DATA = message({
  transfers: uint(1),
  fences: uint(2),
  agents: list(3, BOUNDS.agents, AGENT_RECORD),
  open: list(4, BOUNDS.open, MIGRATION),
  history: list(5, BOUNDS.history, MIGRATION),
  redirects: list(6, BOUNDS.redirects, message({ hub: hub(1), agent: agent(2), until: uint(3) })),
}) satisfies Shape<MigrationData>;

/** AGENT_CLAIM is what an agent signs when it leaves. */
export const AGENT_CLAIM = message({
  agent: agent(1),
  from: hub(2),
  to: hub(3),
  fence: count(4),
  transfer: count(5),
  digest: digest(6),
}) satisfies Shape<Claim>;

/** STORED_MIGRATION is what a hub keeps of its side of a migration. */
export const STORED_MIGRATION = message({
  transfer: count(1),
  agent: agent(2),
  fence: count(3),
  from: hub(4),
  to: hub(5),
  phase: word(6, PHASES),
  round: uint(7),
  manifest: bytes(8, BOUNDS.manifestBytes),
  signature: bytes(9, 64),
  claim: bytes(10, 64),
}) satisfies Shape<SagaRecord>;
