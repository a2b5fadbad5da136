import type { StoreOp } from "#kernel/core.ts";
import type { EngineEffect, Membership } from "../../services/coordination/log/engine.ts";
import type { RaftFrame } from "../../services/coordination/raft/frames.ts";
import { parseManifest, readCommit, readEntry, readHard } from "../../services/coordination/raft/state/record.ts";
import type { Step } from "../datadriven/index.ts";
import { type Letter, RaftCluster, type RaftNode, textOf } from "./raft-cluster.ts";

type Effect = EngineEffect<RaftFrame>;

const replica = (name: string): string => (name.includes("/") ? name : `${name}/1`);
const short = (id: string): string => id.replace(/\/1$/, "");
const names = (list: string | undefined): string[] => (list === undefined || list === "" ? [] : list.split(",").map(replica));

function showMembership({ voters, outgoing, learners }: Membership): string {
  const parts = [voters.map(short).join(",")];
  if (outgoing.length > 0) parts.push(`outgoing ${outgoing.map(short).join(",")}`);
  if (learners.length > 0) parts.push(`learners ${learners.map(short).join(",")}`);
  return `(${parts.join("; ")})`;
}

function showFrame(frame: RaftFrame): string {
  switch (frame.type) {
    case "vote_request":
      return `${frame.pre ? "prevote" : "vote"}? term=${frame.term} log=${frame.lastIndex}@${frame.lastTerm}${frame.transfer ? " transfer" : ""}`;
    case "vote_answer":
      return `${frame.pre ? "prevote" : "vote"} ${frame.granted ? "yes" : "no"} term=${frame.term} decided=${frame.commitIndex}@${frame.commitTerm}`;
    case "append": {
      const { term, prevIndex, prevTerm, entries, commit, probe } = frame;
      const what = entries.map(
        ({ index, term: of, payloads, membership }) =>
          `${index}@${of}${payloads.length === 0 ? "" : `:${payloads.map(textOf).join("+")}`}${membership === undefined ? "" : showMembership(membership)}`,
      );
      return `append term=${term} after ${prevIndex}@${prevTerm} [${what.join(" ")}] commit=${commit} probe=${probe}`;
    }
    case "append_answer":
      return frame.ok
        ? `agreed term=${frame.term} ${frame.index} probe=${frame.probe}`
        : `refused term=${frame.term} ${frame.index} hint=${frame.hintIndex}@${frame.hintTerm} probe=${frame.probe}`;
    case "snapshot_offer": {
      const manifest = parseManifest(frame.manifest);
      return `snapshot? term=${frame.term} ${manifest?.index}@${manifest?.term} parts=${manifest?.digests.length}`;
    }
    case "snapshot_part":
      return `part term=${frame.term} ${frame.index}:${frame.part} bytes=${frame.bytes.length}`;
    case "snapshot_answer":
      return `snapshot term=${frame.term} ${frame.index} have=${frame.have}`;
    case "transfer_now":
      return `lead! term=${frame.term}`;
  }
}

function showOp(op: StoreOp): string {
  if (op.op === "append") {
    const { index, term } = readEntry("r", op.bytes);
    return `${index}@${term}`;
  }
  if (op.op === "put" && op.key === "hard") {
    const { term, vote } = readHard("r", op.bytes);
    return `term=${term} vote=${vote === undefined ? "-" : short(vote)}`;
  }
  if (op.op === "put" && op.key === "commit") return `commit=${readCommit("r", op.bytes)}`;
  if (op.op === "put") return op.key;
  if (op.op === "cut") return `cut ${op.from}`;
  return op.op === "trim" ? `trim ${op.below}` : op.op === "drop" ? "drop log" : `${op.op} ${op.space}`;
}

function showEffect(effect: Effect): string {
  switch (effect.kind) {
    case "persist":
      return `persist${effect.hard === true ? " hard" : ""} ${effect.ops.map(showOp).join(", ")}`;
    case "send":
      return `-> ${short(effect.to)} ${showFrame(effect.frame)}${effect.early ? " (early)" : ""}`;
    case "stored":
      return `stored? ${effect.mark.index}@${effect.mark.term}`;
    case "committed": {
      const show = effect.entries.map(
        ({ index, payloads, membership }) =>
          `${index}${payloads.length === 0 ? "" : `:${payloads.map(textOf).join("+")}`}${membership === undefined ? "" : showMembership(membership)}`,
      );
      return `committed ${show.join(" ")}`;
    }
    case "install":
      return `install ${effect.snapshot.index}@${effect.snapshot.term} ${showMembership(effect.snapshot.membership)}`;
    case "role":
      return `is ${effect.role} of term ${effect.term}, leader ${effect.leader === undefined ? "-" : short(effect.leader)}`;
    case "refused":
      return `refused #${effect.call} ${effect.failure.reason}: ${effect.failure.message}`;
    case "accepted":
      return `accepted #${effect.call} ${effect.index}@${effect.term}`;
    case "readable":
      return `readable #${effect.call} at ${effect.index}`;
    case "done":
      return `done #${effect.call}`;
    case "observe":
      return `observe ${effect.what}${effect.replica === undefined ? "" : ` ${short(effect.replica)}`}`;
    default:
      return effect.kind;
  }
}

/** RaftBench runs the commands of a transcript against some replicas, whose frames wait until they are delivered. */
export class RaftBench {
  #cluster = new RaftCluster([]);
  #letters: Letter[] = [];
  #lines: string[] = [];

  run({ words, args }: Step): string {
    this.#lines = [];
    const [command = "", ...rest] = words;
    if (command === "cluster") this.#begin(rest, args);
    else if (command === "stabilize") this.#stabilize(args["without"]);
    else if (command === "deliver") this.#stabilize(undefined, Number(args["n"]));
    else if (command === "pass") this.#cluster.mono += Number(args["ms"]);
    else if (command === "lose") this.#lose(rest);
    else if (command === "join") this.#trace(this.#cluster.add(replica(rest[0] as string)));
    else this.#at(command, this.#cluster.node(replica(rest[0] as string)), rest.slice(1), args);
    return this.#lines.join("\n");
  }

  #begin(voters: readonly string[], args: Readonly<Record<string, string>>): void {
    const { leader, ...rest } = args;
    // Time passes by leaps here, and whom nobody calls meanwhile has missed nothing, unless a transcript says otherwise.
    const given = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, value === "true" ? true : Number(value)]));
    const tuning = { jitterMs: 1e9, ...given };
    const check = (payload: Uint8Array): string | undefined => (textOf(payload).startsWith("!") ? "it begins with a bang" : undefined);
    this.#cluster = new RaftCluster(voters.map(replica), { tuning, check });
    this.#letters = [];
    this.#cluster.lose = (letter) => {
      this.#letters.push(letter);
      return true;
    };
    for (const node of this.#cluster.nodes.values()) {
      node.tick();
      this.#trace(node);
    }
    if (leader === undefined) return;
    this.#at("timeout", this.#cluster.node(replica(leader)), [], {});
    this.#stabilize(undefined);
    this.#lines = [];
  }

  /** Heartbeats of a leader, and their answers; what they do to others is not printed. */
  #beat(node: RaftNode, count: number, without: string | undefined): void {
    for (let i = 0; i < count; i++) {
      this.#at("timeout", node, [], {});
      this.#stabilize(without);
    }
    this.#lines = [];
  }

  #trace(node: RaftNode): void {
    node.trace = (effect) => this.#lines.push(`${short(node.id)} ${showEffect(effect)}`);
  }

  #stabilize(without: string | undefined, most = 500): void {
    const away = names(without);
    for (let rounds = 0; this.#letters.length > 0 && rounds < most; rounds++) {
      const { from, to, frame } = this.#letters.shift() as Letter;
      if (away.includes(from) || away.includes(to)) continue;
      this.#lines.push(`${short(from)} => ${short(to)} ${showFrame(frame)}`);
      this.#cluster.nodes.get(to)?.step({ kind: "frame", from, frame });
    }
  }

  /** lose forgets the frames on the way, or those to the replicas that are named. */
  #lose(to: readonly string[]): void {
    const all = to.map(replica);
    this.#letters = this.#letters.filter((letter) => all.length > 0 && !all.includes(letter.to));
  }

  #at(command: string, node: RaftNode, rest: readonly string[], args: Readonly<Record<string, string>>): void {
    const call = Number(args["call"] ?? 0);
    const to = replica(args["to"] ?? "-");
    switch (command) {
      case "timeout":
        this.#cluster.mono = Math.max(this.#cluster.mono, Math.ceil(node.engine.deadline() ?? 0));
        return void node.tick();
      case "beat":
        return this.#beat(node, Number(args["n"]), args["without"]);
      case "propose":
        return void node.step({ kind: "propose", call, payload: new TextEncoder().encode(rest[0] ?? "") });
      case "read":
        return void node.step({ kind: "read", call });
      case "transfer":
        return void node.step({ kind: "transfer", call, to });
      case "reconfigure":
        return void node.step({ kind: "reconfigure", call, voters: names(args["voters"]), learners: names(args["learners"]) });
      case "clock":
        return void node.step({ kind: "clock", trusted: args["trusted"] === "true" });
      case "disk":
        node.slowDisk = rest[0] === "slow";
        return;
      case "flush":
        return node.flush();
      case "crash":
        node.crash();
        return void node.tick();
      case "resend":
        return this.#resend(node, args);
      case "describe":
        return void this.#lines.push(node.engine.describe());
      case "status": {
        const { role, committed, last, ageMs, quorum } = node.engine.status(this.#cluster.now);
        return void this.#lines.push(`${role} committed=${committed} last=${last} age=${ageMs ?? "-"} quorum=${quorum}`);
      }
      default:
        throw new Error(`there is no command ${command}`);
    }
  }

  /** resend gives a replica an answer that it got before, with the probe that is said. */
  #resend(node: RaftNode, args: Readonly<Record<string, string>>): void {
    const [term, index, probe] = [Number(args["term"]), Number(args["index"]), Number(args["probe"])];
    const frame = { type: "append_answer", term, ok: true, index, hintIndex: 0, hintTerm: 0, probe } as const;
    node.step({ kind: "frame", from: replica(args["from"] ?? "-"), frame });
  }
}
