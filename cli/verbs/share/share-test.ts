import { create } from "@bufbuild/protobuf";
import { TrustLevelSchema } from "#gen/foedus/common/v1/access_pb.ts";
import { GetPeerRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { LinkStateSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { ListNodesRequestSchema, NodeFilterSchema, type NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  explainImport,
  explainShare,
  FULL_SHARE,
  type HubConfig,
  importsOf,
  type NodeAccess,
  type NodeRule,
  type Offered,
  registrySyncConfig,
  type ShareRules,
  sharesOf,
} from "../../../services/hub/index.ts";
import { CliError, EXIT, type ExitCode, usage } from "../../exit.ts";
import type { Io } from "../../io.ts";
import { parseHub, parseNode } from "../../parse.ts";
import { clean, enumValue, label, nodeText } from "../../print/format.ts";
import { withPeers } from "../../reach/candidates.ts";
import { type Connection, connect, endpointOf } from "../../reach/connect.ts";
import { didYouMean } from "../../reach/did-you-mean.ts";
import { type OperatorFlags, printJson } from "../../verb.ts";
import { getNode } from "../node.ts";
import { listNodes } from "../nodes.ts";
import { levelText } from "../peers.ts";
import { runningConfig } from "../running-config.ts";
import { importText, type Judged, listText, nodeChain, remarks, ruleText } from "./share-text.ts";

/** ShareTestFlags are the options of `share test`. */
export interface ShareTestFlags extends OperatorFlags {
  /** `hub/node` or a bare id. */
  readonly node?: string;
  readonly share?: string;
  readonly trust?: string;
  /** Configuration file to take the rules from. */
  readonly config?: string;
}

/** Rules are what a configuration says of shares and imports. */
interface Rules {
  readonly shares: readonly ShareRules[];
  readonly imports: readonly NodeRule[] | undefined;
}

/** run says which nodes a peer sees and may invoke, and why. */
export async function run(io: Io, [hubId = ""]: readonly string[], flags: ShareTestFlags): Promise<ExitCode | undefined> {
  parseHub(hubId);
  const wanted = flags.node === undefined ? undefined : parseNode(flags.node);
  using connection = await connect(flags, io);
  const self = connection.target.hubId;
  if (wanted !== undefined && ![hubId, self, ""].includes(wanted.hubId))
    throw usage(`${nodeText(wanted)} is a node of neither ${self} nor ${hubId}`, "A share shows nodes of this hub only. Name one of them.");
  const { getPeer } = connection.discovery;
  const request = create(GetPeerRequestSchema, { hubId });
  const { peer } = await withPeers(connection, hubId, io.stopped, () => getPeer(request, { signal: io.stopped }));
  if (peer === undefined) throw new CliError(EXIT.notFound, `there is no peer ${hubId}`, "List the peers with `foedus peers`.");
  const rules = flags.config === undefined ? await runningRules(io, connection) : await rulesOfFile(io, self, flags.config);
  if (wanted?.hubId === hubId) return await testImport(io, connection, { peer, rules, flags });
  const tested = testedOf(self, peer, rules, flags);
  if (wanted !== undefined) return await testNode(io, connection, wanted.nodeId, tested, flags);
  return await testAll(io, connection, tested, rules, flags);
}

/** runningRules reads the rules that the running hub follows. */
async function runningRules(io: Io, connection: Connection): Promise<Rules> {
  const json = await runningConfig(io, connection, endpointOf(connection.target, "registry-sync"));
  const remedy = "Use the command of the hub's version, see `foedus version` and `foedus status`.";
  try {
    const { shares, imports } = (JSON.parse(json) as Pick<HubConfig, "registry_sync">).registry_sync;
    const config = registrySyncConfig.parse({ shares, ...(imports === undefined ? {} : { imports }) });
    return { shares: sharesOf(config), imports: importsOf(config) };
  } catch (error) {
    throw new CliError(EXIT.failed, "the rules of the running hub cannot be read by this command", remedy, { cause: error });
  }
}

/** rulesOfFile reads the rules of a configuration file as the hub would. Throws CliError and ConfigError. */
async function rulesOfFile(io: Io, self: string, file: string): Promise<Rules> {
  // Files are read by code of its own, which is loaded only when there is one.
  const { configFileOf } = await import("../../own/own-hub.ts");
  const { readConfig } = await import("../../own/config-file.ts");
  const { config } = readConfig(io, { config: configFileOf(io, { config: file }) });
  if (config.hub_id !== self) throw usage(`${file} is the configuration of ${config.hub_id}, not of ${self}`, "Correct --config or --hub.");
  return { shares: sharesOf(config.registry_sync), imports: importsOf(config.registry_sync) };
}

/** testedOf puts together what is tested. Throws CliError (usage) for a share that --share names and nobody defines. */
function testedOf(self: string, peer: Peer, { shares }: Rules, flags: ShareTestFlags): Judged {
  const share = flags.share ?? peer.share;
  const known = [FULL_SHARE, ...shares.map(({ name }) => name)];
  if (flags.share !== undefined && !known.includes(flags.share))
    throw usage(`there is no share "${clean(flags.share)}"`, didYouMean(flags.share, known, "See `foedus config`."));
  const level = flags.trust === undefined ? peer.level : (enumValue(TrustLevelSchema, flags.trust) ?? 0);
  return {
    self,
    peer,
    level,
    share,
    shares,
    rules: shares.find(({ name }) => name === share)?.rules,
    source: flags.config,
    tried: { share: flags.share !== undefined, trust: flags.trust !== undefined },
  };
}

function offeredOf({ node, state }: NodeRecord): Offered {
  const { nodeId = "", kind = 0, type = "", name = "", labels = {}, capabilities = [] } = node ?? {};
  return { info: { nodeId, kind, type, name, labels }, capabilities, keys: state.map(({ key }) => key) };
}

async function testAll(
  io: Io,
  connection: Connection,
  tested: Judged,
  { imports }: Rules,
  flags: ShareTestFlags,
): Promise<ExitCode | undefined> {
  const own = create(NodeFilterSchema, { hubIds: [tested.self] });
  const all = { summary: false, signal: io.stopped };
  const { records } = await listNodes(connection, own, Number.POSITIVE_INFINITY, all);
  const nodes = records.map((record) => {
    const offered = offeredOf(record);
    return { offered, access: explainShare(tested, tested.shares, offered) };
  });
  const shown = nodes.filter(({ access }) => access.shown);
  const held = await heldOf(io, connection, tested.peer.hubId, imports);
  if (flags.json)
    await printJson(io, {
      ...headJson(tested),
      shown: shown.length,
      total: nodes.length,
      imports: { rules: imports?.length ?? null, held: held.held, taken: held.taken },
      nodes: nodes.map(({ offered, access }) => nodeJson(tested, offered.info.nodeId, access)),
    });
  else if (flags.quiet) await io.out(shown.map(({ offered }) => `${clean(`${tested.self}/${offered.info.nodeId}`)}\n`).join(""));
  else {
    await io.out(listText(io, tested, nodes, { rules: imports?.length, ...held }));
    io.note(remarks(tested, nodes));
  }
  return EXIT.ok;
}

/** heldOf counts the nodes of a peer that this hub holds, and those of them that import rules take in. */
async function heldOf(
  io: Io,
  connection: Connection,
  hubId: string,
  imports: readonly NodeRule[] | undefined,
): Promise<{ readonly held: number; readonly taken: number }> {
  const filter = create(NodeFilterSchema, { hubIds: [hubId] });
  if (imports === undefined) {
    const request = create(ListNodesRequestSchema, { filter, pageSize: 1, summary: true });
    const { total } = await connection.registry.listNodes(request, { signal: io.stopped });
    return { held: total, taken: total };
  }
  const { records } = await listNodes(connection, filter, Number.POSITIVE_INFINITY, { summary: true, signal: io.stopped });
  return { held: records.length, taken: records.filter((record) => explainImport(imports, offeredOf(record).info).taken).length };
}

async function testNode(
  io: Io,
  connection: Connection,
  nodeId: string,
  tested: Judged,
  flags: ShareTestFlags,
): Promise<ExitCode | undefined> {
  const offered = offeredOf(await getNode(connection, `${tested.self}/${nodeId}`, io.stopped));
  const access = explainShare(tested, tested.shares, offered);
  if (flags.json) {
    const steps = access.missed.map((missed, i) => ({ rule: i + 1, selects: ruleText(tested.rules![i]!), missed }));
    await printJson(io, { ...headJson(tested), nodes: [{ ...nodeJson(tested, nodeId, access), steps }] });
  } else if (flags.quiet) await io.out(`${verdict(access)}\n`);
  else {
    await io.out(nodeChain(io, tested, offered, access));
    io.note(remarks(tested, []));
  }
  return EXIT.ok;
}

/** verdict is the most that a peer may do with a node, in a word. */
function verdict({ shown, capabilities }: NodeAccess): string {
  if (!shown) return "none";
  return capabilities.some(({ right }) => right === "invoke") ? "invoke" : "see";
}

async function testImport(
  io: Io,
  connection: Connection,
  { peer, rules: { imports }, flags }: { readonly peer: Peer; readonly rules: Rules; readonly flags: ShareTestFlags },
): Promise<ExitCode | undefined> {
  const self = connection.target.hubId;
  const record = await getNode(connection, flags.node ?? "", io.stopped).catch((error: unknown) => {
    if (!(error instanceof CliError) || error.exitCode !== EXIT.notFound) throw error;
    const { nodeId } = parseNode(flags.node ?? "");
    const there = `there, \`foedus share test ${self} --node ${nodeId}\` says whether ${clean(peer.hubId)} shows it`;
    const kept = imports === undefined ? "this hub takes in everything" : `the ${imports.length} import rules of this hub may keep it out`;
    throw new CliError(EXIT.notFound, error.message, `${error.remedy} Otherwise: ${kept}; ${there}.`, { cause: error });
  });
  const { info } = offeredOf(record);
  const decision = explainImport(imports, info);
  if (flags.json)
    await printJson(io, {
      hub_id: self,
      peer: peer.hubId,
      source: flags.config ?? "running",
      node: nodeText(record.name),
      taken: decision.taken,
      rule: decision.at < 0 ? null : decision.at + 1,
      steps: decision.missed.map((missed, i) => ({ rule: i + 1, selects: ruleText(imports![i]!), missed })),
    });
  else if (flags.quiet) await io.out(decision.taken ? "taken\n" : "none\n");
  else await io.out(importText(io, { peer, source: flags.config, imports, info, decision }));
  return EXIT.ok;
}

function headJson({ self, peer, share, shares, rules, level, source }: Judged): object {
  return {
    hub_id: self,
    peer: peer.hubId,
    source: source ?? "running",
    share,
    share_defined: share === FULL_SHARE || shares.some(({ name }) => name === share),
    rules: rules?.length ?? null,
    trust: levelText(level),
    max_trust: levelText(peer.maxTrust),
    trust_there: levelText(peer.levelThere),
    link: label(LinkStateSchema, peer.state),
  };
}

function nodeJson({ rules }: Judged, nodeId: string, { shown, because, at, capabilities }: NodeAccess): object {
  return {
    node_id: nodeId,
    shown,
    because,
    rule: at < 0 ? null : at + 1,
    selects: rules?.[at] === undefined ? null : ruleText(rules[at]),
    capabilities,
  };
}
