import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { dirname, resolve } from "node:path";
import { certificateKeyProblem } from "#channel/tls/keys.ts";
import { parseCertificates } from "#channel/tls/material.ts";
import { hubIdProblem } from "#kernel/hub-id.ts";
import { own } from "#kernel/own.ts";
import { parseSettings } from "#runtime/config/json.ts";
import { ConfigError, type ConfigProblem, PROBLEMS_MAX } from "#runtime/config/load.ts";
import { nearest } from "#runtime/config/shape.ts";
import { LISTS_MAX_BYTES, readText } from "#runtime/files.ts";
import type { Address, Level, PeerSpec, PinnedCa, RevokedLeaf } from "../messages.ts";

/** DEFAULT_PORT is the port of a hub that names none (S0-2). */
export const DEFAULT_PORT = 18_800;

/** DEFAULT_SYNC_INTERVAL_MS is the interval of the repeated full comparison with peers, ms (S0-3). */
export const DEFAULT_SYNC_INTERVAL_MS = 30_000;

/** Federation is the parsed federation file. */
export interface Federation {
  readonly peers: readonly PeerSpec[];
  readonly syncIntervalMs: number;
}

/** NO_FEDERATION is what a hub without a federation file has (S0-23). */
export const NO_FEDERATION: Federation = { peers: [], syncIntervalMs: DEFAULT_SYNC_INTERVAL_MS };

/** FederationOptions is what a federation file is read with. */
export interface FederationOptions {
  /** This hub: it cannot be its own peer. */
  readonly hubId: string;
  /** CA certificates by hub id, PEM or path, for peers whose entry has no `ca`. */
  readonly bundles?: Readonly<Record<string, string>>;
  /** Further addresses of pinned hubs, tried after the configured one. */
  readonly seeds?: readonly Address[];
  /** What holds when the file names no `sync_interval`, ms; 30 s if not given (S0-3). */
  readonly syncIntervalMs?: number;
  /** readText reads a file; by default from disk. */
  readonly readText?: (path: string, maxBytes?: number) => string;
  /** Folder that paths are relative to, and name of the file in error messages. */
  readonly folder?: string;
  readonly source?: string;
}

const FILE_KEYS = ["peers", "sync_interval"];
const PEER_KEYS = ["hub_id", "host", "port", "ca", "max_trust", "share", "revoked"];
/** Revoked leaves of one peer. They end by themselves, after 90 days as a rule, and may be taken out then. */
const REVOKED_MAX = 256;
/** Most peers of a hub. Each costs links, certificates to check and a table of its own. */
const PEERS_MAX = 1_024;
const TRUST: Readonly<Record<string, Level>> = { minimal: 1, limited: 2, full: 3 };

type Json = Readonly<Record<string, unknown>>;

/** parseFederation reads a federation file (S0-2, S0-3). It throws a ConfigError that lists every problem with its path. */
export function parseFederation(text: string, options: FederationOptions): Federation {
  return new Parser(options).parse(text);
}

/** loadFederation reads the file at a path; paths in it are relative to it. `count` is the number of peers (S0-10). */
export function loadFederation(
  path: string,
  options: Omit<FederationOptions, "folder" | "source">,
): { readonly federation: Federation; readonly count: number } {
  const read = options.readText ?? readText;
  let text: string;
  try {
    text = read(path, LISTS_MAX_BYTES);
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const message = missing
      ? 'there is no such federation file; write {"peers": []} into it, or correct federation_config_path'
      : `cannot read it: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new ConfigError([{ path: "", source: `file ${path}`, message }]);
  }
  const federation = parseFederation(text, { ...options, folder: dirname(path), source: `file ${path}` });
  return { federation, count: federation.peers.length };
}

/**
 * parseSeeds reads addresses `host[:port]`, from a list or a comma-separated text. Empty items are dropped (S2-15), a scheme in
 * front and a slash at the end are tolerated. It throws a ConfigError for what is no address.
 */
export function parseSeeds(seeds: string | readonly string[]): Address[] {
  const items = (typeof seeds === "string" ? seeds.split(",") : seeds).map((item) => item.trim()).filter((item) => item !== "");
  const problems: ConfigProblem[] = [];
  const addresses = items.flatMap((item, i) => {
    const address = parseAddress(item);
    if (address === undefined)
      problems.push({ path: `seeds[${i}]`, source: "seeds", message: `"${item}" is not an address; write host:port` });
    return address ?? [];
  });
  if (problems.length > 0) throw new ConfigError(problems);
  return addresses;
}

function parseAddress(item: string): Address | undefined {
  const bare = item.replace(/^[a-z][a-z0-9+.-]*:\/\//i, "").replace(/\/+$/, "");
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:/[\]]+))(?::(\d{1,5}))?$/.exec(bare);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? DEFAULT_PORT : Number(match[3]);
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

class Parser {
  readonly #o: FederationOptions;
  readonly #problems: ConfigProblem[] = [];
  readonly #seen = new Set<string>();
  /** Problems beyond those that are told: only counted. */
  #more = 0;

  constructor(options: FederationOptions) {
    this.#o = options;
  }

  parse(text: string): Federation {
    let file: unknown;
    try {
      file = parseSettings(text);
    } catch (error) {
      this.#problem("", (error as Error).message);
    }
    const federation = this.#problems.length === 0 ? this.#file(file) : NO_FEDERATION;
    if (this.#problems.length > 0) throw new ConfigError(this.#problems, this.#more);
    return federation;
  }

  #file(value: unknown): Federation {
    if (!isObject(value)) {
      this.#problem("", "must be an object with `peers`");
      return NO_FEDERATION;
    }
    this.#keys("", value, FILE_KEYS);
    const { peers: list = [], sync_interval: interval = (this.#o.syncIntervalMs ?? DEFAULT_SYNC_INTERVAL_MS) / 1_000 } = value;
    if (typeof interval !== "number" || !(interval >= 1 && interval <= 86_400))
      this.#problem("sync_interval", "must be seconds from 1 to 86400");
    // Judged before the entries: a file of any length must not cost the hub its memory.
    const listed = Array.isArray(list) && list.length <= PEERS_MAX;
    if (!listed) this.#problem("peers", `must be a list of at most ${PEERS_MAX} peers`);
    const peers = (listed ? list : []).flatMap((item: unknown, i) => this.#peer(`peers[${i}]`, item) ?? []);
    return { peers, syncIntervalMs: Number(interval) * 1_000 };
  }

  #peer(path: string, value: unknown): PeerSpec | undefined {
    if (!isObject(value)) return this.#problem(path, "must be an object with `hub_id`");
    this.#keys(path, value, PEER_KEYS);
    const hubId = this.#hubId(path, value["hub_id"]);
    const addresses = this.#address(path, value);
    const maxTrust = this.#maxTrust(path, value["max_trust"]);
    const share = value["share"] ?? (maxTrust === 3 ? "full" : maxTrust === 2 ? "limited" : "");
    if (typeof share !== "string" || share.length > 63)
      this.#problem(`${path}.share`, "must be the name of a share, at most 63 characters");
    const cas = hubId === "" ? [] : this.#cas(path, hubId, value["ca"]);
    const revoked = this.#revoked(path, value["revoked"] ?? []);
    return { hubId, addresses: [...addresses, ...(this.#o.seeds ?? [])], cas, revoked, maxTrust, share: String(share) };
  }

  #hubId(path: string, value: unknown): string {
    const problem =
      typeof value !== "string"
        ? "must be the hub's id"
        : (hubIdProblem(value) ?? (value === this.#o.hubId ? "is this hub itself" : undefined));
    if (problem !== undefined) this.#problem(`${path}.hub_id`, problem);
    if (typeof value !== "string" || problem !== undefined) return "";
    if (this.#seen.has(value)) this.#problem(`${path}.hub_id`, `"${value}" is listed twice`);
    this.#seen.add(value);
    return value;
  }

  #address(path: string, { host, port = DEFAULT_PORT }: Json): Address[] {
    const badPort = typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65_535;
    if (badPort) this.#problem(`${path}.port`, "must be a port from 1 to 65535");
    if (host === undefined || host === "") return [];
    const problem = hostProblem(host);
    if (problem !== undefined) this.#problem(`${path}.host`, problem);
    return badPort || problem !== undefined ? [] : [{ host: String(host).replace(/^\[|\]$/g, ""), port }];
  }

  #maxTrust(path: string, value: unknown): Level {
    if (value === undefined) return 2;
    const level = typeof value === "string" ? own(TRUST, value) : undefined;
    if (level === undefined) this.#problem(`${path}.max_trust`, `must be one of ${Object.keys(TRUST).join(", ")}`);
    return level ?? 1;
  }

  #cas(path: string, hubId: string, ca: unknown): PinnedCa[] {
    const bundle = own(this.#o.bundles ?? {}, hubId);
    const at = ca === undefined && bundle !== undefined ? `trust.bundles.${hubId}` : `${path}.ca`;
    const given = ca ?? bundle;
    if (given === undefined) this.#problem(at, `the CA of ${hubId} is not pinned; give its PEM or a path here, or in trust.bundles`);
    else if (typeof given !== "string") this.#problem(at, "must be PEM text or the path of a PEM file");
    else {
      try {
        return this.#readCas(at, given);
      } catch (cause) {
        this.#problem(at, cause instanceof Error ? cause.message : String(cause));
      }
    }
    return [];
  }

  #readCas(at: string, given: string): PinnedCa[] {
    const pem = given.includes("-----BEGIN") ? given : (this.#o.readText ?? readText)(resolve(this.#o.folder ?? ".", given));
    const certificates = parseCertificates([pem]);
    if (certificates.length === 0) this.#problem(at, "there is no certificate in it");
    if (certificates.some(({ ca }) => !ca)) this.#problem(at, "it holds a certificate that is not a CA; pin the hub's CA, not a leaf");
    const weak = certificates.map(certificateKeyProblem).find((why) => why !== undefined);
    if (weak !== undefined) this.#problem(at, `it holds a certificate that ${weak}`);
    return certificates.map((certificate) => ({
      pem: String(certificate),
      digest: createHash("sha256").update(certificate.raw).digest("hex"),
    }));
  }

  #revoked(path: string, value: unknown): RevokedLeaf[] {
    if (!Array.isArray(value) || value.length > REVOKED_MAX) {
      this.#problem(`${path}.revoked`, `must be a list of at most ${REVOKED_MAX} SHA-256 fingerprints`);
      return [];
    }
    return value.flatMap((item: unknown, i) => {
      const digest = fingerprintOf(item);
      if (digest === undefined)
        this.#problem(`${path}.revoked[${i}]`, "must be the SHA-256 fingerprint of a certificate: 64 hex digits, with or without colons");
      return digest === undefined ? [] : { digest, thumbprint: Buffer.from(digest, "hex").toString("base64url") };
    });
  }

  #keys(path: string, value: Json, known: readonly string[]): void {
    for (const key of Object.keys(value)) {
      if (known.includes(key)) continue;
      const near = this.#problems.length < PROBLEMS_MAX ? nearest(key, known) : undefined;
      this.#problem(
        path === "" ? key : `${path}.${key}`,
        near === undefined ? `is not known; known are ${known.join(", ")}` : `is not known; did you mean ${near}?`,
      );
    }
  }

  #problem(path: string, message: string): undefined {
    if (this.#problems.length < PROBLEMS_MAX) this.#problems.push({ path, source: this.#o.source ?? "federation", message });
    else this.#more++;
    return undefined;
  }
}

/** hostProblem says why something is not one host name or address that can be dialled. */
function hostProblem(host: unknown): string | undefined {
  if (typeof host !== "string" || /[\s/@?#]/.test(host) || host.length > 253)
    return "must be a host name or address, without scheme or path; leave it out if the peer can only dial us";
  if (/[,;]/.test(host)) return "must be one host; further addresses of a peer are seeds (SEEDS, or `seeds` in the configuration)";
  if (isIP(host.replace(/^\[(.*)\]$/, "$1")) !== 0) return undefined;
  const [, name, port] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(host) ?? [];
  if (port !== undefined) return `must be a host without a port: write ${name} here, and ${port} into \`port\` (--port)`;
  return /[:[\]]/.test(host) ? "is no host name, IPv4 or IPv6 address" : undefined;
}

/** fingerprintOf reads a SHA-256 in hex, with or without colons; undefined for anything else. */
function fingerprintOf(value: unknown): string | undefined {
  const digest = typeof value === "string" ? value.replaceAll(":", "").trim().toLowerCase() : "";
  return /^[0-9a-f]{64}$/.test(digest) ? digest : undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
