import { create } from "@bufbuild/protobuf";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { ServerHandshakes } from "#channel/tls/server-handshakes.ts";
import {
  BeginRequestSchema,
  IntroduceRequestSchema,
  IntroductionService,
} from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import type { DoorAuthority } from "#runtime/tls/door.ts";
import { type Invite, inviteIdOf } from "./invite.ts";
import { type Candidate, encodeOffer, judgeOffer, type OwnOffer } from "./offer.ts";
import { ProofExchange } from "./proof.ts";

/** GuestOptions are what a guest brings to the door. */
export interface GuestOptions {
  readonly invite: Invite;
  readonly pin: string;
  /** What `authorityAt` found at the door. */
  readonly authority: DoorAuthority;
  readonly offer: OwnOffer;
  /** Key of the offer's certificate, PEM. */
  readonly key: string;
  readonly clock: Clock;
  readonly entropy: Entropy;
  /** For each of the two calls. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * introduce goes through the door of an invite, once, and gives the host. The TLS connection takes only the CA of the invite. The
 * host's proof comes after ours; what it offers is believed only with it. Throws FoedusError: PIN_MISMATCH, INVITE_CLOSED, …
 */
export async function introduce(options: GuestOptions): Promise<Candidate> {
  const { invite, pin, authority, offer, key, clock, entropy, timeoutMs, signal } = options;
  const material = { cert: String(offer.leaf), key, ca: [authority.ca] };
  const credentials = createPeerCredentials({ hubId: invite.hubId }, material, clock, new ServerHandshakes());
  const address = `${invite.host.includes(":") ? `[${invite.host}]` : invite.host}:${invite.port}`;
  const client = createClient(IntroductionService, { address, credentials, clock, defaultTimeoutMs: timeoutMs, namesAddress: true });
  const call = signal === undefined ? {} : { signal };
  try {
    const sessionId = entropy.bytes(16);
    const leaves = { guestLeaf: thumbprintOf(offer.leaf), hostLeaf: authority.thumbprint };
    const own = encodeOffer(offer);
    const terms = { secret: invite.secret, pin, caDigest: invite.caDigest, sessionId, ...leaves };
    const exchange = new ProofExchange("guest", terms, own, entropy.bytes(32));
    const begun = await client.begin(
      create(BeginRequestSchema, { inviteId: inviteIdOf(invite.secret), sessionId, ...exchange.half }),
      call,
    );
    if (begun.share.length !== 32 || begun.offerDigest.length !== 32 || !exchange.meet(begun))
      throw fail("PIN_MISMATCH", `${invite.hubId} does not answer as the host of this invite`);
    const answer = await client.introduce(
      create(IntroduceRequestSchema, { exchange: begun.exchange, proof: exchange.proof(), offer: own }),
      call,
    );
    if (!exchange.proven(answer.proof, answer.offer))
      throw fail("PIN_MISMATCH", `what answers at ${address} does not know the PIN; it is not the hub that made the invite`);
    const host = judgeOffer(answer.offer, authority.thumbprint, clock.wall());
    if (host.hubId !== invite.hubId) throw fail("IDENTITY_MISMATCH", `the invite is of ${invite.hubId} and the offer of ${host.hubId}`);
    const digest = Buffer.from(invite.caDigest).toString("hex");
    if (!host.cas.some(({ sha256 }) => sha256 === digest))
      throw fail("FOREIGN_CA", `${invite.hubId} does not offer the CA of its own invite`);
    return host;
  } finally {
    client.close();
  }
}
