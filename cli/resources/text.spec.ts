import { expect, test } from "vitest";
import { AMOUNT_MAX, amountsOf, DIMENSIONS } from "../../services/coordination/resources/amounts.ts";
import { HOLDS, NETWORKS, uncounted, WORKS } from "../../services/coordination/resources/kinds.ts";
import type { CliError } from "../exit.ts";
import { buildProgram } from "../program.ts";
import { KIND_WORDS, parseAmounts, parseAmountsOf, parseKind, parseLimit, parseWant } from "./text.ts";

test("S4-11 a limit of one dimension leaves the others without one", () => {
  const most = BigInt(AMOUNT_MAX);
  expect(parseLimit(["gpu-milli=2000", "agents=0"])).toEqual({
    ...{ agents: 0n, cpuMilli: most, gpuMilli: 2_000n, memoryMb: most, storageMb: most, networkKbps: most },
  });
});

test.each(["agents", "agents=", "agents=-1", "agents=1.5", "agents=NaN", "agents=1e3", "agents=99999999999999", "toString=1", "cpu=1"])(
  "an amount that is none is refused: %s",
  (text) => {
    expect(() => parseAmounts([text])).toThrow("is no amount");
  },
);

test("an amount that is said twice is refused, instead of one of both being taken", () => {
  expect(() => parseAmounts(["agents=1", "agents=2"])).toThrow("second amount of agents");
});

/** refusal is what is said of what was typed, and what to do. */
function refusal(parse: () => unknown): string {
  try {
    parse();
  } catch (error) {
    return `${(error as Error).message}. ${(error as CliError).remedy}`;
  }
  return "taken";
}

test("what can be lent is what the book lends, and the help of offer and request lists it with its amounts", () => {
  const kinds = ["agents:<type>", `compute:${WORKS.join("|")}`, `storage:${HOLDS.join("|")}`, `network:${NETWORKS.join("|")}`];
  expect(KIND_WORDS).toEqual(kinds);
  const typed = DIMENSIONS.map((dimension) => dimension.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`));
  const resources = buildProgram(async () => undefined).commands.find((command) => command.name() === "resources")!;
  for (const name of ["offer", "request"]) {
    const command = resources.commands.find((one) => one.name() === name)!;
    let help = "";
    command.configureOutput({ ...command.configureOutput(), getOutHelpWidth: () => 200, writeOut: (more) => (help += more) });
    command.outputHelp();
    for (const word of [...kinds, ...typed]) expect(help).toContain(word);
    const examples = [...help.matchAll(/^ {2}foedus resources \w+ (.*)$/gm)].map(([, example = ""]) => example.split(" "));
    expect(examples.length).toBeGreaterThan(1);
    for (const example of examples) {
      const kind = example.find((word) => word.includes(":")) ?? "";
      const amounts = example.filter((word) => word.includes("="));
      expect(refusal(() => [parseKind(kind, ["x"]), parseAmountsOf(kind, amounts)])).toBe("taken");
    }
  }
  for (const [kind, word] of [
    ["agent", "agents:x"],
    ["compute", "compute:batch"],
    ["storage", "storage:data"],
    ["network", "network:pooling"],
  ] as const)
    for (const [at, dimension] of DIMENSIONS.entries()) {
      const counted = uncounted(kind, amountsOf({ [dimension]: 1 })) === undefined;
      expect([word, dimension, refusal(() => parseAmountsOf(word, [`${typed[at]}=1`])) === "taken"]).toEqual([word, dimension, counted]);
    }
});

test("what is not whole says what is missing, with an example", () => {
  expect(refusal(() => parseKind("agents", []))).toBe(
    '"agents" does not say which type of agents. Write agents:<type>, for example agents:planner.',
  );
  expect(refusal(() => parseKind("agents:planner", []))).toBe(
    "an offer of agents says which agents they are. Name each with --with, for example: foedus resources offer bots agents:planner --with ada --with bob.",
  );
  expect(refusal(() => parseKind("compute", []))).toBe(
    '"compute" does not say which kind of compute. Write compute:inference, compute:batch or compute:analysis.',
  );
  expect(refusal(() => parseWant("network:lan"))).toBe(
    '"network:lan" is no kind of network that hubs lend. Write network:bandwidth or network:pooling.',
  );
  expect(refusal(() => parseWant("gpus"))).toBe(
    '"gpus" is nothing that hubs lend. Write agents:<type>, compute:inference|batch|analysis, storage:weights|data|cache or network:bandwidth|pooling.',
  );
  expect(refusal(() => parseAmountsOf("compute:batch", []))).toBe(
    "there is no amount of compute:batch. Write for example cpu-milli=1000; compute is counted in cpu-milli, gpu-milli, memory-mb.",
  );
  expect(refusal(() => parseAmountsOf("storage:data", ["agents=1"]))).toBe(
    "storage is not counted in agents. Write an amount of storage-mb.",
  );
});
