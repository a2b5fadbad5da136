import { describe, expect, test } from "vitest";
import { contextProblem, contextsOf, contextsProblem } from "./contexts.ts";

const HOME = { hub_id: "home", address: "localhost:18800", ca: "ca.pem", cert: "c.pem", key: "c.key" };
const SPLIT = { ...HOME, services: { telemetry: "[::1]:18803" }, config: "hub.json" };
const fileOf = (context: unknown) => ({ contexts: { home: context } });

describe("a contexts file", () => {
  test.each([{}, { current: "home" }, { current: "home", contexts: { home: HOME, split: SPLIT } }])("%j is one", (value) => {
    expect(contextsProblem(value)).toBeUndefined();
    expect(contextsOf(value)).toEqual({ current: "", contexts: {}, ...value });
  });

  test.each([
    [[], "it must be an object"],
    [null, "it must be an object"],
    [{ current: 1 }, "current must be a text"],
    [{ contexts: [] }, "contexts must be an object"],
    [{ contxts: {} }, 'it has "contxts", which is not known; known are current, contexts'],
    [fileOf("home"), "contexts.home must be an object"],
    [fileOf({ ...HOME, hub_id: undefined }), "contexts.home.hub_id is missing; it must be a text"],
    [fileOf({ ...HOME, hub_id: "No Hub" }), "contexts.home.hub_id must be the id of a hub"],
    [fileOf({ ...HOME, address: "localhost" }), "contexts.home.address must be host:port, an IPv6 host in brackets"],
    [fileOf({ ...HOME, ca: "" }), "contexts.home.ca must have at least 1 character"],
    [fileOf({ ...HOME, key: 7 }), "contexts.home.key must be a text"],
    [fileOf({ ...HOME, services: { telemetry: "x" } }), "contexts.home.services.telemetry must be host:port, an IPv6 host in brackets"],
    [
      fileOf({ ...HOME, adress: "a:1", host: "h" }),
      'contexts.home has "adress", "host", which is not known; known are hub_id, address, ca, cert, key, services, config',
    ],
    [JSON.parse('{"contexts":{"__proto__":{}}}'), "contexts.__proto__.hub_id is missing; it must be a text"],
  ])("%j is none: %s", (value, problem) => {
    expect(contextsProblem(value)).toBe(problem);
  });

  test("one context is enough for a program: fields of a later version, and what is wrong with others, are no problem", () => {
    expect([contextProblem(SPLIT), contextProblem({ ...HOME, later: true })]).toEqual([undefined, undefined]);
    expect([contextProblem({ ...HOME, cert: undefined }), contextProblem("home"), contextProblem({ ...HOME, address: "x" })]).toEqual([
      "cert is missing; it must be a text",
      "it must be an object",
      "address must be host:port, an IPv6 host in brackets",
    ]);
  });

  test("what is no contexts file has no contexts", () => {
    for (const value of [[], null, "x", { current: 1, contexts: "x" }]) expect(contextsOf(value)).toEqual({ current: "", contexts: {} });
  });
});
