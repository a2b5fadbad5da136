import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ConfigError, type ConfigProblem } from "#runtime/config/load.ts";
import { type Leaf, leavesOf, shapeOf } from "#runtime/config/shape.ts";
import { hubConfig } from "./config.ts";
import { readRevoked } from "./files/revoked-file.ts";
import { loadHubConfig } from "./index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-config-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const LEAVES = leavesOf(shapeOf(hubConfig));
const REQUIRED = { hub_id: "home", tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" } };
/** What zod says by itself, and what JavaScript does. */
const RAW = /expected|received|invalid (input|option|key|string)|too (big|small)|unrecognized|undefined|NaN|Infinity|unexpected token/i;

/** textWith is a hub.json in which the text `json` stands at a field. */
function textWith({ path }: Pick<Leaf, "path">, json: string): string {
  const parts = path.map((part) => (part === "*" ? "a" : part));
  const inner = parts.reduceRight((text, part) => `{${JSON.stringify(part)}:${text}}`, json);
  // The fields that must be there are given unless the one in question is among them.
  const { hub_id, tls } = REQUIRED;
  const others = Object.entries({ hub_id, tls }).filter(([name]) => name !== parts[0]);
  return `${inner.slice(0, -1)}${others.map(([name, value]) => `,${JSON.stringify(name)}:${JSON.stringify(value)}`).join("")}}`;
}

function problemsOf(text: string): readonly ConfigProblem[] {
  const file = join(folder, "hub.json");
  writeFileSync(file, text);
  try {
    loadHubConfig({ file });
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

describe("hub.json", () => {
  test("no number that JSON cannot carry is taken: the sentence names file and field and says what must be there", () => {
    const numbers = LEAVES.filter(({ shape }) => shape.type === "number" || shape.type === "int");
    expect(numbers.length).toBeGreaterThan(50);
    for (const leaf of numbers)
      for (const number of ["1e400", "-1e400", "9007199254740993", "-0", "1e21", "0.1e-400"]) {
        const field = leaf.path.join(".").replace("*", "a");
        const found = problemsOf(textWith(leaf, number));
        // What rounds to zero may be a number that is allowed, as it is.
        if (number === "0.1e-400" && found.length === 0) continue;
        const mine = found.filter(({ path }) => path === field);
        expect(mine, `${field} ${number}`).toHaveLength(1);
        expect(mine[0]?.source).toBe(`file ${join(folder, "hub.json")}`);
        expect(mine[0]?.message, `${field} ${number}`).toMatch(/^(must be|is) /);
        expect(mine[0]?.message).not.toMatch(RAW);
      }
  });

  test("each field says in plain words what it must be when it is something else", () => {
    let refused = 0;
    for (const leaf of LEAVES)
      for (const json of ["null", "true", "5.5", '"loud"', '""', "[]", "[7]", "{}", '{"x":1}', '[{"tpyes":[]}]']) {
        for (const { message, source, path } of problemsOf(textWith(leaf, json))) {
          refused++;
          expect(message, `${path} = ${json}`).not.toMatch(RAW);
          if (!message.startsWith("is missing")) expect(source, `${path} = ${json}`).toContain("hub.json");
        }
      }
    expect(refused).toBeGreaterThan(LEAVES.length * 5);
  });

  test("words: a kind, a choice with the nearest, a name, a rule that is a text or an object", () => {
    const say = (path: string, json: string): string =>
      problemsOf(textWith({ path: path.split("/") }, json))
        .map((p) => p.message)
        .join();
    expect(say("ops/port", '"x"')).toBe("must be a number");
    expect(say("ops", "5")).toBe("must be an object");
    expect(say("log/level", '"wran"')).toBe("must be one of debug, info, warn, error; did you mean warn?");
    expect(say("registry_sync/shares/x y", "{}")).toBe("its name must be 1 to 63 of a-z, 0-9 and -");
    expect(say("registry_sync/shares/a/nodes", "[5]")).toBe("must be a text or an object");
    expect(say("registry_sync/shares/a/nodes", '[{"tpyes":[]}]')).toBe(
      'has "tpyes", which is not known; known are ids, types, kind, labels, allow, keys, invoke',
    );
    // What is not a rule's: an import has no capabilities.
    expect(say("registry_sync/imports/nodes", '[{"id":["x"]}]')).toBe(
      'has "id", which is not known; known are ids, types, kind, labels, allow',
    );
  });
});

describe("revoked.json", () => {
  test.each([
    ["garbage", "it is not JSON: something unexpected at line 1, column 1"],
    ["", "it is empty and must hold JSON"],
    ["[]", "it must be an object"],
    ['{"revoked":5}', "revoked must be a list"],
    ['{"revoked":[{}]}', "revoked.0.sha256 is missing; it must be a text"],
    ['{"revoked":[{"sha256":"zz"}]}', "revoked.0.sha256 must be a SHA-256 in 64 hex digits"],
    ['{"revoked":[],"x":1}', 'it has "x", which is not known; known is revoked'],
  ])("%s is refused with the file, the field and what to do", (text, words) => {
    const file = join(folder, "revoked.json");
    writeFileSync(file, text);
    expect(() => readRevoked(file)).toThrow(`the list of revoked certificates ${file} is not valid: ${words}; correct it`);
  });
});
