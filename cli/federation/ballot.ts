import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Ballot,
  type BallotActionSchema,
  BallotResult,
  BallotResultSchema,
  BallotSchema,
  BallotSubjectSchema,
  BallotVote,
  BallotVoteSchema,
} from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import {
  AdmitMemberRequestSchema,
  CastVoteRequestSchema,
  GetBallotRequestSchema,
  GetFederationRequestSchema,
  OpenBallotRequestSchema,
  RemoveMemberRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { own } from "#kernel/own.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { readBytes } from "#runtime/files.ts";
import { actionText, verifyCertificate } from "../../services/coordination/index.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseDuration, parseHub } from "../parse.ts";
import { clean, label, since } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { connect } from "../reach/connect.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { allBallots, withBallots, withJoins, withMembers } from "./members.ts";
import { versionOf } from "./policies.ts";

/** BallotFlags are the options of `foedus federation ballot`. */
export interface BallotFlags extends OperatorFlags {
  readonly certificate?: string;
}

/** ballot lists ballots, or shows one with its votes. */
export async function ballot(io: Io, [ballotId]: readonly string[], options: BallotFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  if (ballotId !== undefined) {
    const request = create(GetBallotRequestSchema, { ballotId });
    const call = () => connection.coordination.getBallot(request, { signal: io.stopped });
    const answer = await withBallots(connection, ballotId, io.stopped, call);
    if (answer.ballot === undefined)
      throw new CliError(EXIT.notFound, `there is no ballot ${clean(ballotId)}`, "List them with `foedus federation ballot`.");
    if (options.certificate !== undefined) return certify(io, options.certificate, answer.certificate, answer.noCertificate);
    if (options.json) await printJson(io, { ballot: messageJson(BallotSchema, answer.ballot) });
    else await io.out(detailText(io, answer.ballot, answer.noCertificate));
    return EXIT.ok;
  }
  const ballots = await allBallots(connection, io.stopped);
  if (options.json) await printJson(io, { ballots: ballots.map((one) => messageJson(BallotSchema, one)) });
  else if (options.quiet) await io.out(ballots.map((one) => `${clean(idOf(one))}\n`).join(""));
  else if (ballots.length === 0) io.note("no ballots yet: `foedus federation propose` opens one\n");
  else {
    const rows = ballots.map((one): Cell[] => [
      idOf(one),
      label(BallotSubjectSchema, one.opening?.proposal?.subject ?? 0),
      resultCell(one),
      `${one.votes.length} of ${one.opening?.eligible.length ?? 0}`,
      one.opening?.proposal?.proposer ?? "",
    ]);
    const columns = [{ title: "BALLOT" }, { title: "SUBJECT" }, { title: "RESULT" }, { title: "VOTES" }, { title: "BY" }] as const;
    await io.out(table(io, columns, rows));
  }
  return EXIT.ok;
}

const idOf = ({ opening }: Ballot): string => opening?.proposal?.ballotId ?? "";

function resultCell({ result }: Ballot): Cell {
  const style = result === BallotResult.APPROVED ? "green" : result === BallotResult.UNSPECIFIED ? "yellow" : "red";
  return { text: resultText(result), style };
}

function detailText(io: Io, one: Ballot, noCertificate: string): string {
  const { opening, votes } = one;
  const wall = io.clock.wall();
  const text = facts(io, [
    ["ballot", idOf(one)],
    ["proposes", `to ${actionText(opening?.proposal?.action)}`],
    ["by", opening?.proposal?.proposer ?? ""],
    ["reasoning", opening?.proposal?.reasoning ?? ""],
    ["opened", since(opening?.time ?? 0n, wall)],
    ["result", resultCell(one)],
    ["certificate", noCertificate === "" ? "there is one: --certificate <file> writes it" : noCertificate],
  ]);
  const rows = (opening?.eligible ?? []).map(({ hubId, weight }): Cell[] => {
    const statement = votes.find((vote) => vote.statement?.hubId === hubId)?.statement;
    return [hubId, String(weight), statement === undefined ? "" : label(BallotVoteSchema, statement.vote), statement?.reasoning ?? ""];
  });
  return `${text}\n${table(io, [{ title: "VOTER" }, { title: "WEIGHT", align: "right" }, { title: "VOTE" }, { title: "REASONING", flexible: true, prose: true }], rows)}`;
}

async function certify(io: Io, file: string, certificate: Uint8Array, noCertificate: string): Promise<ExitCode> {
  if (certificate.length === 0) throw new CliError(EXIT.failed, noCertificate, "Ask again when the ballot is decided and attested.");
  await write(io, file, certificate);
  io.note(`wrote ${clean(file)}; anyone checks it with: foedus federation verify ${clean(file)} --founding <file>\n`);
  return EXIT.ok;
}

/** ProposeFlags are the options of `foedus federation propose`. */
export interface ProposeFlags extends OperatorFlags {
  readonly reasoning?: string;
  readonly for?: string;
}

type ActionKind = MessageInitShape<typeof BallotActionSchema>["kind"];

/** propose opens a ballot. What is proposed: policy <key> <value>, remove <hub>, weight <hub> <n>, role <name> <hub> [standby...]. */
export async function propose(io: Io, args: readonly string[], options: ProposeFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const action = actionOf(args);
  const based =
    action.case === "setPolicy"
      ? { ...action, value: { ...action.value, basis: await versionOf(io, connection, action.value.key ?? "") } }
      : action;
  const request = create(OpenBallotRequestSchema, {
    action: { kind: based },
    reasoning: options.reasoning ?? "",
    durationMs: options.for === undefined ? 0n : BigInt(parseDuration(options.for)),
  });
  const call = () => connection.coordination.openBallot(request, { signal: io.stopped });
  const { ballotId, result } = await withMembers(connection, hubsOf(action), io.stopped, call);
  if (options.json) await printJson(io, { ballot_id: ballotId, result: resultText(result) });
  else if (options.quiet) await io.out(`${ballotId}\n`);
  else if (result !== BallotResult.UNSPECIFIED) await io.out(decidedText(ballotId, result, actionText(request.action)));
  else
    await io.out(
      `ballot ${ballotId} is open, and this hub approves it; the others vote with: foedus federation vote ${ballotId} approve\n`,
    );
  return EXIT.ok;
}

const resultText = (result: BallotResult): string => (result === BallotResult.UNSPECIFIED ? "open" : label(BallotResultSchema, result));

/** decidedText tells of a ballot that was decided when it opened: nobody else has to vote any more. */
function decidedText(ballotId: string, result: BallotResult, action: string): string {
  return `ballot ${clean(ballotId)} is ${resultText(result)}, by this hub's vote alone: to ${clean(action)}\n`;
}

/** hubsOf are the hubs that have to be members for an action. */
function hubsOf({ case: kind, value }: NonNullable<ActionKind>): readonly string[] {
  switch (kind) {
    case "remove":
    case "weigh":
      return [value.hubId ?? ""];
    case "assignRole":
      return [value.hubId ?? "", ...(value.standbys ?? [])];
    case "allocate":
      return [value.owner ?? "", value.borrower ?? ""];
    default:
      return [];
  }
}

function actionOf([kind = "", ...args]: readonly string[]): NonNullable<ActionKind> {
  const [first = "", second = ""] = args;
  switch (kind) {
    case "policy":
      return { case: "setPolicy", value: { key: first, value: { kind: policyOf(args.slice(1)) } } };
    case "remove":
      return { case: "remove", value: { hubId: parseHub(first) } };
    case "weight":
      return { case: "weigh", value: { hubId: parseHub(first), weight: parseCount(second) } };
    case "role":
      return { case: "assignRole", value: { role: first, hubId: parseHub(second), standbys: args.slice(2).map(parseHub) } };
    case "loan": {
      const [resource = "", amount = "", duration = "", agentType = ""] = args.slice(2);
      const [owner, borrower] = [parseHub(first), parseHub(second)];
      const [count, durationMs] = [BigInt(parseCount(amount)), BigInt(parseDuration(duration))];
      return { case: "allocate", value: { owner, borrower, resource, amount: count, durationMs, priority: 50, agentType } };
    }
    case "priority":
      return { case: "prioritize", value: { id: first, priority: parsePercent(second) } };
    default:
      throw usage(
        `"${kind}" is nothing that can be proposed`,
        "Propose policy <key> <value>, remove <hub>, weight <hub> <n>, role <name> <hub> [standby...], loan <owner> <borrower> <resource> <amount> <duration> [agent type], or priority <allocation> <0-100>.",
      );
  }
}

function parsePercent(text: string): number {
  const n = Number(text);
  if (!/^\d{1,3}$/.test(text) || n > 100) throw usage(`"${text}" is no priority`, "Say a whole number from 0 to 100.");
  return n;
}

type PolicyKind = NonNullable<Extract<NonNullable<ActionKind>, { case: "setPolicy" }>["value"]["value"]>["kind"];

/** policyOf reads a policy's value: a whole number, a fraction such as 2/3, or words. */
function policyOf(values: readonly string[]): NonNullable<PolicyKind> {
  const [first = ""] = values;
  const fraction = /^(\d{1,4})\/(\d{1,4})$/.exec(first);
  if (values.length === 1 && /^\d{1,15}$/.test(first)) return { case: "int", value: { value: BigInt(first) } };
  if (values.length === 1 && fraction !== null)
    return { case: "fraction", value: { numerator: Number(fraction[1]), denominator: Number(fraction[2]) } };
  return { case: "words", value: { words: [...values] } };
}

const VOTES: Readonly<Record<string, BallotVote>> = {
  approve: BallotVote.APPROVE,
  reject: BallotVote.REJECT,
  abstain: BallotVote.ABSTAIN,
};

/** vote gives this hub's vote. */
export async function vote(
  io: Io,
  [ballotId = "", word = ""]: readonly string[],
  options: OperatorFlags & { readonly reasoning?: string },
): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const said = own(VOTES, word.toLowerCase());
  if (said === undefined) throw usage(`"${word}" is no vote`, "Say approve, reject or abstain.");
  const request = create(CastVoteRequestSchema, { ballotId, vote: said, reasoning: options.reasoning ?? "" });
  const call = () => connection.coordination.castVote(request, { signal: io.stopped });
  const { result } = await withBallots(connection, ballotId, io.stopped, call);
  if (options.json) await printJson(io, { ballot_id: ballotId, result: resultText(result) });
  else if (!options.quiet) await io.out(`voted; ballot ${clean(ballotId)} is ${resultText(result)}\n`);
  return EXIT.ok;
}

/** admit lets in a hub that asked to join. */
export async function admit(
  io: Io,
  [hub = ""]: readonly string[],
  options: OperatorFlags & { readonly weight?: string },
): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const hubId = parseHub(hub);
  const weight = options.weight === undefined ? {} : { weight: parseCount(options.weight) };
  const request = create(AdmitMemberRequestSchema, { hubId, ...weight });
  const call = () => connection.coordination.admitMember(request, { signal: io.stopped });
  const answer = await withJoins(connection, hubId, io.stopped, call);
  return outcome(io, answer, { done: `${hubId} is a member now`, action: `let in hub ${hubId}` }, options);
}

/** remove removes a member. */
export async function remove(io: Io, [hub = ""]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const hubId = parseHub(hub);
  const request = create(RemoveMemberRequestSchema, { hubId });
  const call = () => connection.coordination.removeMember(request, { signal: io.stopped });
  const answer = await withMembers(connection, [hubId], io.stopped, call);
  return outcome(io, answer, { done: `${hubId} is no member any more`, action: `remove hub ${hubId}` }, options);
}

interface Outcome {
  readonly ballotId: string;
  readonly result: BallotResult;
}

async function outcome(
  io: Io,
  { ballotId, result }: Outcome,
  { done, action }: { readonly done: string; readonly action: string },
  options: OperatorFlags,
): Promise<ExitCode> {
  const decided = result !== BallotResult.UNSPECIFIED;
  if (options.json) await printJson(io, ballotId === "" ? { ballot_id: "" } : { ballot_id: ballotId, result: resultText(result) });
  else if (options.quiet) return EXIT.ok;
  else if (ballotId === "") await io.out(`${done}\n`);
  else if (decided) await io.out(decidedText(ballotId, result, action));
  else await io.out(`ballot ${ballotId} is open; the members vote with: foedus federation vote ${ballotId} approve\n`);
  return EXIT.ok;
}

/** founding writes the founding entry of the federation to a file, by which certificates are verified elsewhere. */
export async function founding(io: Io, [file = ""]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const federation = await connection.coordination.getFederation(create(GetFederationRequestSchema), { signal: io.stopped });
  if (federation.founding.length === 0) throw new CliError(EXIT.failed, federation.problem, "Found a federation or join one first.");
  await write(io, file, federation.founding);
  if (options.quiet !== true) io.note(`wrote ${clean(file)}\n`);
  return EXIT.ok;
}

/** verify checks a certificate against a founding entry; it asks no hub. Fails (1) if the certificate shows nothing. */
export async function verify(
  io: Io,
  [file = ""]: readonly string[],
  options: { readonly json?: boolean; readonly quiet?: boolean; readonly founding?: string },
): Promise<ExitCode | undefined> {
  if (options.founding === undefined)
    throw usage("the founding entry is missing", "Give --founding <file>; a member writes it with `foedus federation founding <file>`.");
  const [certificate, statement] = [read(io, file), read(io, options.founding)];
  const verdict = verifyCertificate(certificate, { kind: "founding", statement }, createCrypto());
  if (options.json)
    await printJson(
      io,
      verdict.ok ? { valid: true, sentence: verdict.sentence } : { valid: false, reason: verdict.reason, sentence: verdict.sentence },
    );
  else if (!options.quiet) await io.out(`${clean(verdict.sentence)}\n`);
  return verdict.ok ? EXIT.ok : EXIT.failed;
}

/** read takes no pipe and no device, which may have no end, and no file that is longer than any certificate. */
function read(io: Io, file: string): Uint8Array {
  try {
    return readBytes(resolve(io.cwd, file));
  } catch (error) {
    throw usage(`${clean(file)} cannot be read`, "Check the path.", error);
  }
}

async function write(io: Io, file: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFile(resolve(io.cwd, file), bytes);
  } catch (error) {
    throw usage(`${clean(file)} cannot be written`, "Check the path, and that its folder is there.", error);
  }
}
