import { X509Certificate } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { systemEntropy } from "#channel/entropy.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { testHub } from "../../../test/testca/index.ts";
import { ConsoleSessions, IDLE_MS, LIFE_MS, LINK_MS, type Operator } from "./sessions.ts";

let operator: Operator;
beforeAll(async () => {
  const leaf = new X509Certificate((await testHub("home")).operator().certificatePem);
  operator = { leaf, thumbprint: thumbprintOf(leaf), hubId: "home" };
});

/** at gives sessions and a clock that a test sets. */
function at(): { readonly sessions: ConsoleSessions; readonly clock: { now: number } } {
  const clock = { now: 0 };
  return { clock, sessions: new ConsoleSessions({ mono: () => clock.now }, systemEntropy) };
}

describe("links and sessions of the console", () => {
  test("CZ1 a link is good for one login", () => {
    const { sessions } = at();
    const link = sessions.link(operator);
    const secret = sessions.login(link)!;
    expect(sessions.of(secret)).toMatchObject({ thumbprint: operator.thumbprint });
    expect([sessions.login(link), sessions.login(""), sessions.login(secret), sessions.of(link)]).toEqual(Array(4).fill(undefined));
  });

  test("CZ1 within a minute, and a failed try at it is the last", () => {
    const { sessions, clock } = at();
    const [late, intime] = [sessions.link(operator), sessions.link(operator)];
    clock.now = LINK_MS - 1;
    expect(sessions.login(intime)).toBeDefined();
    clock.now = LINK_MS;
    expect(sessions.login(late)).toBeUndefined();
  });

  test("CZ3 a session ends when nobody uses it, and at last", () => {
    const { sessions, clock } = at();
    const idle = sessions.login(sessions.link(operator))!;
    const used = sessions.login(sessions.link(operator))!;
    for (clock.now = 0; clock.now < LIFE_MS; clock.now += IDLE_MS - 1) expect(sessions.of(used)).toBeDefined();
    expect([sessions.of(used), sessions.of(idle)]).toEqual([undefined, undefined]);
  });

  test("one that is logged out is over, and others are not", () => {
    const { sessions } = at();
    const [a, b] = [sessions.login(sessions.link(operator))!, sessions.login(sessions.link(operator))!];
    sessions.logout(a);
    expect([sessions.of(a), sessions.of(b) !== undefined]).toEqual([undefined, true]);
  });

  test("there are never more than a few, and the oldest ends", () => {
    const { sessions } = at();
    const links = Array.from({ length: 17 }, () => sessions.link(operator));
    expect([sessions.login(links[0]!), sessions.login(links[1]!) !== undefined]).toEqual([undefined, true]);
    const secrets = Array.from({ length: 65 }, () => sessions.login(sessions.link(operator))!);
    expect([sessions.of(secrets[0]!), sessions.of(secrets[1]!) !== undefined]).toEqual([undefined, true]);
  });
});
