// What a hub says that lies: it keeps its keys and its sessions, and changes what its shipping core wants to send.
import type { Crypto } from "#kernel/crypto.ts";
import { Prng } from "#kernel/prng.ts";
import type { BftFrame, Vote } from "../../services/coordination/bft/frames.ts";
import { voteBytes } from "../../services/coordination/bft/proof/signed.ts";
import { writeBatch } from "../../services/coordination/log/batch.ts";
import type { EngineFrame, Frame, LogFrame } from "../../services/coordination/messages.ts";

/** LIES are the ways of a hub that lies. `honest` is none; the first three prove nothing against it, the last one does. */
export const LIES = ["honest", "withhold", "forge", "replay", "equivocate"] as const;

/** Lie is one way. */
export type Lie = (typeof LIES)[number];

/** isLie tells whether a word is the name of one. */
export function isLie(word: string): word is Lie {
  return (LIES as readonly string[]).includes(word);
}

/** Frames that a liar keeps, to say them again. */
const KEPT = 256;
/** What a lie would have the others believe: a value under this key. */
export const FORGED_KEY = "forged";

/** LiarGround is what a liar has: the keys of its own hub, and names of others. */
export interface LiarGround {
  readonly crypto: Crypto;
  readonly publicKey: Uint8Array;
  /** A hub in whose name it writes. */
  readonly victim: string;
  /** An encoded command that it would have the others believe of the victim. */
  readonly command: Uint8Array;
  /** Hubs that are told what the others are not. */
  readonly told: (peer: string) => boolean;
}

/** Liar turns frames of an honest core into those of a hub that lies. */
export class Liar {
  lie: Lie = "honest";
  /** Frames that it changed, left out, or made. */
  lied = 0;
  /** Kinds of frames that it forged. */
  readonly forged = new Set<BftFrame["kind"]>();
  readonly #ground: LiarGround;
  readonly #prng = new Prng(7);
  readonly #kept: { readonly peer: string; readonly frame: Frame }[] = [];

  constructor(ground: LiarGround) {
    this.#ground = ground;
  }

  /** tell gives what is said to a peer instead of a frame. */
  tell(peer: string, frame: Frame): readonly Frame[] {
    if (frame.kind !== "log" || frame.frame.kind !== "engine") return [frame];
    const frames = this.#tell(peer, frame, frame.frame.frame as BftFrame);
    if (frames.length !== 1 || frames[0] !== frame) this.lied++;
    this.#kept.push({ peer, frame });
    if (this.#kept.length > KEPT) this.#kept.shift();
    return frames;
  }

  #tell(peer: string, frame: LogFrame, inner: BftFrame): readonly Frame[] {
    switch (this.lie) {
      case "honest":
        return [frame];
      case "withhold":
        return inner.kind === "votes" || inner.kind === "proposal" || inner.kind === "part" || inner.kind === "certificate" ? [] : [frame];
      case "forge": {
        const forged = this.#forged(frame, inner);
        for (const { kind } of forged) this.forged.add(kind);
        return [...forged.map((one) => around(frame, one)), frame];
      }
      case "replay": {
        const old = this.#kept.filter((one) => one.peer === peer);
        return old.length === 0 ? [frame] : [old[this.#prng.below(old.length)]!.frame, frame, old[0]!.frame];
      }
      case "equivocate":
        return inner.kind === "votes" && this.#ground.told(peer) ? [around(frame, this.#twice(frame, inner))] : [frame];
    }
  }

  /** What nobody may believe: votes of others, votes and proposals that were changed, entries in the name of another, a made-up proof. */
  #forged(frame: LogFrame, inner: BftFrame): BftFrame[] {
    const spoilt = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 9 ? byte ^ 1 : byte));
    switch (inner.kind) {
      case "votes": {
        const [vote] = inner.votes;
        if (vote === undefined) return [];
        const others = [0, 1, 2, 3].map((voter) => ({ ...vote, voter, value: "f".repeat(64) }));
        const { height, round, step, value } = vote;
        const votes = others.slice(0, 3).map(({ voter, signature }) => ({ voter, relies: -1, signature }));
        return [
          ...others.map((other) => ({ kind: "votes" as const, height, votes: [other] })),
          { kind: "votes", height, votes: [{ ...vote, signature: spoilt(vote.signature) }] },
          { kind: "certificate", certificate: { height, round, step, value: value === "" ? "e".repeat(64) : value, votes } },
        ];
      }
      case "proposal":
        return [
          { ...inner, proposal: { ...inner.proposal, signature: spoilt(inner.proposal.signature) } },
          { kind: "payload", marker: false, bytes: this.#batch(frame) },
        ];
      case "payload":
        return [
          { ...inner, bytes: this.#batch(frame) },
          { ...inner, bytes: spoilt(inner.bytes) },
        ];
      case "status":
        return [
          { kind: "evidence", proof: new Uint8Array(200).fill(7) },
          { kind: "payload", marker: false, bytes: this.#batch(frame) },
        ];
      default:
        return [];
    }
  }

  /** An entry of the log in the name of another hub, under a signature of the own key. */
  #batch({ federation }: LogFrame): Uint8Array {
    const { victim, command, crypto } = this.#ground;
    return writeBatch({ federation, author: victim, incarnation: 1, session: 2 ** 45, first: 1, commands: [command] }, crypto);
  }

  /** Beside each own vote another one of the same step, as well signed. */
  #twice(frame: LogFrame, inner: Extract<BftFrame, { kind: "votes" }>): BftFrame {
    const { crypto, publicKey } = this.#ground;
    const federation = Buffer.from(frame.federation).toString("hex");
    const self = (frame.frame as Extract<LogFrame["frame"], { kind: "engine" }>).from;
    const isOwn = (vote: Vote): boolean => crypto.verify(publicKey, voteBytes(federation, self, vote), vote.signature);
    const votes = inner.votes.flatMap((vote) => {
      if (!isOwn(vote)) return [vote];
      const other = { ...vote, value: "f".repeat(64), relies: -1 };
      return [vote, { ...other, signature: crypto.sign(voteBytes(federation, self, other)) }];
    });
    return { ...inner, votes };
  }
}

function around(frame: LogFrame, inner: EngineFrame): LogFrame {
  const { from, to } = frame.frame as Extract<LogFrame["frame"], { kind: "engine" }>;
  return { ...frame, frame: { kind: "engine", from, to, frame: inner } };
}
