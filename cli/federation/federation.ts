import { create } from "@bufbuild/protobuf";
import {
  FederationState,
  FederationStateSchema,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  type GetFederationResponse,
  GetFederationResponseSchema,
  JoinFederationRequestSchema,
  LeaveFederationRequestSchema,
  LogRecordSchema,
  LogRoleSchema,
  ReadLogRequestSchema,
  RejoinFederationRequestSchema,
  TransferLeadershipRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseFederation, parseHub } from "../parse.ts";
import { ago, clean, count, label, since } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { prose } from "../print/text.ts";
import { withSessions } from "../reach/candidates.ts";
import { connect } from "../reach/connect.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { withMembers } from "./members.ts";

/** status shows which federation the hub belongs to, and whether it can decide. Fails (1) if it belongs to one that cannot. */
export async function status(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const federation = await connection.coordination.getFederation(create(GetFederationRequestSchema), { signal: io.stopped });
  const { state, canDecide } = federation;
  const well = state !== FederationState.RETURNING && (state !== FederationState.MEMBER || canDecide);
  if (options.json) await printJson(io, messageJson(GetFederationResponseSchema, federation));
  else if (options.quiet) await io.out(federation.federationId === "" ? "" : `${clean(federation.federationId)}\n`);
  else await io.out(statusText(io, federation));
  return well ? EXIT.ok : EXIT.failed;
}

function statusText(io: Io, federation: GetFederationResponse): string {
  const { state, federationId, name, engine, role, leader, canDecide, ageMs, problem, invitations, committed, applied, term } = federation;
  const lines: (readonly [string, Cell])[] = [
    ["federation", federationId === "" ? "none" : name === "" || name === federationId ? federationId : `${federationId} (${name})`],
    ["this hub", label(FederationStateSchema, state)],
  ];
  if (state === FederationState.MEMBER)
    lines.push(
      ["decides by", engine],
      ["can decide", canDecide ? { text: "yes", style: "green" } : { text: "no", style: "red" }],
      ["leader", leader === "" ? { text: "none known", style: "yellow" } : leader],
      ["role here", `${label(LogRoleSchema, role)} in term ${term}`],
      ["log", `${applied} of ${committed} decided entries applied`],
      ["up to date", ageMs === undefined ? { text: "not known yet", style: "yellow" } : ago(ageMs)],
    );
  let text = facts(io, lines);
  if (problem !== "") text += `${prose(problem, io.columns).join("\n")}\n`;
  if (federation.members.length > 0) text += `\n${membersText(io, federation)}`;
  for (const { federationId: id, fromHubId, founders, joined } of invitations)
    text += `\n${clean(fromHubId)} founds ${clean(id)} with ${founders.map(clean).join(", ")} (joined: ${joined.map(clean).join(", ")}); take part with: foedus federation join ${clean(id)}\n`;
  return text;
}

function membersText(io: Io, { members, leader }: GetFederationResponse): string {
  const rows = members.map(({ hubId, voter, weight, failed, inContact }): Cell[] => [
    hubId,
    hubId === leader ? "leader" : voter ? "voter" : "learner",
    String(weight),
    failed
      ? { text: "failed", style: "red" }
      : inContact
        ? { text: "in contact", style: "green" }
        : { text: "not in contact", style: "yellow" },
  ]);
  return table(io, [{ title: "HUB" }, { title: "ROLE" }, { title: "WEIGHT", align: "right" }, { title: "STATE" }], rows);
}

/** members lists the members of the federation. */
export async function members(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const federation = await connection.coordination.getFederation(create(GetFederationRequestSchema), { signal: io.stopped });
  const { members: all } = messageJson(GetFederationResponseSchema, federation) as { members?: object };
  if (options.json) await printJson(io, { members: all ?? [] });
  else if (options.quiet) await io.out(federation.members.map(({ hubId }) => `${clean(hubId)}\n`).join(""));
  else if (federation.members.length === 0) io.note(`${federation.problem}\n`);
  else await io.out(membersText(io, federation));
  return EXIT.ok;
}

/** FoundFlags are the options of `foedus federation found`. */
export interface FoundFlags extends OperatorFlags {
  readonly with?: readonly string[];
  readonly engine?: string;
  readonly title?: string;
  readonly admission?: string;
}

/** found founds a federation, alone or with peers. */
export async function found(io: Io, [id = ""]: readonly string[], options: FoundFlags): Promise<ExitCode | undefined> {
  const federationId = parseFederation(id);
  using connection = await connect(options, io);
  const founders = (options.with ?? []).map(parseHub);
  const request = create(FoundFederationRequestSchema, {
    federationId,
    founders,
    engine: options.engine ?? "raft",
    name: options.title ?? "",
    admission: options.admission ?? "ballot",
  });
  const { state } = await withSessions(connection, io.stopped, () =>
    connection.coordination.foundFederation(request, { signal: io.stopped }),
  );
  await standing(io, state, federationId, options);
  if (state === FederationState.FOUNDING && options.quiet !== true)
    io.note(
      `it exists as soon as ${founders.join(", ")} ${founders.length === 1 ? "has" : "have"} joined: foedus federation join ${clean(federationId)}\n`,
    );
  return EXIT.ok;
}

/** join takes part in a federation that a peer founds with this hub, or asks a member to be let in. */
export async function join(
  io: Io,
  [id = ""]: readonly string[],
  options: OperatorFlags & { readonly via?: string },
): Promise<ExitCode | undefined> {
  const federationId = parseFederation(id);
  using connection = await connect(options, io);
  const via = options.via === undefined ? "" : parseHub(options.via);
  const request = create(JoinFederationRequestSchema, { federationId, via });
  const { state } = await withSessions(connection, io.stopped, () =>
    connection.coordination.joinFederation(request, { signal: io.stopped }),
  );
  await standing(io, state, federationId, options);
  return EXIT.ok;
}

async function standing(io: Io, state: FederationState, federationId: string, options: OperatorFlags): Promise<void> {
  if (options.json) await printJson(io, { federation_id: federationId, state: FederationStateSchema.value[state]?.name ?? "" });
  else if (!options.quiet) await io.out(`${clean(federationId)}: this hub is ${WORDS[state]}\n`);
}

const WORDS: Readonly<Record<FederationState, string>> = {
  [FederationState.UNSPECIFIED]: "unknown to it",
  [FederationState.NONE]: "no part of it",
  [FederationState.FOUNDING]: "founding it and waits for the other founders",
  [FederationState.JOINING]: "waiting to be let in",
  [FederationState.MEMBER]: "a member",
  [FederationState.RETURNING]: "waiting to be let in again",
};

/** leave leaves the federation. */
export async function leave(
  io: Io,
  [id = ""]: readonly string[],
  options: OperatorFlags & { readonly force?: boolean },
): Promise<ExitCode | undefined> {
  const federationId = parseFederation(id);
  using connection = await connect(options, io);
  const request = create(LeaveFederationRequestSchema, { federationId, force: options.force ?? false });
  await connection.coordination.leaveFederation(request, { signal: io.stopped });
  await standing(io, FederationState.NONE, federationId, options);
  return EXIT.ok;
}

/** rejoin has the hub take part with another replica, or go on with the store that it has. */
export async function rejoin(
  io: Io,
  [id = ""]: readonly string[],
  options: OperatorFlags & { readonly trustStore?: boolean },
): Promise<ExitCode | undefined> {
  const federationId = parseFederation(id);
  using connection = await connect(options, io);
  const request = create(RejoinFederationRequestSchema, { federationId, trust: options.trustStore ?? false });
  const { state } = await connection.coordination.rejoinFederation(request, { signal: io.stopped });
  await standing(io, state, federationId, options);
  return EXIT.ok;
}

/** lead hands leadership of the log to another voter. */
export async function lead(io: Io, [hub = ""]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const toHubId = parseHub(hub);
  const request = create(TransferLeadershipRequestSchema, { toHubId });
  const call = () => connection.coordination.transferLeadership(request, { signal: io.stopped });
  await withMembers(connection, [toHubId], io.stopped, call);
  if (options.json) await printJson(io, { leader: toHubId });
  else if (!options.quiet) await io.out(`${toHubId} leads now\n`);
  return EXIT.ok;
}

/** log lists what was decided, newest first. */
export async function log(
  io: Io,
  _args: readonly string[],
  options: OperatorFlags & { readonly limit?: string },
): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const pageSize = options.limit === undefined ? 20 : parseCount(options.limit);
  const { entries } = await connection.coordination.readLog(create(ReadLogRequestSchema, { pageSize }), { signal: io.stopped });
  if (options.json) await printJson(io, { entries: entries.map((entry) => messageJson(LogRecordSchema, entry)) });
  else if (entries.length === 0) io.note("nothing was decided since this hub started\n");
  else {
    const rows = entries.flatMap(({ index, time, lines }): Cell[][] =>
      lines.map(({ author, text, refused }, i) => [
        i === 0 ? String(index) : "",
        i === 0 ? since(time, io.clock.wall()) : "",
        author,
        refused === "" ? text : { text: `${text}: refused, ${refused}`, style: "yellow" },
      ]),
    );
    await io.out(
      table(
        io,
        [{ title: "ENTRY", align: "right" }, { title: "TIME" }, { title: "BY" }, { title: "DECISION", flexible: true, prose: true }],
        rows,
      ),
    );
    io.note(`${count(entries.length, "entry").replace("entrys", "entries")}\n`);
  }
  return EXIT.ok;
}
