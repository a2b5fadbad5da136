import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { candidateOf, keyOf } from "../../../test/fakes/federation-books.ts";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import type { Candidate, SignedFounding } from "../members/messages.ts";
import { foundingBytes } from "../members/statements.ts";
import type { Effect, FormationFrame, FoundRequest, Request } from "../messages.ts";
import { Formation } from "./formation.ts";
import type { Begun } from "./record.ts";

const FOUND: FoundRequest = { kind: "found", federationId: "street", name: "", engine: "raft", admission: "ballot", founders: ["b", "c"] };

/** Way is the formation of one hub, with what peers say of themselves and what it stored. */
class Way {
  readonly said = new Map<string, Candidate>(["a", "b", "c"].map((hub) => [hub, candidateOf(hub)]));
  stored: Uint8Array | undefined;
  readonly sent: { readonly peer: string; readonly frame: FormationFrame }[] = [];
  readonly events: string[] = [];
  formation: Formation;
  readonly #hub: string;

  constructor(hub: string) {
    this.#hub = hub;
    this.formation = this.#make();
  }

  #make(): Formation {
    const { crypto } = keyOf(this.#hub);
    return new Formation({
      hubId: this.#hub,
      crypto: { ...crypto, sign: (data) => Uint8Array.from(crypto.sign(data)) },
      own: (incarnation) => candidateOf(this.#hub, incarnation === undefined ? {} : { incarnation }),
      draw: () => 1,
      candidateOf: (peer) => this.said.get(peer),
    });
  }

  do<T>(act: (formation: Formation, out: Effect[]) => T): T {
    const out: Effect[] = [];
    const result = act(this.formation, out);
    for (const effect of out) {
      if (effect.kind === "persist")
        for (const op of effect.ops) this.stored = op.op === "put" ? op.bytes : op.op === "delete" ? undefined : this.stored;
      if (effect.kind === "send") this.sent.push(effect as never);
      if (effect.kind === "event") this.events.push(effect.message);
    }
    return result;
  }

  frame(peer: string, frame: FormationFrame): Begun | undefined {
    return this.do((formation, out) => formation.frame(peer, frame, out));
  }

  restart(): void {
    this.formation = this.#make();
    this.formation.restore(this.stored);
  }

  /** take gives what was sent to a peer since the last look. */
  take(peer: string): FormationFrame[] {
    const taken = this.sent.filter((one) => one.peer === peer);
    for (const one of taken) this.sent.splice(this.sent.indexOf(one), 1);
    return taken.map(({ frame }) => frame);
  }
}

/** offered gives hub a that founds with b and c, and its offer to b. */
function offered(): { readonly a: Way; readonly offer: FormationFrame; readonly founding: SignedFounding } {
  const a = new Way("a");
  expect(a.do((formation, out) => formation.found(FOUND, out))).toBeUndefined();
  const [offer] = a.take("b");
  a.take("c");
  return { a, offer: offer!, founding: (offer as { founding: SignedFounding }).founding };
}

/** consentOf is a founder's word on an offer, given by its operator. */
function consentOf(hub: string, offer: FormationFrame): FormationFrame {
  const way = new Way(hub);
  way.frame("a", offer);
  expect(way.do((formation, out) => formation.join("street", "", out))).toBeUndefined();
  return way.take("a")[0]!;
}

const reasonOf = (result: Begun | { readonly reason: string } | undefined): string | undefined =>
  result !== undefined && "reason" in result ? result.reason : undefined;

describe("founding", () => {
  test("FO1 begins with the last consent, and tells each founder", () => {
    const { a, offer } = offered();
    expect(a.frame("b", consentOf("b", offer))).toBeUndefined();
    const begun = a.frame("c", consentOf("c", offer));
    expect(begun?.founding.signatures.map(({ hubId }) => hubId)).toEqual(["a", "b", "c"]);
    const b = new Way("b");
    b.frame("a", offer);
    b.do((formation, out) => formation.join("street", "a", out));
    expect(b.frame("a", a.take("b").at(-1)!)?.incarnation).toBe(1);
    expect(b.formation.standing).toBe("none");
  });

  test("PROTOCOL G2 FO1 nobody signs without the word of its operator", () => {
    const { offer } = offered();
    const b = new Way("b");
    expect(b.frame("a", offer)).toBeUndefined();
    expect(b.sent).toEqual([]);
    expect(b.formation.standing).toBe("none");
    expect(b.formation.invitations()).toMatchObject([{ federationId: "street", from: "a", joined: ["a"] }]);
  });

  test.each(["publicKey", "sealingKey", "primary", "incarnation", "weight"] as const)(
    "PROTOCOL G2 FO1 an offer with another %s for a founder than that founder says itself is not signed",
    (field) => {
      const { offer } = offered();
      const b = new Way("b");
      const other = { ...candidateOf("x"), incarnation: 2, weight: 2 };
      b.said.set("c", { ...candidateOf("c"), [field]: other[field] });
      b.frame("a", offer);
      expect(reasonOf(b.do((formation, out) => formation.join("street", "", out)))).toBe("SIGNATURE_INVALID");
      expect(b.formation.standing).toBe("none");
    },
  );

  test.each([0, 2, 1_000])(
    "PROTOCOL G2 FO4 a founder that gives itself the weight %i is not founded with, and its offer is not signed",
    (weight) => {
      const heavy = { ...candidateOf("c"), weight };
      const a = new Way("a");
      a.said.set("c", heavy);
      expect(reasonOf(a.do((formation, out) => formation.found(FOUND, out)))).toBe("VALUE_OUT_OF_RANGE");
      expect([a.sent, a.stored, a.formation.standing]).toEqual([[], undefined, "none"]);
      const founding = { ...offered().founding.founding, founders: [candidateOf("a"), candidateOf("b"), heavy] };
      const b = new Way("b");
      b.said.set("c", heavy);
      const signatures = [{ hubId: "c", signature: keyOf("c").crypto.sign(foundingBytes(founding)) }];
      b.frame("c", { kind: "founding_offer", federationId: "street", founding: { founding, signatures } });
      expect(reasonOf(b.do((formation, out) => formation.join("street", "", out)))).toBe("VALUE_OUT_OF_RANGE");
      expect([b.sent, b.stored, b.formation.standing]).toEqual([[], undefined, "none"]);
    },
  );

  test("FO1 with a founder that nobody hears is not begun, and not signed", () => {
    const a = new Way("a");
    a.said.delete("c");
    expect(reasonOf(a.do((formation, out) => formation.found(FOUND, out)))).toBe("PEER_UNREACHABLE");
    const { offer } = offered();
    const b = new Way("b");
    b.said.delete("c");
    b.frame("a", offer);
    expect(reasonOf(b.do((formation, out) => formation.join("street", "", out)))).toBe("PEER_UNREACHABLE");
  });

  test.each<[string, (consent: FormationFrame & { kind: "founding_consent" }, founding: SignedFounding) => FormationFrame, string]>([
    ["with a signature of another hub", (consent, { founding }) => ({ ...consent, signature: sign("x", founding) }), "c"],
    [
      "with a signature of another entry",
      (consent, { founding }) => ({ ...consent, signature: sign("c", { ...founding, name: "Other" }) }),
      "c",
    ],
    ["of a hub that is no founder", (consent) => consent, "z"],
    ["of another founder's", (consent) => consent, "b"],
    ["to another federation", (consent) => ({ ...consent, federationId: "road" }), "c"],
  ])("PROTOCOL G2 FO1 a consent %s is not counted", (_what, change, peer) => {
    const { a, offer, founding } = offered();
    if (peer === "c") a.frame("b", consentOf("b", offer));
    const consent = consentOf("c", offer) as FormationFrame & { kind: "founding_consent" };
    expect(a.frame(peer, change(consent, founding))).toBeUndefined();
    expect(a.formation.standing).toBe("founding");
  });

  test("PROTOCOL G2 FO1 who consented begins with what it signed, signed by all, and with nothing else", () => {
    const { a, offer } = offered();
    a.frame("b", consentOf("b", offer));
    a.frame("c", consentOf("c", offer));
    const founded = a.take("b").at(-1) as FormationFrame & { kind: "founded" };
    const b = new Way("b");
    expect(b.frame("a", founded)).toBeUndefined();
    b.frame("a", offer);
    b.do((formation, out) => formation.join("street", "", out));
    const { founding, signatures } = founded.founding;
    for (const wrong of [
      { founding, signatures: signatures.slice(0, 2) },
      { founding, signatures: signatures.map((one) => (one.hubId === "c" ? { ...one, signature: new Uint8Array(64) } : one)) },
      { founding: { ...founding, name: "Other" }, signatures },
      { founding: { ...founding, federationId: "road" }, signatures },
    ])
      expect(b.frame("a", { ...founded, founding: wrong })).toBeUndefined();
    expect(b.frame("c", founded)).toBeDefined();
  });

  test("alone begins at once; too many, too few, or what is malformed is refused", () => {
    const a = new Way("a");
    const found = (more: Partial<FoundRequest>): string | undefined =>
      reasonOf(a.do((formation, out) => formation.found({ ...FOUND, ...more }, out)));
    expect(found({ engine: "bft" })).toBe("VALUE_OUT_OF_RANGE");
    expect(found({ federationId: "Not A Label" })).toBe("INVALID_FIELD");
    for (const hub of ["d", "e", "f", "g", "h"]) a.said.set(hub, candidateOf(hub));
    expect(found({ founders: ["b", "c", "d", "e", "f", "g", "h"] })).toBe("VALUE_OUT_OF_RANGE");
    expect(a.do((formation, out) => formation.found({ ...FOUND, founders: [] }, out))).toMatchObject({ incarnation: 1 });
  });
});

function sign(hub: string, founding: SignedFounding["founding"]): Uint8Array {
  return Uint8Array.from(keyOf(hub).crypto.sign(foundingBytes(founding)));
}

describe("the way into a federation", () => {
  test("FO2 is into one at a time, and survives a restart", () => {
    const { a } = offered();
    a.restart();
    expect([a.formation.standing, a.formation.federationId]).toEqual(["founding", "street"]);
    expect(reasonOf(a.do((formation, out) => formation.found({ ...FOUND, federationId: "road" }, out)))).toBe("ALREADY_EXISTS");
    expect(reasonOf(a.do((formation, out) => formation.join("road", "b", out)))).toBe("ALREADY_EXISTS");
    expect(a.do((formation, out) => formation.found(FOUND, out))).toBeUndefined();
    a.do((formation, out) => formation.leave(out));
    a.restart();
    expect(a.formation.standing).toBe("none");
    expect(() => a.formation.restore(Uint8Array.of(255))).toThrow("damaged");
  });

  test("FO3 an offer, a consent and a request are said again on each session", () => {
    const { a, offer } = offered();
    a.restart();
    a.do((formation, out) => formation.up("b", out));
    a.do((formation, out) => formation.up("z", out));
    expect(a.take("b")).toEqual([offer]);
    expect(a.sent).toEqual([]);
    const b = new Way("b");
    b.frame("a", offer);
    b.do((formation, out) => formation.join("street", "", out));
    const consent = b.take("a");
    b.restart();
    b.do((formation, out) => formation.up("a", out));
    expect(b.take("a")).toEqual(consent);
    const c = new Way("c");
    c.do((formation, out) => formation.join("street", "a", out));
    const ask = c.take("a");
    c.restart();
    c.do((formation, out) => formation.up("a", out));
    expect(c.take("a")).toEqual(ask);
    // And when its operator says it again.
    c.do((formation, out) => formation.join("street", "a", out));
    expect(c.take("a")).toEqual(ask);
  });

  test("FO3 a withdrawn offer is withdrawn again to whose consent shows that it did not hear of it", () => {
    const { a, offer } = offered();
    const b = new Way("b");
    b.frame("a", offer);
    b.do((formation, out) => formation.join("street", "", out));
    const [consent] = b.take("a");
    a.do((formation, out) => formation.leave(out));
    a.take("b");
    expect(a.frame("b", consent!)).toBeUndefined();
    for (const frame of a.take("b")) b.frame("a", frame);
    expect(b.formation.standing).toBe("none");
  });

  test("a withdrawn consent is not counted", () => {
    const { a, offer } = offered();
    a.frame("b", consentOf("b", offer));
    const c = new Way("c");
    c.frame("a", offer);
    c.do((formation, out) => formation.join("street", "", out));
    const [consent] = c.take("a");
    a.frame("b", { kind: "founding_consent", federationId: "street", signature: undefined });
    expect(a.frame("c", consent!)).toBeUndefined();
    expect(a.frame("b", consentOf("b", offer))).toBeDefined();
  });

  test("a refusal ends it, and says why; a larger incarnation is taken, and asked for with", () => {
    const c = new Way("c");
    c.do((formation, out) => formation.join("street", "a", out));
    c.take("a");
    const answer = { kind: "join_answer", federationId: "street", failure: undefined, incarnation: 4 } as const;
    c.frame("b", answer);
    expect(c.take("a")).toEqual([]);
    c.frame("a", answer);
    expect(c.take("a")).toMatchObject([{ kind: "join_ask", candidate: { incarnation: 4 } }]);
    c.frame("a", { ...answer, failure: { reason: "LIMIT_EXCEEDED", message: "too many" } });
    expect(c.events).toEqual(["a refused: too many"]);
    expect(c.formation.standing).toBe("none");
  });
});

describe("hubs on the way", () => {
  const hubs = ["a", "b", "c"] as const;
  const hub = fc.constantFrom(...hubs);
  const step = fc.oneof(
    fc.record({ kind: fc.constantFrom("want" as const, "leave" as const, "restart" as const), hub }),
    fc.record({ kind: fc.constantFrom("cut" as const), hub }),
    fc.constant({ kind: "heal" as const }),
    fc.record({ kind: fc.constant("advance" as const), ms: fc.integer({ min: 1, max: 8 }), hub }),
  );
  const request = (id: string): Request =>
    id === "a" ? { ...FOUND, admission: "founder" } : { kind: "join", federationId: "street", via: "" };
  const statusOf = (world: CoordinationHubs, id: string) => world.ask(id, "status", { kind: "status" }).status;

  test("FO1 FO2 FO3 CO4 whatever is lost, withdrawn and restarted in whatever order, there is one federation at most, and in the end all are in it", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const world = new CoordinationHubs(...hubs);
        for (const one of steps)
          if (one.kind === "want") world.wait(one.hub, world.call(one.hub, request(one.hub)));
          else if (one.kind === "leave") {
            if (statusOf(world, one.hub).standing !== "member")
              world.wait(one.hub, world.call(one.hub, { kind: "leave", federationId: "street", force: false }));
          } else if (one.kind === "restart") world.restart(one.hub);
          else if (one.kind === "cut") world.cut(one.hub);
          else if (one.kind === "heal") world.heal();
          else if ("ms" in one) world.advance(one.ms);
        world.heal();
        const all = () => hubs.map((id) => statusOf(world, id));
        for (let i = 0; i < 20 && all().some(({ standing }) => standing !== "member"); i++) {
          // Each operator wants it, and says so when there is nothing of it: a founder that withdrew asks a member.
          for (const id of hubs) {
            const { standing, invitations } = statusOf(world, id);
            if (standing !== "none") continue;
            const member = id === "a" ? "b" : "a";
            const founded = statusOf(world, member).standing === "member" && invitations.length === 0;
            world.wait(id, world.call(id, founded ? { kind: "join", federationId: "street", via: member } : request(id)));
          }
          world.advance(10);
        }
        expect(all().map(({ standing }) => standing)).toEqual(["member", "member", "member"]);
        expect(new Set(all().map(({ founding }) => Buffer.from(founding).toString("hex"))).size).toBe(1);
      }),
      { numRuns: 100 },
    );
  }, 60_000);

  test("CO5 a hub that left by force, and forgot its log and its votes, is not taken for the replica that it was", () => {
    const world = new CoordinationHubs(...hubs);
    world.advance(10);
    world.ask("a", "standing", request("a"));
    world.advance(10);
    for (const id of ["b", "c"]) world.ask(id, "standing", request(id));
    world.until(() => hubs.every((id) => statusOf(world, id).canDecide));
    world.ask("c", "done", { kind: "leave", federationId: "street", force: true });
    world.restart("c");
    world.advance(10);
    const again: Request = { kind: "join", federationId: "street", via: "a" };
    expect(world.ask("c", "standing", again).standing).toBe("joining");
    const replicas = (id: string) => statusOf(world, id).members.map(({ replica }) => replica);
    for (const id of hubs) world.until(() => statusOf(world, id).canDecide && /^a\/1,b\/1,c\/(?!1$)/.test(replicas(id).join()));
  });
});
