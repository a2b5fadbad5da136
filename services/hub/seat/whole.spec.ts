import { describe, expect, test } from "vitest";
import { dataProblem, Whole } from "./whole.ts";

const WORD = { endpoint: { host: "lab-2.example", port: 18_800 }, fence: 4, incarnation: 7 };
const FRESH_MS = 100;
const of = (incarnation: number | undefined, returning?: number) => ({ data: { replica: { incarnation, returning } }, fence: undefined });
const FEED = { data: {}, fence: undefined };

function whole(): Whole {
  return new Whole({ hub: "lab", needed: ["registry-sync", "coordination"], freshMs: FRESH_MS });
}

describe("the processes of an installation", () => {
  test("SI6 act once those with the feed and the log have said that they have the data, and not before", () => {
    const all = whole();
    expect(all.problem(WORD, 0)).toMatch(/registry-sync of this installation has not said yet/);
    all.told("registry-sync", FEED, 0);
    expect(all.problem(WORD, 0)).toMatch(/coordination of this installation has not said yet/);
    all.told("telemetry", of(7), 0);
    expect(all.problem(WORD, 0)).toMatch(/coordination of this installation has not said yet/);
    all.told("coordination", of(7), 0);
    expect(all.problem(WORD, 0)).toBeUndefined();
  });

  test("SI6 LF2 the log of a replica that another installation went on from keeps all of them from acting, and so does a feed that is missing", () => {
    const all = whole();
    all.told("coordination", of(6), 0);
    expect(all.problem(WORD, 0)).toMatch(/coordination .*another installation went on with replica 7/);
    all.told("coordination", of(6, 7), 0);
    all.told("registry-sync", { data: { problem: "no feed" }, fence: undefined }, 0);
    expect(all.problem(WORD, 0)).toBe("registry-sync of this installation says: no feed");
    all.told("registry-sync", FEED, 0);
    expect(all.problem(WORD, 0)).toBeUndefined();
  });

  test("SI6 what was said long ago does not count", () => {
    const all = whole();
    all.told("registry-sync", FEED, 0);
    all.told("coordination", of(7), 0);
    expect(all.problem(WORD, FRESH_MS)).toBeUndefined();
    expect(all.problem(WORD, FRESH_MS + 1)).toMatch(/has not said yet/);
  });

  test("SI6 a process that acted while discovery was away goes on with the fence that is dialled, and with no other", () => {
    const all = whole();
    all.told("registry-sync", FEED, 0);
    all.told("coordination", { data: undefined, fence: 4 }, 0);
    expect(all.problem(WORD, 0)).toBeUndefined();
    for (const fence of [3, 5, undefined]) {
      all.told("coordination", { data: undefined, fence }, 0);
      expect(all.problem(WORD, 0)).toMatch(/coordination .*still acts as before/);
    }
  });

  test("LF2 data is judged by the replica that it is of; a service without the log by what is wrong with it", () => {
    expect(dataProblem("lab", {}, 7)).toBeUndefined();
    expect(dataProblem("lab", { problem: "damaged" }, 7)).toBe("damaged");
    expect(dataProblem("lab", { replica: { incarnation: undefined, returning: undefined } }, 7)).toMatch(/no data of lab/);
    expect(dataProblem("lab", { replica: { incarnation: 8, returning: undefined } }, 7)).toMatch(/waits to hear more/);
  });
});
