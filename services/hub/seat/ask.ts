import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type DataHeld,
  type DialledMember,
  DiscoveryService,
  GetDialledRequestSchema,
  type GetDialledResponse,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Word } from "../../coordination/index.ts";
import type { Federation } from "../../discovery/index.ts";
import type { Credentials, Target } from "../credentials.ts";
import { SERVICES, type ServiceName } from "../services.ts";
import type { Report } from "./whole.ts";

/** An answer is waited for so long, ms. */
const TIMEOUT_MS = 2_000;

/** Largest fence, and number of a replica, that the log has. */
const TOKEN_MAX = 2n ** 48n;

/** Answers are what was said by hub; undefined for one that knows of no standbys. Who did not answer is not in it. */
export type Answers = ReadonlyMap<string, Word | undefined>;

/** askPeers asks peers which installation of this hub they have dialled. Each proves who it is, by the CA that is pinned to it. */
export async function askPeers(
  credentials: Credentials,
  { peers }: Federation,
  own: string,
  hubs: ReadonlySet<string>,
  log: Logger,
): Promise<Answers> {
  const answers = new Map<string, Word | undefined>();
  await Promise.all(
    peers
      .filter(({ hubId }) => hubs.has(hubId))
      .map(async ({ hubId, addresses, cas, revoked }) => {
        const caPems = cas.map(({ pem }) => pem);
        for (const { host, port } of addresses) {
          const target = { host, port, expected: { hubId }, caPems, revoked: revoked.map(({ thumbprint }) => thumbprint) };
          try {
            answers.set(hubId, wordOf((await ask(credentials, target, {})).member, own));
            return;
          } catch (error) {
            log.debug({ peer: hubId, error }, "peer did not say which installation of this hub is dialled");
          }
        }
      }),
  );
  return answers;
}

/** OwnQuestion is with what a process asks discovery of its hub. */
export interface OwnQuestion {
  readonly hubId: string;
  /** Where discovery listens. */
  readonly at: { readonly host: string; readonly port: number };
  /** What the process runs. */
  readonly service: string;
  readonly report: Report;
}

/** Longest sentence that is sent of what is wrong with the data here. */
const PROBLEM_MAX = 2_000;

/**
 * askOwn asks discovery of this hub, which runs as another process, whether this installation acts, and says what is here of its data. It throws
 * a FoedusError if it does not act: one that `isRefusal` knows, if another installation does.
 */
export async function askOwn(credentials: Credentials, { hubId, at, service, report }: OwnQuestion): Promise<Word | undefined> {
  const { data, fence } = report;
  const held = {
    service,
    acts: data === undefined,
    fence: BigInt(fence ?? 0),
    problem: (data?.problem ?? "").slice(0, PROBLEM_MAX),
    incarnation: BigInt(data?.replica?.incarnation ?? 0),
    returning: BigInt(data?.replica?.returning ?? 0),
  };
  const { member, waits } = await ask(credentials, { ...at, expected: { hubId }, caPems: () => credentials.caPems }, { held });
  if (waits !== "") throw fail("NOT_CONFIGURED", waits);
  return wordOf(member, hubId);
}

/** reportOf reads what a process of this hub said of itself; undefined if it names no service. */
export function reportOf(held: DataHeld | undefined): { readonly service: ServiceName; readonly report: Report } | undefined {
  const service = SERVICES.find((name) => name === held?.service);
  if (held === undefined || service === undefined) return undefined;
  const { acts, fence, problem, incarnation, returning } = held;
  const data = {
    problem: problem === "" ? undefined : problem,
    replica: service === "coordination" ? { incarnation: numberOf(incarnation), returning: numberOf(returning) } : undefined,
  };
  return { service, report: { data: acts ? undefined : data, fence: acts ? numberOf(fence) : undefined } };
}

/** numberOf is a number of the log; undefined for 0, which is none. */
function numberOf(value: bigint): number | undefined {
  return value === 0n ? undefined : Number(value);
}

async function ask(
  credentials: Credentials,
  target: Target,
  request: MessageInitShape<typeof GetDialledRequestSchema>,
): Promise<GetDialledResponse> {
  const client = credentials.client(DiscoveryService, target);
  try {
    return await client.getDialled(create(GetDialledRequestSchema, request), { timeoutMs: TIMEOUT_MS });
  } finally {
    client.close();
  }
}

/** wordOf reads what a hub said; undefined: that there are no standbys. It throws a FoedusError for what cannot be: that hub has said nothing. */
export function wordOf(member: DialledMember | undefined, hubId: string): Word | undefined {
  if (member === undefined) return undefined;
  const { host, port, fence, incarnation } = member;
  const isPlace = /^[A-Za-z0-9.:_-]{1,253}$/.test(host) && port >= 1 && port <= 65_535;
  const isToken = fence >= 1n && fence <= TOKEN_MAX && incarnation >= 1n && incarnation <= TOKEN_MAX;
  if (member.hubId !== hubId || !isPlace || !isToken)
    throw fail("INVALID_FIELD", "the answer to who acts for this hub is about another one, or names no place or no fence that can be");
  return { endpoint: { host, port }, fence: Number(fence), incarnation: Number(incarnation) };
}

/** isRefusal tells whether this hub's discovery answered that this installation does not act; all else is that it could not be reached. */
export function isRefusal(error: unknown): error is FoedusError {
  return error instanceof FoedusError && error.reason === "FENCE_STALE";
}
