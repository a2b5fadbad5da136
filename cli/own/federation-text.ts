/**
 * Changes to the text of a federation file. It belongs to the operator: what a change is not about stays, indentation included.
 */

/** PeerChange is what is set in a peer's entry; what is left out stays as it is. */
export interface PeerChange {
  readonly host?: string;
  readonly port?: number;
  readonly ca?: string;
  readonly max_trust?: string;
  readonly share?: string;
  readonly revoked?: readonly string[];
}

type Json = Record<string, unknown>;

/** EMPTY is the federation file of a hub without peers. */
export const EMPTY = '{\n  "peers": []\n}\n';

/** Order in which a new entry's fields are written. */
const ORDER = ["hub_id", "host", "port", "ca", "max_trust", "share", "revoked"];

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** parts gives the file and its entries; undefined if it has no such shape, which parseFederation then explains. */
function parts(text: string): { readonly file: Json; readonly peers: readonly unknown[] } | undefined {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(file)) return undefined;
  const peers = file["peers"] ?? [];
  return Array.isArray(peers) ? { file, peers } : undefined;
}

/** peerIds lists the hub ids in a federation file, as far as it can be read. */
export function peerIds(text: string): string[] {
  return (parts(text)?.peers ?? []).flatMap((peer) => (isObject(peer) && typeof peer["hub_id"] === "string" ? [peer["hub_id"]] : []));
}

/** written lays the file out with the indentation that it has, by default two spaces. */
function written(text: string, file: Json): string {
  const [, indent = "  "] = /^([ \t]+)\S/m.exec(text) ?? [];
  return `${JSON.stringify(file, undefined, indent)}${text.endsWith("\n") || text.trim() === "" ? "\n" : ""}`;
}

/** peerEntry gives the entry of a peer as it stands in the file; undefined if there is none. */
export function peerEntry(text: string, hubId: string): Readonly<Record<string, unknown>> | undefined {
  return parts(text)?.peers.find((entry): entry is Json => isObject(entry) && entry["hub_id"] === hubId);
}

/** withPeer adds a peer at the end, or changes its entry. The same text comes back if nothing changes, or if it is no federation file. */
export function withPeer(text: string, hubId: string, change: PeerChange): string {
  const found = parts(text);
  if (found === undefined) return text;
  const { file, peers } = found;
  const present = peerEntry(text, hubId);
  const next: Json = { ...(present ?? { hub_id: hubId }), ...change };
  if (present !== undefined && JSON.stringify(next) === JSON.stringify(present)) return text;
  const entry = present === undefined ? Object.fromEntries(ORDER.flatMap((key) => (key in next ? [[key, next[key]]] : []))) : next;
  return written(text, {
    ...file,
    peers: present === undefined ? [...peers, entry] : peers.map((old) => (sameHub(old, hubId) ? entry : old)),
  });
}

/** withoutPeer takes a peer out; the same text comes back if it is not in it. */
export function withoutPeer(text: string, hubId: string): string {
  const found = parts(text);
  if (found === undefined || peerEntry(text, hubId) === undefined) return text;
  return written(text, { ...found.file, peers: found.peers.filter((entry) => !sameHub(entry, hubId)) });
}

function sameHub(entry: unknown, hubId: string): boolean {
  return isObject(entry) && entry["hub_id"] === hubId;
}
