import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { LinkState, LinkStateSchema, type Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import {
  type CapabilityAccess,
  FULL_SHARE,
  type ImportDecision,
  type NodeAccess,
  type NodeRule,
  type Offered,
  type RuleField,
  type ShareRules,
} from "../../../services/hub/index.ts";
import type { Io } from "../../io.ts";
import { clean, count, label } from "../../print/format.ts";
import { type Cell, facts, table } from "../../print/table.ts";
import { levelText } from "../peers.ts";

/** Judged is a peer with the share and the trust level for which nodes are judged. */
export interface Judged {
  /** Our own hub. */
  readonly self: string;
  readonly peer: Peer;
  readonly level: number;
  readonly share: string;
  readonly shares: readonly ShareRules[];
  /** Rules of the share; undefined for `full` and for a share that is not defined. */
  readonly rules: readonly NodeRule[] | undefined;
  /** File that the rules are from; undefined for those of the running hub. */
  readonly source: string | undefined;
  /** What the operator tries, which is not in force. */
  readonly tried: { readonly share: boolean; readonly trust: boolean };
}

/** JudgedNode is a node and what the peer may do with it. */
export interface JudgedNode {
  readonly offered: Offered;
  readonly access: NodeAccess;
}

/** Names of a list that are written out; a fleet's rule may have a thousand. */
const NAMED_MAX = 4;

function listed(names: readonly string[]): string {
  const more = names.length - NAMED_MAX;
  return more <= 0 ? names.join(", ") : `${names.slice(0, NAMED_MAX).join(", ")} and ${more.toLocaleString("en-US")} more`;
}

/** ruleText says which nodes a rule selects. */
export function ruleText({ ids, types, kind, labels }: NodeRule): string {
  const parts = [
    ids.length === 0 ? "" : listed(ids),
    types.length === 0 ? "" : `type ${listed(types)}`,
    kind === 0 ? "" : kind === 2 ? "agents" : "devices",
    listed(Object.entries(labels).map(([name, value]) => `${name}=${value}`)),
  ];
  return parts.filter((part) => part !== "").join("; ") || "any node";
}

/** missText says in what a node does not fit a rule. */
function missText(rule: NodeRule, { info }: Pick<Offered, "info">, field: RuleField): string {
  switch (field) {
    case "ids":
      return `its id ${info.nodeId} does not match`;
    case "types":
      return info.type === "" ? "it has no type" : `its type ${info.type} does not match`;
    case "kind":
      return info.kind === 2 ? "it is an agent" : "it is a device";
    case "labels": {
      const has = Object.keys(rule.labels).map((name) =>
        Object.hasOwn(info.labels, name) ? `${name}=${info.labels[name]}` : `no ${name}`,
      );
      return `its labels do not match: ${has.join(", ")}`;
    }
  }
}

function whyText({ level, share, rules }: Judged, { because, at, shown }: NodeAccess): string {
  switch (because) {
    case "trust-too-low":
      return level === 0 ? "its trust is not decided yet" : `its trust is ${levelText(level)}`;
    case "no-share":
      return "it has no share";
    case "share-not-defined":
      return `there is no share ${share}`;
    case "full":
      return "share full shows everything";
    case "no-rule":
      return rules?.length === 0 ? `share ${share} has no rules` : "no rule selects it";
    case "rule":
      return `rule ${at + 1}${shown ? "" : " hides it"}: ${ruleText(rules![at]!)}`;
  }
}

const namesOf = (capabilities: readonly CapabilityAccess[]): string => capabilities.map(({ name }) => name).join(", ");

function seesCell({ shown, capabilities }: NodeAccess): Cell {
  if (!shown) return { text: "no", style: "dim" };
  const seen = capabilities.filter(({ right }) => right !== "none");
  if (seen.length === capabilities.length) return { text: "all", style: "green" };
  return { text: seen.length === 0 ? "the node only" : namesOf(seen), style: "green" };
}

function invokesCell({ capabilities }: NodeAccess): Cell {
  const invoked = capabilities.filter(({ right }) => right === "invoke");
  return invoked.length === 0 ? "-" : { text: namesOf(invoked), style: "yellow" };
}

function rulesFrom({ source }: Pick<Judged, "source">): string {
  return source === undefined ? "of the running hub" : `of ${source}, not in force`;
}

function shareText(tested: Judged): string {
  const { share, rules, tried, source } = tested;
  if (share === "") return "none";
  const instead = tried.share ? `, tried instead of ${tested.peer.share || "none"}` : "";
  if (share === FULL_SHARE) return `full: everything${instead}`;
  if (rules === undefined) return `${share}: not defined in ${source ?? "the configuration of the running hub"}${instead}`;
  return `${share}: ${count(rules.length, "rule")} ${rulesFrom(tested)}${instead}`;
}

/** heading says for whom the nodes are judged. */
function heading(tested: Judged): (readonly [string, Cell])[] {
  const { peer, level, tried } = tested;
  const instead = tried.trust ? `, tried instead of ${levelText(peer.level)}` : "";
  return [
    ["peer", { text: peer.hubId, style: "bold" }],
    ["link", label(LinkStateSchema, peer.state)],
    ["trust", `${levelText(level)} (ceiling ${levelText(peer.maxTrust)})${instead}; sharing starts at limited`],
    ["share", shareText(tested)],
  ];
}

/** listText shows for each node of this hub what the peer may do with it, and what this hub takes in of the peer. */
export function listText(
  io: Io,
  tested: Judged,
  nodes: readonly JudgedNode[],
  imports: { readonly rules: number | undefined; readonly held: number; readonly taken: number },
): string {
  const columns = [
    { title: "NODE" },
    { title: "SEES", flexible: true },
    { title: "INVOKES", flexible: true },
    { title: "WHY", flexible: true, prose: true },
  ];
  const rows = nodes.map(({ offered, access }): Cell[] => [
    offered.info.nodeId,
    seesCell(access),
    invokesCell(access),
    whyText(tested, access),
  ]);
  const { rules, held, taken } = imports;
  const kept = taken === held ? "" : `; ${held - taken} of them would be kept out`;
  const takes =
    rules === undefined ? "everything that it shows us" : `what ${count(rules, "import rule")} ${rules === 1 ? "allows" : "allow"}`;
  const head = facts(io, [...heading(tested), ["we take", `${takes}: ${count(held, "node")} now${kept}`]]);
  return rows.length === 0 ? head : `${head}\n${table(io, columns, rows)}`;
}

/** chainTable shows the rules that were read for a node, in their order, the one that decides last. */
function chainTable(
  io: Io,
  rules: readonly NodeRule[],
  offered: Pick<Offered, "info">,
  { missed, at, word }: { readonly missed: readonly RuleField[]; readonly at: number; readonly word: string },
): string {
  const columns = [
    { title: "RULE", align: "right" as const },
    { title: "SELECTS", flexible: true },
    { title: "RESULT", flexible: true, prose: true },
  ];
  const rows = missed.map((field, i): Cell[] => [String(i + 1), ruleText(rules[i]!), missText(rules[i]!, offered, field)]);
  if (at >= 0) rows.push([String(at + 1), ruleText(rules[at]!), { text: `decides: ${word}`, style: "bold" }]);
  return rows.length === 0 ? "" : `\n${table(io, columns, rows)}`;
}

function capabilityWhy({ right, invocable }: CapabilityAccess, rule: NodeRule | undefined): string {
  if (right === "none") return `not among the keys: ${listed(rule?.capabilities ?? [])}`;
  if (right === "invoke") return rule === undefined ? "share full" : `invoke: ${listed(rule.invoke)}`;
  if (!invocable) return "the node takes no commands for it";
  return rule?.invoke.length === 0 ? "the share is read-only" : `not among what may be invoked: ${listed(rule?.invoke ?? [])}`;
}

/** nodeChain shows one node of this hub: each rule that was read, and what the peer may do with each capability. */
export function nodeChain(io: Io, tested: Judged, offered: Offered, access: NodeAccess): string {
  const { shown, at, missed, capabilities } = access;
  const rule = tested.rules?.[at];
  const invoked = capabilities.filter(({ right }) => right === "invoke");
  const may = invoked.length === 0 ? "invokes nothing" : `may invoke ${listed(invoked.map(({ name }) => name))}`;
  const result = shown ? `${tested.peer.hubId} sees it and ${may}` : `${tested.peer.hubId} does not see it: ${whyText(tested, access)}`;
  const unread = at < 0 ? 0 : (tested.rules?.length ?? 0) - at - 1;
  const head = facts(io, [
    ["node", { text: `${tested.self}/${offered.info.nodeId}`, style: "bold" }],
    ...heading(tested),
    ["result", { text: result, style: shown ? "green" : "red" }],
    ["not read", unread === 0 ? "" : `${count(unread, "rule")} after the one that decides`],
  ]);
  const chain = chainTable(io, tested.rules ?? [], offered, { missed, at, word: shown ? "shows it" : "hides it" });
  if (!shown || capabilities.length === 0) return head + chain;
  const columns = [{ title: "CAPABILITY" }, { title: "SEES" }, { title: "INVOKES" }, { title: "WHY", flexible: true, prose: true }];
  const yes = (is: boolean): Cell => (is ? { text: "yes", style: "green" } : { text: "no", style: "dim" });
  const rows = capabilities.map((capability): Cell[] => [
    capability.name,
    yes(capability.right !== "none"),
    yes(capability.right === "invoke"),
    capabilityWhy(capability, rule),
  ]);
  return `${head}${chain}\n${table(io, columns, rows)}`;
}

/** importText shows how the import rules judge one node of the peer. */
export function importText(
  io: Io,
  {
    peer,
    source,
    imports,
    info,
    decision,
  }: {
    readonly peer: Peer;
    readonly source: string | undefined;
    readonly imports: readonly NodeRule[] | undefined;
    readonly info: Offered["info"];
    readonly decision: ImportDecision;
  },
): string {
  const { taken, at, missed } = decision;
  const why = imports === undefined ? "there are no import rules" : at < 0 ? "no rule selects it" : `rule ${at + 1} decides`;
  const head = facts(io, [
    ["node", { text: `${peer.hubId}/${info.nodeId}`, style: "bold" }],
    ["imports", imports === undefined ? "no rules: everything is taken in" : `${count(imports.length, "rule")} ${rulesFrom({ source })}`],
    ["result", { text: `${taken ? "taken in" : "kept out after the next start"}: ${why}`, style: taken ? "green" : "red" }],
  ]);
  return head + chainTable(io, imports ?? [], { info }, { missed, at, word: taken ? "takes it in" : "keeps it out" });
}

/** remarks says in sentences how many nodes the peer sees, and what keeps it from seeing them now. */
export function remarks(tested: Judged, nodes: readonly JudgedNode[]): string {
  const { peer, level, share, shares, rules, self, tried } = tested;
  const hubId = clean(peer.hubId);
  const many = (which: (node: JudgedNode) => boolean): string => nodes.filter(which).length.toLocaleString("en-US");
  const shown = many(({ access }) => access.shown);
  const invoked = many(({ access }) => access.capabilities.some(({ right }) => right === "invoke"));
  const lines: string[] = [];
  if (nodes.length > 0) lines.push(`${hubId} sees ${shown} of ${count(nodes.length, "node")} and may invoke ${invoked}`);
  if (level < 2)
    lines.push(
      `nodes are shared from trust limited on: ${tried.trust || peer.maxTrust >= 2 ? `\`foedus peers ${hubId}\` says what its trust is based on` : `\`foedus peer trust ${hubId} limited\` raises the ceiling`}; try it with --trust limited`,
    );
  else if (share === "") lines.push(`give it one: \`foedus peer add ${hubId} --share limited\``);
  else if (share !== FULL_SHARE && rules === undefined)
    lines.push(`shares are ${[FULL_SHARE, ...shares.map(({ name }) => name)].join(", ")}: \`foedus peer add ${hubId} --share <share>\``);
  else if (rules?.length === 0) lines.push(`give share ${share} rules in the configuration; docs/SHARING.md has recipes`);
  if (level >= 2 && peer.levelThere === TrustLevel.MINIMAL)
    lines.push(`${hubId} trusts this hub only minimally, so it takes no nodes from it; there: \`foedus peer trust ${self} limited\``);
  else if (peer.state !== LinkState.OPERATIONAL)
    lines.push(`the link is ${label(LinkStateSchema, peer.state)}: see \`foedus peers ${hubId}\``);
  return lines.map((line) => `${line}\n`).join("");
}
