import { existsSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { LISTS_MAX_BYTES, readText, writeWhole } from "#runtime/files.ts";
import { checkFederation, type Federation, resolveFrom } from "../../services/hub/index.ts";
import { CliError, EXIT, toCliError, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean } from "../print/format.ts";
import type { Connection } from "../reach/connect.ts";
import { EMPTY, type PeerChange, peerEntry, withPeer } from "./federation-text.ts";
import { connectOwn, type OwnHub, type OwnHubFlags, readOwnHub, withConfig } from "./own-hub.ts";

/**
 * What the verbs on a hub's federation file have in common: the file is judged as the hub would judge it before it is written, whole,
 * in one step, and the hub itself is asked if it runs.
 */

/** PeerFlags are what can be said of a peer's entry. */
export interface PeerFlags {
  readonly host?: string;
  readonly port?: string;
  readonly maxTrust?: string;
  readonly share?: string;
}

/** PeerChanges is a PeerChange that is being put together. */
export type PeerChanges = { -readonly [Key in keyof PeerChange]: PeerChange[Key] };

/** PinnedCertificate is a CA certificate and how people tell it apart. */
export interface PinnedCertificate {
  readonly pem: string;
  /** SHA-256 of the DER, hex. */
  readonly sha256: string;
}

const LEVELS = ["full", "limited", "minimal"];
/** How often the running hub is asked, ms. */
const LOOK_MS = 200;

/** Desk is the federation file of a hub, ready to be changed. */
export interface Desk {
  readonly hub: OwnHub;
  readonly path: string;
  readonly text: string;
}

/** openDesk reads the federation file of the hub in this folder, or of --config. Throws CliError (usage, notFound) and ConfigError. */
export async function openDesk(io: Io, flags: OwnHubFlags): Promise<Desk> {
  const hub = readOwnHub(io, await withConfig(io, flags));
  if (hub.config.federation_config_path === "")
    throw usage(`federation is off in ${hub.file}`, 'Set "federation_config_path": "federation.json" in it and restart the hub.');
  const path = resolveFrom(hub.folder, hub.config.federation_config_path);
  try {
    return { hub, path, text: readText(path, LISTS_MAX_BYTES) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { hub, path, text: EMPTY };
    throw error;
  }
}

/** judge reads a text as the hub would if it stood in the file. Throws ConfigError. */
export function judge({ hub }: Desk, text: string): Federation {
  return checkFederation(hub.config, hub.folder, text);
}

/** EntryText is what the entry of a peer says of trust and share. */
interface EntryText {
  readonly maxTrust: string;
  readonly share: string;
}

/** entryOf tells what the entry of a peer will say; what nobody says is what the hub reads from an entry without it. */
export function entryOf(desk: Desk, hubId: string | undefined, change: PeerChange): EntryText {
  return entryText({ ...(hubId === undefined ? {} : peerEntry(desk.text, hubId)), ...change });
}

function entryText(entry: Readonly<Record<string, unknown>>): EntryText {
  const maxTrust = String(entry["max_trust"] ?? "limited");
  return { maxTrust, share: String(entry["share"] ?? (maxTrust === "minimal" ? "" : maxTrust)) };
}

/**
 * checkShare refuses a change after which a peer has a share that the hub does not define: it would see nothing. That may be the share
 * that goes with its ceiling, which nobody wrote. A share that it has already is left to `doctor`. `hubId` is undefined for a guest who
 * is not known yet. Throws CliError (usage).
 */
export function checkShare(desk: Desk, hubId: string | undefined, change: PeerChange): void {
  const shares = ["full", ...Object.keys(desk.hub.config.registry_sync.shares)];
  const { share } = entryOf(desk, hubId, change);
  if (share === "" || shares.includes(share)) return;
  const present = hubId === undefined ? undefined : peerEntry(desk.text, hubId);
  if (change.share === undefined && present !== undefined && entryText(present).share === share) return;
  const known = `shares are ${shares.join(", ")}`;
  if (change.share !== undefined) throw usage(`there is no share "${share}"; ${known}`, "Correct --share, or define it in hub.json first.");
  const how = present === undefined ? "--share" : `\`foedus peer add ${hubId} --share <share>\``;
  throw usage(
    `there is no share "${share}", which is the default for this trust ceiling; ${known}`,
    `Choose one with ${how}, or define it in hub.json first.`,
  );
}

/** save writes the file if it differs and is valid. Throws ConfigError. True if it was written. */
export async function save(desk: Desk, text: string): Promise<boolean> {
  judge(desk, text);
  if (text === desk.text && existsSync(desk.path)) return false;
  writeWhole(desk.path, text);
  return true;
}

/** mustBeWritable refuses early what `save` could not do later, when others already wait for it. Throws CliError. */
export async function mustBeWritable({ path }: Desk): Promise<void> {
  for (const place of [dirname(path), path])
    try {
      await access(place, constants.W_OK);
    } catch (error) {
      // What is missing is made; what is there must allow it.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw new CliError(
        EXIT.failed,
        `you may not write to ${place}`,
        "Run this as the user that runs the hub. If the file is mounted read-only, add the peer where the file is generated.",
        { cause: error },
      );
    }
}

/** checkLevel refuses what is no trust level. Throws CliError (usage). */
export function checkLevel(level: string): void {
  if (!LEVELS.includes(level)) throw usage(`there is no trust level "${level}"`, `Levels are ${LEVELS.join(", ")}.`);
}

/** changeOf reads what the flags change in a peer's entry. Throws CliError (usage). */
export function changeOf({ host, port: text, maxTrust, share }: PeerFlags): PeerChanges {
  const port = Number(text);
  if (text !== undefined && !(Number.isInteger(port) && port >= 1 && port <= 65_535))
    throw usage(`"${text}" is not a port`, "Give 1 to 65535.");
  if (maxTrust !== undefined) checkLevel(maxTrust);
  return {
    ...(host === undefined ? {} : { host }),
    ...(text === undefined ? {} : { port }),
    ...(maxTrust === undefined ? {} : { max_trust: maxTrust }),
    ...(share === undefined ? {} : { share }),
  };
}

/**
 * pin puts a hub's CA beside the federation file and names it in `change`; true if it replaces another one, which only `replace`
 * allows. An entry that has this very CA keeps it where it is. Nothing is written before the whole file was judged.
 * Throws CliError (refused) and ConfigError.
 */
export async function pin(
  desk: Desk,
  hubId: string,
  pinned: readonly PinnedCertificate[],
  change: PeerChanges,
  replace: { readonly allowed: boolean; readonly remedy: string },
): Promise<boolean> {
  const before = pinnedBefore(desk, hubId);
  const replaced = before !== undefined && pinned.map(({ sha256 }) => sha256).join() !== before.join();
  if (replaced && !replace.allowed)
    throw new CliError(EXIT.refused, `a different CA is already pinned for ${hubId} (SHA-256 ${before?.join(" ")})`, replace.remedy);
  if (before !== undefined && !replaced) return false;
  const copy = join("peers", `${hubId}.pem`);
  const pems = pinned.map(({ pem }) => pem).join("");
  judge(desk, withPeer(desk.text, hubId, { ...change, ca: pems }));
  writeWhole(join(dirname(desk.path), copy), pems);
  change.ca = copy;
  return replaced;
}

/** pinnedBefore gives the digests that the file pins for a hub; undefined if none, or if the file cannot be read as it is. */
export function pinnedBefore(desk: Desk, hubId: string): readonly string[] | undefined {
  try {
    const found = judge(desk, desk.text).peers.find((peer) => peer.hubId === hubId);
    return found === undefined ? undefined : found.cas.map(({ digest }) => digest);
  } catch {
    // The entry may be what is wrong with it; the changed file is judged before it is written.
    return undefined;
  }
}

/** running asks the hub, if it runs and there is a certificate for it; undefined otherwise, with a note why. */
export async function running<T>(
  io: Io,
  hub: OwnHub,
  flags: OwnHubFlags,
  ask: (connection: Connection) => Promise<T>,
): Promise<T | undefined> {
  const connection = await connectOwn(io, hub, flags);
  if (connection === undefined) return undefined;
  using asked = connection;
  try {
    return await ask(asked);
  } catch (error) {
    const failure = toCliError(error, () => "");
    if (failure.exitCode !== EXIT.connect && !io.stopped.aborted) io.note(`the running hub did not answer: ${clean(failure.message)}\n`);
    return undefined;
  }
}

/** peersOf asks the running hub for its peers. */
export async function peersOf(connection: Connection, io: Io): Promise<readonly Peer[]> {
  return (await connection.discovery.listPeers(create(ListPeersRequestSchema), { signal: io.stopped })).peers;
}

/** untilSeen looks at the hub's peers until `done` says so, or `limitMs` passed; it gives what it saw last. */
export async function untilSeen(
  io: Io,
  connection: Connection,
  limitMs: number,
  done: (peers: readonly Peer[]) => boolean,
): Promise<readonly Peer[]> {
  const end = io.clock.mono() + limitMs;
  for (;;) {
    const peers = await peersOf(connection, io);
    if (done(peers) || io.clock.mono() >= end) return peers;
    await sleep(io.clock, LOOK_MS, io.stopped);
  }
}
