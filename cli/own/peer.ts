import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { certificateKeyProblem } from "#channel/tls/keys.ts";
import { splitPem } from "#channel/tls/material.ts";
import { uriSans } from "#channel/tls/peer-identity.ts";
import { LinkState, LinkStateSchema, type Peer, PeerSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { LISTS_MAX_BYTES, readText } from "#runtime/files.ts";
import type { Federation } from "../../services/hub/index.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseHub } from "../parse.ts";
import { clean, label } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { addressText } from "../reach/address.ts";
import type { Connection } from "../reach/connect.ts";
import { didYouMean } from "../reach/did-you-mean.ts";
import { nearPath } from "../reach/near-path.ts";
import { messageJson, printJson } from "../verb.ts";
import { HOW_TO_PEER, levelText, stateCell } from "../verbs/peers.ts";
import {
  changeOf,
  checkLevel,
  checkShare,
  type Desk,
  judge,
  openDesk,
  type PeerFlags,
  type PinnedCertificate,
  peersOf,
  pin,
  running,
  save,
  untilSeen,
} from "./desk.ts";
import { peerEntry, peerIds, withoutPeer, withPeer } from "./federation-text.ts";
import type { OwnHubFlags } from "./own-hub.ts";

/** PeerAddFlags are the options of `peer add`. */
export interface PeerAddFlags extends OwnHubFlags, PeerFlags {
  /** File with the peer's CA certificate. */
  readonly ca?: string;
  readonly fingerprint?: readonly string[];
}

/** PeerRevokeFlags are the options of `peer revoke`. */
export interface PeerRevokeFlags extends OwnHubFlags {
  /** File with the certificate. */
  readonly certificate?: string;
  readonly fingerprint?: readonly string[];
}

/** PeerRemoveFlags are the options of `peer remove`. */
export interface PeerRemoveFlags extends OwnHubFlags {
  readonly dryRun?: boolean;
}

/** A link that is on its way gets this long before its state is printed, ms; the hub looks at the file every 2 s. */
const SETTLE_MS = 6_000;

/** list prints the peers of the federation file and, if the hub runs, their links. */
export async function list(io: Io, _args: readonly string[], flags: OwnHubFlags): Promise<ExitCode | undefined> {
  const desk = await openDesk(io, flags);
  const { peers } = judge(desk, desk.text);
  if (flags.quiet) {
    await io.out(peers.map(({ hubId }) => `${hubId}\n`).join(""));
    return EXIT.ok;
  }
  const live = await running(io, desk.hub, flags, (connection) => peersOf(connection, io));
  const linkOf = (hubId: string): Peer | undefined => live?.find((peer) => peer.hubId === hubId);
  if (flags.json)
    await printJson(io, {
      file: desk.path,
      running: live !== undefined,
      peers: peers.map(({ hubId, addresses, cas, maxTrust, share }) => ({
        hub_id: hubId,
        addresses: addresses.map(({ host, port }) => addressText(host, port)),
        ca_sha256: cas.map(({ digest }) => digest),
        max_trust: levelText(maxTrust),
        share,
        link: linkOf(hubId) === undefined ? null : messageJson(PeerSchema, linkOf(hubId)!),
      })),
    });
  else if (peers.length === 0) io.note(`no peers yet in ${nearPath(io.cwd, desk.path)}: ${HOW_TO_PEER}\n`);
  else {
    const columns = [
      { title: "PEER" },
      { title: "ADDRESS", flexible: true },
      { title: "CEILING" },
      { title: "SHARE" },
      { title: "CA SHA-256" },
      { title: "LINK" },
    ];
    const rows = peers.map(({ hubId, addresses: [address], cas, maxTrust, share }): Cell[] => [
      hubId,
      address === undefined ? "dials us" : addressText(address.host, address.port),
      levelText(maxTrust),
      share || "-",
      cas.map(({ digest }) => `${digest.slice(0, 16)}…`).join(" "),
      live === undefined ? "-" : stateCell(linkOf(hubId)?.state ?? LinkState.UNSPECIFIED),
    ]);
    await io.out(table(io, columns, rows));
    if (live === undefined) io.note("the hub is not running or did not answer: there are no links to show\n");
  }
  return EXIT.ok;
}

/** add pins a hub's CA and lists the hub as a peer, or changes its entry. What is not given stays as it is. */
export async function add(io: Io, [hubId = ""]: readonly string[], flags: PeerAddFlags): Promise<ExitCode | undefined> {
  parseHub(hubId);
  const desk = await openDesk(io, flags);
  if (hubId === desk.hub.config.hub_id) throw usage(`${hubId} cannot be its own peer`, "Give the id of the other hub.");
  const present = peerEntry(desk.text, hubId);
  const change = changeOf(flags);
  checkShare(desk, hubId, change);
  const pinned = flags.ca === undefined ? undefined : await readCa(io, hubId, flags.ca);
  if (pinned === undefined && present === undefined)
    throw usage(
      `the CA of ${hubId} is needed`,
      "Give --ca with the ca.pem that its operator sent, and compare its SHA-256 over another channel.",
    );
  let replaced = false;
  if (pinned !== undefined) {
    if (!flags.json) for (const { sha256 } of pinned) io.note(`CA of ${hubId}: SHA-256 ${sha256}\n`);
    checkFingerprints(hubId, pinned, flags.fingerprint);
    replaced = await pin(desk, hubId, pinned, change, {
      allowed: flags.fingerprint !== undefined,
      remedy: "Ask its operator over another channel whether the CA was replaced, then repeat with --fingerprint and the new SHA-256.",
    });
  }
  const changed = (await save(desk, withPeer(desk.text, hubId, change))) || replaced;
  const what = present === undefined ? `${hubId} is a peer now` : changed ? `${hubId} was changed` : `${hubId} is as asked for already`;
  await report(io, desk, flags, { hubId, what, changed, sha256: pinned?.map(({ sha256 }) => sha256) ?? [] });
  return EXIT.ok;
}

/**
 * trust sets the ceiling of a peer's trust level. An entry that names no share gets one by its ceiling; raising the ceiling must not
 * show more of this hub by the way, so the share is then written out as it was.
 */
export async function trust(io: Io, [hubId = "", level = ""]: readonly string[], flags: OwnHubFlags): Promise<ExitCode | undefined> {
  parseHub(hubId);
  checkLevel(level);
  const desk = await openDesk(io, flags);
  const entry = mustBePeer(desk, hubId);
  const keepsShare = level === "full" && entry["share"] === undefined && entry["max_trust"] !== "full";
  checkShare(desk, hubId, { max_trust: level });
  const changed = await save(desk, withPeer(desk.text, hubId, { max_trust: level, ...(keepsShare ? { share: "limited" } : {}) }));
  if (keepsShare) io.note(`its share stays limited; \`foedus peer add ${hubId} --share full\` shows it everything\n`);
  const what = changed ? `${hubId} is trusted up to ${level} now` : `${hubId} is trusted up to ${level} already`;
  await report(io, desk, flags, { hubId, what, changed, sha256: [] });
  return EXIT.ok;
}

/**
 * revoke makes certificates of a peer's services worthless here: one that was stolen, and is not yet over. The peer goes on with another
 * one of the same CA.
 */
export async function revoke(io: Io, [hubId = ""]: readonly string[], flags: PeerRevokeFlags): Promise<ExitCode | undefined> {
  parseHub(hubId);
  const desk = await openDesk(io, flags);
  const entry = mustBePeer(desk, hubId);
  const given = [...(flags.fingerprint ?? []).map(fingerprint), ...(await leafDigests(io, hubId, flags.certificate))];
  if (given.length === 0) throw usage("no certificate was given", "Give --certificate with its file, or --fingerprint with its SHA-256.");
  const before = (Array.isArray(entry["revoked"]) ? entry["revoked"] : []) as readonly unknown[];
  const known = new Set(before.map((digest) => hex(String(digest))));
  const more = [...new Set(given)].filter((digest) => !known.has(digest));
  const changed = more.length > 0 && (await save(desk, withPeer(desk.text, hubId, { revoked: [...before.map(String), ...more] })));
  const many = given.length === 1 ? "the certificate" : `${given.length} certificates`;
  const what = changed ? `${many} of ${hubId} revoked` : `${many} of ${hubId} revoked already`;
  await report(io, desk, flags, { hubId, what, changed, sha256: [] });
  return EXIT.ok;
}

/** fingerprint reads a SHA-256. Throws CliError (usage). */
function fingerprint(text: string): string {
  const digest = hex(text);
  if (!/^[0-9a-f]{64}$/.test(digest)) throw usage(`"${text}" is not a SHA-256 fingerprint`, "Give 64 hex digits, with or without colons.");
  return digest;
}

/** leafDigests reads the leaf of a certificate file, and refuses what is not one of that hub's. Throws CliError. */
async function leafDigests(io: Io, hubId: string, path: string | undefined): Promise<readonly string[]> {
  if (path === undefined) return [];
  const { file, certificates } = await readCertificates(io, path, "Give the certificate file of the peer's service.");
  const [leaf] = certificates;
  if (leaf === undefined || leaf.ca)
    throw usage(`there is no certificate of a service in ${file}`, "To stop trusting a CA, pin another one with `foedus peer add`.");
  if (!uriSans(leaf).some((name) => name.startsWith(`spiffe://${hubId}/`)))
    throw new CliError(EXIT.refused, `${file} is not a certificate of ${hubId}`, "Give its certificate, or correct the id.");
  return [hex(leaf.fingerprint256)];
}

/** remove takes a peer out of the federation file and deletes the copy of its CA that `add` made. It says what goes and what stays. */
export async function remove(io: Io, [hubId = ""]: readonly string[], flags: PeerRemoveFlags): Promise<ExitCode | undefined> {
  parseHub(hubId);
  const desk = await openDesk(io, flags);
  const present = peerEntry(desk.text, hubId);
  const copy = join(dirname(desk.path), "peers", `${hubId}.pem`);
  const ours = existsSync(copy) && (present === undefined || present["ca"] === join("peers", `${hubId}.pem`));
  const deleted = [
    ...(present === undefined ? [] : [`the entry of ${hubId} in ${desk.path}`]),
    ...(ours ? [`the copy of its CA, ${copy}`] : []),
    ...(present === undefined ? [] : [`what this hub knows of its nodes, its link and its trust`]),
  ];
  const foreign =
    typeof present?.["ca"] === "string" && !ours
      ? [`its CA file ${present["ca"].includes("-----BEGIN") ? "(it stood in the entry)" : present["ca"]}`]
      : [];
  const kept = [...foreign, "this hub's own nodes, keys and shares", `what ${hubId} has of us: its operator removes that there`];
  if (deleted.length === 0) {
    if (flags.json) await printJson(io, { hub_id: hubId, changed: false, deleted: [], kept: [] });
    else {
      const meant = didYouMean(hubId, peerIds(desk.text));
      io.note(`${hubId} is not a peer; nothing to do${meant === "" ? "" : `. ${meant}`}\n`);
    }
    return EXIT.ok;
  }
  if (!flags.json && !flags.quiet)
    await io.out(facts(io, [...deleted.map((what) => ["delete", what] as const), ...kept.map((what) => ["keep", what] as const)]));
  const dryRun = flags.dryRun === true;
  if (!dryRun) {
    await save(desk, withoutPeer(desk.text, hubId));
    if (ours) await unlink(copy);
  }
  const gone = dryRun ? undefined : await running(io, desk.hub, flags, (connection) => untilGone(io, connection, hubId));
  if (flags.json) await printJson(io, { hub_id: hubId, changed: !dryRun, deleted, kept, running: gone !== undefined });
  else if (dryRun) io.note("nothing was changed: --dry-run\n");
  else if (!flags.quiet)
    await io.out(
      gone === undefined
        ? `${hubId} is removed; the hub is not running or did not answer\n`
        : `${hubId} is removed; the hub has ended the link\n`,
    );
  return EXIT.ok;
}

function mustBePeer({ text, path }: Desk, hubId: string): Readonly<Record<string, unknown>> {
  const entry = peerEntry(text, hubId);
  if (entry === undefined)
    throw new CliError(
      EXIT.notFound,
      `there is no peer ${hubId} in ${path}`,
      didYouMean(hubId, peerIds(text), "See `foedus peer list`; add it with `foedus peer add`.") || "Add it with `foedus peer add`.",
    );
  return entry;
}

async function readCertificates(
  io: Io,
  path: string,
  remedy: string,
): Promise<{ readonly file: string; readonly certificates: readonly X509Certificate[] }> {
  const file = resolve(io.cwd, path);
  try {
    return { file, certificates: splitPem(readText(file)).map((pem) => new X509Certificate(pem)) };
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new CliError(missing ? EXIT.notFound : EXIT.usage, `${file} cannot be read as a certificate`, remedy, { cause: error });
  }
}

/** readCa reads the certificates of a CA file and nothing else of it, and refuses what cannot be the CA of that hub. Throws CliError. */
async function readCa(io: Io, hubId: string, path: string): Promise<readonly PinnedCertificate[]> {
  const { file, certificates } = await readCertificates(io, path, "Give the ca.pem of the other hub.");
  if (certificates.length === 0) throw usage(`there is no certificate in ${file}`, "Give the ca.pem of the other hub.");
  for (const certificate of certificates) {
    const names = uriSans(certificate);
    const weak = certificateKeyProblem(certificate);
    if (weak !== undefined) throw new CliError(EXIT.refused, `the CA in ${file} ${weak}`, "Ask its operator for a CA with such a key.");
    if (!certificate.ca) throw usage(`${file} holds a leaf (${names.join(" ")}), not a CA`, "Give the ca.pem of the other hub.");
    const other = names.find((name) => name.startsWith("spiffe://") && name !== `spiffe://${hubId}`);
    if (other !== undefined)
      throw new CliError(
        EXIT.refused,
        `${file} is the CA of ${other.slice("spiffe://".length)}, not of ${hubId}`,
        "Give the CA of that hub, or correct the id.",
      );
    if (certificate.validToDate.getTime() <= io.clock.wall())
      throw new CliError(EXIT.refused, `the CA in ${file} expired on ${certificate.validTo}`, "Ask its operator for the current one.");
  }
  return certificates.map((certificate) => ({ pem: String(certificate), sha256: hex(certificate.fingerprint256) }));
}

function hex(text: string): string {
  return text.toLowerCase().replaceAll(":", "").trim();
}

function checkFingerprints(hubId: string, pinned: readonly PinnedCertificate[], expected: readonly string[] | undefined): void {
  if (expected === undefined) return;
  const known = expected.map(hex);
  const wrong = pinned.find(({ sha256 }) => !known.includes(sha256));
  if (wrong !== undefined)
    throw new CliError(
      EXIT.refused,
      `the file has the CA ${wrong.sha256}, not the one you expect`,
      `Do not pin it; ask the operator of ${hubId} for the file again.`,
    );
}

const NOT_TAKEN = "See its log: it may have refused the federation file, or it was started with another one.";

const digestsOf = (certificates: readonly { readonly digest: string }[]): string => certificates.map(({ digest }) => digest).join();

async function untilGone(io: Io, connection: Connection, hubId: string): Promise<true> {
  const peers = await untilSeen(io, connection, connection.timeoutMs, (seen) => seen.every((peer) => peer.hubId !== hubId));
  if (peers.every((peer) => peer.hubId !== hubId)) return true;
  throw new CliError(EXIT.failed, `the hub still has ${hubId} as a peer`, NOT_TAKEN);
}

/** untilTaken waits until the hub shows a peer as the file has it, then a little for its link. */
async function untilTaken(io: Io, connection: Connection, wanted: Federation["peers"][number], changed: boolean): Promise<Peer> {
  const [cas, revoked] = [digestsOf(wanted.cas), digestsOf(wanted.revoked)];
  const find = (peers: readonly Peer[]): Peer | undefined =>
    peers.find(
      ({ hubId, maxTrust, share, caSha256, revokedSha256 }) =>
        hubId === wanted.hubId &&
        maxTrust === wanted.maxTrust &&
        share === wanted.share &&
        caSha256.join() === cas &&
        revokedSha256.join() === revoked,
    );
  const taken = find(await untilSeen(io, connection, connection.timeoutMs, (peers) => find(peers) !== undefined));
  if (taken === undefined) throw new CliError(EXIT.failed, `the hub does not show the change of ${wanted.hubId}`, NOT_TAKEN);
  if (!changed) return taken;
  const settled = (peer: Peer | undefined): boolean =>
    peer === undefined || peer.state === LinkState.OPERATIONAL || peer.state === LinkState.TERMINATED || peer.failure !== undefined;
  return find(await untilSeen(io, connection, SETTLE_MS, (peers) => settled(find(peers)))) ?? taken;
}

async function report(
  io: Io,
  desk: Desk,
  flags: OwnHubFlags,
  done: { readonly hubId: string; readonly what: string; readonly changed: boolean; readonly sha256: readonly string[] },
): Promise<void> {
  const { hubId, what, changed, sha256 } = done;
  const wanted = judge(desk, readText(desk.path, LISTS_MAX_BYTES)).peers.find((peer) => peer.hubId === hubId)!;
  let refusal: CliError | undefined;
  const live = await running(io, desk.hub, flags, (connection) =>
    untilTaken(io, connection, wanted, changed).catch((error: unknown) => {
      if (!(error instanceof CliError)) throw error;
      refusal = error;
      return undefined;
    }),
  );
  if (refusal !== undefined) throw refusal;
  if (flags.json) {
    const link = live === undefined ? null : messageJson(PeerSchema, live);
    await printJson(io, {
      hub_id: hubId,
      changed,
      file: desk.path,
      ...(sha256.length === 0 ? {} : { ca_sha256: sha256 }),
      running: live !== undefined,
      link,
    });
    return;
  }
  if (flags.quiet) return;
  const file = nearPath(io.cwd, desk.path);
  if (live === undefined) return io.out(`${what} (${file}); the hub is not running or did not answer\n`);
  const problem = live.failure === undefined || live.state === LinkState.OPERATIONAL ? "" : `: ${live.failure.message}`;
  await io.out(`${what} (${file}); the link is ${label(LinkStateSchema, live.state)}${clean(problem)}\n`);
}
