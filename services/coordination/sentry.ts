import type { Now } from "#kernel/instant.ts";
import { Detector } from "./liveness/detector.ts";
import type { LivenessEffect } from "./liveness/messages.ts";
import { DEFAULT_LIVENESS } from "./liveness/settings.ts";
import type { Members } from "./members/members.ts";
import type { MemberNews } from "./members/messages.ts";
import type { Effect, Frame } from "./messages.ts";
import type { Part, PartGround } from "./part.ts";
import type { News } from "./state/commands.ts";

/** CHANGES are news after which other members are to be watched, or the same otherwise. */
const CHANGES: ReadonlySet<MemberNews["kind"]> = new Set(["founded", "admitted", "gone", "failed", "refuted", "replaced"]);

/**
 * Sentry watches the members for this hub: what its detector finds becomes an accusation in the log, and what others say of this hub is
 * refuted there.
 *
 * SE1 a hub accuses a member in the life in which the book has it, once for each time its detector says so, and only as a voter that has not
 *    failed itself.
 * SE2 a hub that reads that it is accused, or counts as failed, says that it lives, with the next life, until that is decided.
 */
export class Sentry implements Part {
  readonly frames = ["liveness"] as const;
  readonly requests = [] as const;
  readonly #hubId: string;
  readonly #members: Members;
  readonly #submit: PartGround["submit"];
  readonly #detector: Detector;
  readonly #effects: LivenessEffect[] = [];
  /** Lives of this hub that it has refuted, so that one accusation is answered once. */
  #refuted = 0;
  #watching = false;

  constructor({ ground, state, submit }: PartGround) {
    this.#hubId = ground.hubId;
    this.#members = state.books.members;
    this.#submit = submit;
    const { hubId, life, prng, tuning } = ground;
    this.#detector = new Detector({ ...DEFAULT_LIVENESS, hubId, boot: Math.max(1, life), intervalMs: tuning.livenessMs }, prng);
  }

  /** #membersChanged tells the detector who is to be watched. */
  #membersChanged(now: Now, out: Effect[]): void {
    this.#watching = true;
    const members = this.#members.members().map(({ hubId, failed }) => ({ hub: hubId, failed }));
    this.#detector.step(now, { kind: "members", members }, this.#effects);
    this.#route(out);
  }

  contact(now: Now, hub: string, up: boolean, out: Effect[]): void {
    if (this.#members.member(hub) === undefined) return;
    this.#detector.step(now, { kind: "link", hub, up }, this.#effects);
    this.#route(out);
  }

  frame(now: Now, from: string, frame: Frame, out: Effect[]): void {
    if (frame.kind !== "liveness" || this.#members.member(from) === undefined) return;
    this.#detector.step(now, { kind: "frame", from, frame: frame.frame }, this.#effects);
    this.#route(out);
  }

  tick(now: Now, out: Effect[]): void {
    if (!this.#watching) this.#membersChanged(now, out);
    const due = this.#detector.deadline();
    if (due === undefined || due > now.mono) return;
    this.#detector.tick(now, this.#effects);
    this.#route(out);
  }

  deadline(): number | undefined {
    return this.#detector.deadline();
  }

  /** onNews answers what the book says of this hub (SE2), and watches members that are others now, or stand otherwise. */
  onNews(now: Now, { book, news }: News, out: Effect[]): void {
    if (book !== "members") return;
    if ((news.kind === "accused" || news.kind === "failed") && news.hubId === this.#hubId) this.refute();
    if (CHANGES.has(news.kind)) this.#membersChanged(now, out);
  }

  onReplaced(now: Now, out: Effect[]): void {
    this.#membersChanged(now, out);
  }

  call(): void {
    // Nobody asks it anything.
  }

  /** refute says that this hub lives, if its book says otherwise. */
  refute(): void {
    const own = this.#members.member(this.#hubId);
    if (own === undefined || (!own.failed && own.accusations.length === 0) || own.life + 1 <= this.#refuted) return;
    this.#refuted = own.life + 1;
    this.#submit({ book: "members", command: { kind: "refute", life: own.life + 1 } }, ({ kind }) => {
      // What was not decided is said again, else this hub counts as failed for good.
      if (kind === "refused") this.#refuted = 0;
    });
  }

  describe(): string {
    return this.#detector.describe();
  }

  #route(out: Effect[]): void {
    for (const effect of this.#effects.splice(0)) this.#one(effect, out);
  }

  #one(effect: LivenessEffect, out: Effect[]): void {
    switch (effect.kind) {
      case "send":
        return void out.push({ kind: "send", peer: effect.to, early: true, frame: { kind: "liveness", frame: effect.frame } });
      case "suspected":
        return void out.push({
          kind: "event",
          severity: "warning",
          name: "suspected",
          message: `${effect.hub} may have failed: ${effect.why}`,
          hubId: effect.hub,
        });
      case "cleared":
        return void out.push({ kind: "event", severity: "info", name: "cleared", message: `${effect.hub} is well`, hubId: effect.hub });
      case "accuse":
        return this.#accuse(effect.hub);
      case "observe":
        return void out.push({ kind: "observe", what: `liveness_${effect.what}`, value: effect.value });
      case "withdraw":
      case "returned":
        // A hub that is back says so itself, with a higher life (SE2).
        return;
    }
  }

  #accuse(hubId: string): void {
    const [own, accused] = [this.#members.member(this.#hubId), this.#members.member(hubId)];
    if (own?.voter !== true || own.failed || accused === undefined || accused.failed) return;
    if (accused.accusations.some(({ by }) => by === this.#hubId)) return;
    this.#submit({ book: "members", command: { kind: "accuse", hubId, life: accused.life } });
  }
}
