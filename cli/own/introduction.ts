import { Registry } from "prom-client";
import { whenAborted } from "#channel/abort.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { LinkState, LinkStateSchema, type Peer, PeerSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { authorityAt, digestOf } from "#runtime/tls/door.ts";
import {
  type Candidate,
  DOOR,
  type Door,
  decodeInvite,
  encodeInvite,
  type Invite,
  introduce,
  newPin,
  newSecret,
  openDoor,
  PIN_PATTERN,
} from "../../services/introduction/index.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseDuration } from "../parse.ts";
import { clean, label } from "../print/format.ts";
import { addressText, dialable } from "../reach/address.ts";
import { nearPath } from "../reach/near-path.ts";
import { messageJson, printJson } from "../verb.ts";
import {
  changeOf,
  checkShare,
  type Desk,
  entryOf,
  judge,
  mustBeWritable,
  openDesk,
  type PeerFlags,
  pin,
  pinnedBefore,
  running,
  save,
  untilSeen,
} from "./desk.ts";
import { withPeer } from "./federation-text.ts";
import { type Address, type DoorFlags, doorAddresses, modeOf, type OwnSide, ownSide } from "./own-door.ts";
import type { OwnHubFlags } from "./own-hub.ts";

/** InviteFlags are the options of `peer invite`. */
export interface InviteFlags extends OwnHubFlags, Pick<PeerFlags, "maxTrust" | "share">, DoorFlags {
  /** Life of the invite. */
  readonly ttl?: string;
}

/** AcceptFlags are the options of `peer accept`. */
export interface AcceptFlags extends OwnHubFlags, Pick<PeerFlags, "maxTrust" | "share"> {
  readonly pin?: string;
}

const TTL_MIN_MS = 10_000;
const TTL_MAX_MS = 3_600_000;
/** How often a person may mistype the PIN; the host counts by itself. */
const PIN_TRIES = 3;
/** How long a new link is waited for, ms: both hubs look at their files every 2 s, and a first dial that came too early is repeated. */
const LINK_MS = 60_000;
const CALL_MS = 10_000;

/** invite opens the introduction door for one guest, prints the invite and the PIN, and waits for the guest and then for the link. */
export async function invite(io: Io, _args: readonly string[], flags: InviteFlags): Promise<ExitCode | undefined> {
  const change = changeOf(flags);
  const lifeMs = ttlOf(flags.ttl);
  const desk = await openDesk(io, flags);
  checkShare(desk, undefined, change);
  judge(desk, desk.text);
  await mustBeWritable(desk);
  const { hub_id: hubId } = desk.hub.config;
  const mode = await modeOf(io, desk, flags);
  const own = await ownSide(io, desk, mode);
  const at = doorAddresses(desk.hub.config, mode, flags);
  const secret = newSecret(systemEntropy);
  const pinCode = newPin(systemEntropy);
  let guest: Candidate | undefined;
  let refusal: unknown;
  let told = false;
  const door = await openDoor({
    ...own,
    secret,
    pin: pinCode,
    listen: at.listen,
    config: { lifeMs },
    clock: io.clock,
    entropy: systemEntropy,
    log: silentLogger,
    metrics: new Registry(),
    admit: async (candidate) => {
      await makePeer(io, flags, candidate).catch((error: unknown) => {
        refusal = error;
        throw toldToGuest(error, hubId, candidate.hubId);
      });
      guest = candidate;
    },
    onRefused: (error) => (refusal ??= error),
    onNote: ({ what, attemptsLeft }) => {
      if (what === "wrong_proof") io.note(`somebody with the invite entered a wrong PIN; attempts left: ${attemptsLeft}\n`);
      else if (!told) io.note("somebody without the invite tried to connect and was refused; further attempts are not reported\n");
      told ||= what === "uninvited";
    },
  }).catch(async (error: unknown) => {
    throw await whyShut(error, io, desk, own, at.listen);
  });
  const withdraw = (): void => door.withdraw();
  whenAborted(io.stopped, withdraw);
  const advertise = { ...at.advertise, port: at.advertise.port === 0 ? door.port : at.advertise.port };
  await tell(io, flags, { hubId, secret, caDigest: door.caDigest, ...advertise }, pinCode, lifeMs);
  const end = await door.closed;
  io.stopped.removeEventListener("abort", withdraw);
  if (guest !== undefined) return report(io, flags, guest);
  if (refusal !== undefined) throw refusal;
  return withoutGuest(io, flags, end, lifeMs);
}

/** withoutGuest says why an invite is over through which nobody came. */
function withoutGuest(io: Io, flags: InviteFlags, end: Awaited<Door["closed"]>, lifeMs: number): ExitCode {
  if (end === "attempts")
    throw new CliError(
      EXIT.refused,
      `the invite was closed after ${DOOR.attempts} wrong PINs`,
      "If your partner mistyped it, create a new invite. If not, somebody else has the invite: send the next one over another channel.",
    );
  if (end === "expired")
    throw new CliError(
      EXIT.timeout,
      `nobody accepted the invite within ${Math.round(lifeMs / 1_000)} s, so it was closed`,
      "Create a new one.",
    );
  // Whoever pressed ctrl-c knows that, and is told what became of the invite; a script must not take it for a peer.
  if (flags.json) throw new CliError(EXIT.failed, "the invite was withdrawn", "Create a new one when you need it.");
  io.note("the invite was withdrawn and cannot be used any more\n");
  return EXIT.failed;
}

/** accept goes through the door of an invite: says what will be trusted, asks for the PIN, writes the peer and waits for the link. */
export async function accept(io: Io, words: readonly string[], flags: AcceptFlags): Promise<ExitCode | undefined> {
  const change = changeOf(flags);
  const invitation = decodeInvite(inviteIn(words));
  if (flags.pin !== undefined && !PIN_PATTERN.test(digitsOf(flags.pin)))
    throw usage("the PIN must have six digits", "Ask the operator who invited you for it.");
  const desk = await openDesk(io, flags);
  checkShare(desk, invitation.hubId, change);
  mayTrust(desk, invitation);
  await mustBeWritable(desk);
  const mode = await modeOf(io, desk, flags);
  const own = await ownSide(io, desk, mode);
  const authority = await authorityAt(invitation, io.clock, io.stopped).catch((error: unknown) => {
    if (!(error instanceof FoedusError) || error.failure.reason !== "PEER_UNREACHABLE") throw error;
    const { failure } = error;
    throw new CliError(EXIT.connect, failure.message, "Ask for a new invite, with an address that this hub can reach.", {
      failure,
      cause: error,
    });
  });
  const { maxTrust, share } = entryOf(desk, invitation.hubId, change);
  io.note(
    `${invitation.hubId} at ${addressText(invitation.host, invitation.port)} invites ${own.offer.hubId}.\n` +
      `Its CA has the SHA-256 ${Buffer.from(invitation.caDigest).toString("hex")}, as the invite says.\n` +
      `With the PIN, each hub pins the other's CA. Here ${invitation.hubId} is trusted up to ${maxTrust} and sees the share ${share || "(none)"}.\n`,
  );
  const host = await withPin(io, flags, (pinCode) =>
    introduce({
      invite: invitation,
      pin: pinCode,
      authority,
      ...own,
      clock: io.clock,
      entropy: systemEntropy,
      timeoutMs: CALL_MS,
      signal: io.stopped,
    }),
  );
  if (host.address === undefined && own.offer.address === undefined)
    io.note("neither hub has an address that the other can dial; give one of them an advertise_host\n");
  await makePeer(io, flags, host);
  return report(io, flags, host);
}

/**
 * inviteIn finds the invite in what was pasted: alone, in the line that `peer invite` prints, in quotes, or in several words. Throws
 * CliError (usage).
 */
function inviteIn(words: readonly string[]): string {
  const text = words.join(" ");
  const [, invite] = /(foedus-invite:.*?)["'`>]*$/s.exec(text.trim()) ?? [];
  if (invite !== undefined) return invite;
  const remedy = "Copy the whole invite that `foedus peer invite` printed for your partner; it begins with foedus-invite:.";
  if (text.trim() === "") throw usage("the invite is empty", remedy);
  throw usage(PIN_PATTERN.test(digitsOf(text)) ? "this is a PIN, not the invite that it belongs to" : "this is not an invite", remedy);
}

/** digitsOf reads a PIN: as it is printed, in two groups, it is taken as well. */
function digitsOf(pin: string): string {
  return pin.replace(/[\s-]/g, "");
}

/** withPin asks for the PIN until it is right, some times at most; with --pin once. */
async function withPin(io: Io, flags: AcceptFlags, attempt: (pin: string) => Promise<Candidate>): Promise<Candidate> {
  for (let tries = flags.pin === undefined ? PIN_TRIES : 1; ; tries--) {
    const typed = flags.pin ?? (await io.ask("PIN (six digits, from the operator who invited you): "));
    if (typed === undefined && io.stopped.aborted)
      throw new CliError(
        EXIT.failed,
        "stopped before the PIN was given",
        "Nothing was changed, and the invite stays valid until it expires.",
      );
    if (typed === undefined) throw usage("no PIN was given", "Type it when you are asked, or give it with --pin.");
    const pinCode = digitsOf(typed);
    if (!PIN_PATTERN.test(pinCode)) {
      if (tries <= 1) throw usage("the PIN must have six digits", "Ask the operator who invited you for it.");
      io.note("the PIN must have six digits\n");
      continue;
    }
    try {
      return await attempt(pinCode);
    } catch (error) {
      const wrong = error instanceof FoedusError && error.failure.reason === "PIN_MISMATCH";
      if (!wrong || tries <= 1 || error.failure.facts?.["attempts_left"] === "0") throw error;
      io.note(`${clean(error.failure.message)}\n`);
    }
  }
}

/** whyShut says why the door did not open: whoever has its port and shows this hub's CA is its door already, unless the port is a service's. */
async function whyShut(error: unknown, io: Io, { hub }: Desk, { bundle }: OwnSide, { host, port }: Address): Promise<unknown> {
  if (!(error instanceof FoedusError) || error.failure.reason !== "ALREADY_EXISTS") return error;
  const { listen, services } = hub.config;
  if ([listen, ...Object.values(services)].some((service) => service.port === port)) return error;
  for (const certificate of bundle) {
    const door = { host: dialable(host), port, caDigest: digestOf(certificate) };
    const shown = await authorityAt(door, io.clock, io.stopped).catch(() => undefined);
    if (shown !== undefined)
      return new CliError(
        EXIT.failed,
        `this hub already has an open invite, at ${addressText(host, port)}`,
        "Use that one, or press ctrl-c where it waits. To open a second one, give another address with --listen.",
        { cause: error },
      );
  }
  return error;
}

function ttlOf(text: string | undefined): number {
  const ms = text === undefined ? DOOR.lifeMs : parseDuration(text);
  if (ms < TTL_MIN_MS || ms > TTL_MAX_MS)
    throw usage(`an invite cannot be valid for ${text}`, "Give --ttl 10s to 1h; the default is 300s.");
  return ms;
}

async function tell(io: Io, flags: InviteFlags, invitation: Invite, pinCode: string, lifeMs: number): Promise<void> {
  const text = encodeInvite(invitation);
  const seconds = Math.round(lifeMs / 1_000);
  if (flags.json) {
    const { hubId, caDigest, host, port } = invitation;
    const ca = Buffer.from(caDigest).toString("hex");
    return printJson(
      io,
      { invite: text, pin: pinCode, hub_id: hubId, ca_sha256: ca, door: addressText(host, port), expires_in_ms: lifeMs },
      "line",
    );
  }
  if (flags.quiet) return io.out(`${text}\n${pinCode}\n`);
  await io.out(
    `Send your partner this invite; it is good for one hub, ${seconds} s and ${DOOR.attempts} attempts:\n\n` +
      `  foedus peer accept ${text}\n\n` +
      `Tell them the PIN over another channel, best by voice:\n\n  ${pinCode.slice(0, 3)} ${pinCode.slice(3)}\n\n`,
  );
  io.note(`waiting at ${addressText(invitation.host, invitation.port)}; ctrl-c withdraws the invite\n`);
}

/** mayTrust refuses what the file forbids, before anybody is contacted. */
function mayTrust(desk: Desk, { hubId, caDigest }: Invite): void {
  if (hubId === desk.hub.config.hub_id)
    throw usage(`this invite was created by ${hubId} itself`, "Accept it in the folder of the other hub.");
  const before = pinnedBefore(desk, hubId);
  const digest = Buffer.from(caDigest).toString("hex");
  if (before !== undefined && !before.includes(digest))
    throw new CliError(EXIT.refused, `a different CA is already pinned for ${hubId} (SHA-256 ${before.join(" ")})`, replaceRemedy(hubId));
}

function replaceRemedy(hubId: string): string {
  return `Ask its operator over another channel whether the CA was replaced; then \`foedus peer remove ${hubId}\`, and begin again.`;
}

/** makePeer writes a hub that was introduced into the federation file as it is now: another verb may have changed it meanwhile. */
async function makePeer(io: Io, flags: OwnHubFlags & PeerFlags, { hubId, cas, address }: Candidate): Promise<void> {
  const desk = await openDesk(io, flags);
  if (hubId === desk.hub.config.hub_id)
    throw fail("IDENTITY_MISMATCH", `the other hub is also named ${hubId}; one of them needs another id`);
  const change = { ...changeOf(flags), ...address };
  await pin(desk, hubId, cas, change, { allowed: false, remedy: replaceRemedy(hubId) });
  await save(desk, withPeer(desk.text, hubId, change));
}

/** toldToGuest is what a guest hears of why this hub did not take it. */
function toldToGuest(error: unknown, hubId: string, guest: string): unknown {
  if (error instanceof FoedusError) return error;
  if (error instanceof CliError && error.exitCode === EXIT.refused)
    return fail("FOREIGN_CA", `${hubId} has another CA pinned for ${guest}; its operator must remove that peer first`);
  return fail("NOT_CONFIGURED", `${hubId} could not write its federation file; its operator sees why`);
}

/** report waits until the link stands, and says so, or says what is in the way. */
async function report(io: Io, flags: OwnHubFlags, { hubId, cas }: Candidate): Promise<ExitCode> {
  const desk = await openDesk(io, flags);
  const find = (peers: readonly Peer[]): Peer | undefined => peers.find((peer) => peer.hubId === hubId);
  const live = await running(io, desk.hub, flags, async (connection) => ({
    peer: find(await untilSeen(io, connection, LINK_MS, (peers) => find(peers)?.state === LinkState.OPERATIONAL)),
  }));
  const file = nearPath(io.cwd, desk.path);
  const link = live?.peer;
  const stands = link?.state === LinkState.OPERATIONAL;
  if (flags.json)
    await printJson(
      io,
      {
        hub_id: hubId,
        file: desk.path,
        ca_sha256: cas.map(({ sha256 }) => sha256),
        running: live !== undefined,
        link: link === undefined ? null : messageJson(PeerSchema, link),
      },
      "line",
    );
  else if (flags.quiet) await io.out(`${hubId}\n`);
  else {
    const now = io.stopped.aborted
      ? `the link comes up automatically: see \`foedus peers ${hubId}\``
      : live === undefined
        ? "this hub is not running or did not answer: the link comes up when it runs"
        : `the link is ${label(LinkStateSchema, link?.state ?? LinkState.UNSPECIFIED)}`;
    await io.out(`${hubId} is a peer now (${file}); ${now}\n`);
  }
  // Both hubs have each other's CA in their files: ctrl-c ends the waiting only.
  if (live === undefined || stands || io.stopped.aborted) return EXIT.ok;
  const why =
    link === undefined ? "this hub does not show the peer; see its log" : clean(link.failure?.message ?? "the other hub may not run");
  throw new CliError(
    EXIT.timeout,
    `the link to ${hubId} did not come up within ${LINK_MS / 1_000} s: ${why}`,
    "Run `foedus doctor` in the hub's folder to find the cause.",
  );
}
