import { join } from "node:path";
import { expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { checkTranscript, type Step } from "../../../test/datadriven/index.ts";
import { Detector } from "./detector.ts";
import type { LivenessFrame } from "./frames.ts";
import type { LivenessEffect, LivenessInput } from "./messages.ts";
import { DEFAULT_LIVENESS, RAISES } from "./settings.ts";

/** World plays the other members of a transcript: whoever is up answers at once. */
class World {
  readonly core = new Detector({ ...DEFAULT_LIVENESS, hubId: "a", boot: 1, novice: 0 }, new Prng(1));
  mono = 0;
  members: string[] = [];
  readonly down = new Set<string>();
  lines: string[] = [];
  seq = 0;
  /** Incarnations of which somebody was told: the repetition in every heartbeat is left out. */
  readonly told = new Set<string>();

  run({ words, args }: Step): string {
    const [verb = "", ...rest] = words;
    const first = rest[0] ?? "";
    this.lines = [];
    if (verb === "members") this.members = rest;
    if (verb === "members" || verb === "failed")
      this.step({ kind: "members", members: this.members.map((hub) => ({ hub, failed: verb === "failed" && hub === first })) });
    if (verb === "down") this.down.add(first);
    if (verb === "up") this.down.delete(first);
    if (verb === "run") this.advance(Number(first));
    if (verb === "stop") this.mono += Number(first);
    if (verb === "link") this.step({ kind: "link", hub: first, up: rest[1] === "up" });
    if (verb === "blame") this.frame(args["by"] ?? "", { kind: "ping", nonce: 1, suspects: [{ hub: first, incarnation: RAISES }] });
    if (verb === "state") this.lines.push(...this.core.describe().split("\n"));
    return this.lines.join("\n");
  }

  frame(from: string, frame: Partial<LivenessFrame>): void {
    this.step({
      kind: "frame",
      from,
      frame: { incarnation: RAISES, seq: ++this.seq, pauseMs: 0, suspects: [], subject: "", ...frame } as LivenessFrame,
    });
  }

  step(input: LivenessInput): void {
    this.do((now, out) => this.core.step(now, input, out));
  }

  do(what: (now: { mono: number; wall: number }, out: LivenessEffect[]) => void): void {
    const out: LivenessEffect[] = [];
    what({ mono: this.mono, wall: this.mono }, out);
    for (const effect of out) {
      const shown = show(effect, this.told);
      if (shown !== undefined) this.lines.push(`${this.mono} ${shown}`);
    }
    for (const effect of out) {
      if (effect.kind !== "send" || this.down.has(effect.to)) continue;
      const { frame, to } = effect;
      if (frame.kind === "ping") this.frame(to, { kind: "ack", nonce: frame.nonce });
      if (frame.kind === "ping_req")
        this.frame(to, { kind: this.down.has(frame.subject) ? "nack" : "ack", nonce: frame.nonce, subject: frame.subject });
    }
  }

  advance(ms: number): void {
    const end = this.mono + ms;
    for (let due = this.core.deadline(); due !== undefined && due <= end; due = this.core.deadline()) {
      this.mono = Math.max(this.mono, due);
      this.do((now, out) => this.core.tick(now, out));
    }
    this.mono = Math.max(this.mono, end);
  }
}

/** Heartbeats and their answers are left out, unless they tell of suspicions or refute one. */
function show(effect: LivenessEffect, told: Set<string>): string | undefined {
  switch (effect.kind) {
    case "send": {
      const { to, frame } = effect;
      if (frame.kind === "ping_req" || frame.kind === "nack") return `${frame.kind} ${frame.subject} to ${to}`;
      const fresh = !told.has(`${to} ${frame.incarnation}`) && frame.incarnation !== RAISES;
      if (frame.kind !== "ping" || (frame.suspects.length === 0 && !fresh)) return undefined;
      told.add(`${to} ${frame.incarnation}`);
      return `ping ${to} incarnation=${frame.incarnation} suspects=${frame.suspects.map(({ hub }) => hub).join(",") || "-"}`;
    }
    case "observe":
      return `${effect.what}${effect.hub === undefined ? "" : ` ${effect.hub}`} ${Math.round(effect.value)}${effect.why === undefined ? "" : `: ${effect.why}`}`;
    case "suspected":
    case "accuse":
      return `${effect.kind} ${effect.hub}: ${effect.why}`;
    case "returned":
      return `returned ${effect.hub} stable=${effect.stableMs}`;
    default:
      return `${effect.kind} ${effect.hub}`;
  }
}

test("S1-15 S1-16 D-19 the life of a member as its detector sees it", async () => {
  const world = new World();
  expect(await checkTranscript(join(import.meta.dirname, "testdata/life.txt"), (step) => world.run(step))).toBeGreaterThan(20);
});
