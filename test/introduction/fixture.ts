// A door and those who come to it: guests, people in the middle, and everybody else. All over real TLS on loopback.

import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { parseCertificates } from "#channel/tls/material.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import {
  BeginRequestSchema,
  IntroduceRequestSchema,
  IntroductionService,
} from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { authorityAt, digestOf } from "#runtime/tls/door.ts";
import type { DoorConfig, Note } from "../../services/introduction/core.ts";
import { type Door, openDoor } from "../../services/introduction/door.ts";
import { introduce } from "../../services/introduction/guest.ts";
import { type Invite, inviteIdOf, newSecret } from "../../services/introduction/invite.ts";
import { type Candidate, encodeOffer, type OwnOffer } from "../../services/introduction/offer.ts";
import { ProofExchange } from "../../services/introduction/proof.ts";
import { memoryLogger } from "../fakes/memory-logger.ts";
import type { Credential, TestHub } from "../testca/index.ts";

/** PIN of every door here; WRONG is none. */
export const PIN = "424242";
export const WRONG = "424243";

/** offerOf is what a hub tells of itself, truthfully. */
export function offerOf(hub: TestHub, credential: Credential = hub.service()): OwnOffer & { readonly key: string } {
  const leaf = new X509Certificate(credential.certificatePem);
  return {
    hubId: hub.hubId,
    caPems: [hub.caPem],
    leaf,
    address: { host: `${hub.hubId}.example.org`, port: 18_800 },
    key: credential.keyPem,
  };
}

/** Opened is a door with what it did. */
export interface Opened {
  readonly door: Door;
  readonly invite: Invite;
  readonly admitted: Candidate[];
  readonly notes: Note[];
  /** What was logged, as one text. */
  logged(): string;
}

/** openFor opens the door of a hub. */
export async function openFor(
  hub: TestHub,
  more: {
    readonly config?: Partial<DoorConfig>;
    readonly secret?: Uint8Array;
    readonly pin?: string;
    readonly clock?: Clock;
    readonly admit?: (guest: Candidate) => Promise<void>;
  } = {},
): Promise<Opened> {
  const { key, ...offer } = offerOf(hub);
  const secret = more.secret ?? newSecret(systemEntropy);
  const admitted: Candidate[] = [];
  const notes: Note[] = [];
  const log = memoryLogger();
  const door = await openDoor({
    offer,
    key,
    bundle: parseCertificates([hub.caPem]),
    secret,
    pin: more.pin ?? PIN,
    listen: { host: "127.0.0.1", port: 0 },
    config: more.config ?? {},
    clock: more.clock ?? systemClock,
    entropy: systemEntropy,
    log,
    metrics: new Registry(),
    admit: async (guest) => {
      await more.admit?.(guest);
      admitted.push(guest);
    },
    onNote: (note) => notes.push(note),
  });
  const invite = { hubId: hub.hubId, secret, caDigest: door.caDigest, host: "127.0.0.1", port: door.port };
  return { door, invite, admitted, notes, logged: () => JSON.stringify(log.lines) };
}

/** knock is what `peer accept` does with an invite and a PIN. */
export async function knock(hub: TestHub, invite: Invite, pin: string): Promise<Candidate> {
  const { key, ...offer } = offerOf(hub);
  const authority = await authorityAt(invite, systemClock);
  return introduce({ invite, pin, authority, offer, key, clock: systemClock, entropy: systemEntropy, timeoutMs: 10_000 });
}

/** dial makes a bare client of a door, for those who do not follow the protocol. */
export function dial(host: TestHub, port: number, credential: Credential): ClientOf<typeof IntroductionService> {
  const material = { cert: credential.certificatePem, key: credential.keyPem, ca: [host.caPem] };
  const credentials = createPeerCredentials({ hubId: host.hubId }, material, systemClock);
  return createClient(IntroductionService, { address: `127.0.0.1:${port}`, credentials, clock: systemClock });
}

/** WalkChange is what a walk does differently from an honest guest. */
export interface WalkChange {
  readonly offer?: Uint8Array;
  readonly credential?: Credential;
}

/** Walk is an exchange taken step by step. */
export class Walk implements Disposable {
  readonly client: ClientOf<typeof IntroductionService>;
  readonly proof: ProofExchange;
  readonly offer: Uint8Array;
  readonly #request;
  exchange = new Uint8Array(16);

  /** to prepares an exchange with the door of an invite. */
  static async to(host: TestHub, guest: TestHub, invite: Invite, pin: string, change: WalkChange = {}): Promise<Walk> {
    return new Walk(host, guest, invite, pin, (await authorityAt(invite, systemClock)).thumbprint, change);
  }

  private constructor(host: TestHub, guest: TestHub, invite: Invite, pin: string, hostLeaf: string, change: WalkChange) {
    const credential = change.credential ?? guest.service();
    const own = offerOf(guest, credential);
    this.client = dial(host, invite.port, credential);
    this.offer = change.offer ?? encodeOffer(own);
    const sessionId = systemEntropy.bytes(16);
    const terms = { secret: invite.secret, pin, caDigest: invite.caDigest, sessionId, guestLeaf: thumbprintOf(own.leaf), hostLeaf };
    this.proof = new ProofExchange("guest", terms, this.offer, systemEntropy.bytes(32));
    this.#request = { inviteId: inviteIdOf(invite.secret), sessionId, ...this.proof.half };
  }

  /** begin sends Begin, with some fields changed. */
  async begin(
    change: { readonly inviteId?: Uint8Array; readonly share?: Uint8Array; readonly sessionId?: Uint8Array } = {},
  ): Promise<void> {
    const begun = await this.client.begin(create(BeginRequestSchema, { ...this.#request, ...change }));
    this.exchange = new Uint8Array(begun.exchange);
    this.proof.meet(begun);
  }

  /** introduce sends Introduce, with some fields changed. */
  introduce(change: { readonly exchange?: Uint8Array; readonly proof?: Uint8Array; readonly offer?: Uint8Array } = {}) {
    const { exchange = this.exchange, proof = this.proof.proof(), offer = this.offer } = change;
    return this.client.introduce(create(IntroduceRequestSchema, { exchange, proof, offer }));
  }

  [Symbol.dispose](): void {
    this.client.close();
  }
}

/** digestOfCa is what an invite says of a hub's CA. */
export function digestOfCa(hub: TestHub): Uint8Array {
  return digestOf(new X509Certificate(hub.caPem));
}
