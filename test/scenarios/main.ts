// `make scenarios`: the five scenarios of the plan and its numbers, each in virtual time and by processes over mutual TLS. Each line is
// `promised | measured | ok`. Exit code 1 when a promise is broken or a scenario ends with an error, 2 for wrong arguments.
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundle, INSTALLED } from "../../cli/build.ts";
import { brokenIn, HEAD, type How, type Play, type Scenario, show, timed } from "./promises.ts";
import { SCENARIOS } from "./scenarios.ts";

/** chosen are the scenarios, and the ways to play them, that somebody asked for. */
function chosen(): { readonly scenarios: readonly Scenario[]; readonly ways: readonly How[] } {
  const { values } = parseArgs({ options: { only: { type: "string" }, how: { type: "string" } } });
  const ids = values.only === undefined ? SCENARIOS.map(({ id }) => id) : values.only.split(",");
  const unknown = ids.filter((id) => !SCENARIOS.some((one) => one.id === id));
  if (unknown.length > 0)
    throw new RangeError(`there is no scenario ${unknown.join(", ")}; say ONLY= with some of ${SCENARIOS.map(({ id }) => id).join(",")}`);
  const ways = values.how === undefined ? (["simulated", "processes"] as const) : [values.how as How];
  if (!ways.every((way) => way === "simulated" || way === "processes"))
    throw new RangeError(`HOW=${values.how} is no way to play them; say HOW=simulated or HOW=processes, or leave it out for both`);
  return { scenarios: SCENARIOS.filter(({ id }) => ids.includes(id)), ways };
}

/** one plays a scenario in one way, prints its lines, and answers how many promises were broken. */
async function one(scenario: Scenario, how: How, play: Play): Promise<number> {
  const act = scenario.ways[how];
  if (act === undefined) return 0;
  let broken = 0;
  const took = await timed(async () => {
    try {
      const lines = await act(play);
      for (const line of lines) process.stdout.write(`${show(how, line)}\n`);
      broken = brokenIn(lines, play.scale).length;
    } catch (error) {
      const { text, more } = sentenceOf(error);
      process.stdout.write(`${show(how, { promised: "it is played to its end", measured: text, held: false })}\n`);
      if (more !== "") process.stderr.write(`${more}\n`);
      broken = 1;
    }
  });
  process.stdout.write(`(took ${(took / 1_000).toFixed(1)} s; load of the machine ${loadavg()[0]!.toFixed(1)})\n`);
  return broken;
}

/** sentenceOf is what a line of the table says of an error, and what there is to say beyond that. */
function sentenceOf(error: unknown): { readonly text: string; readonly more: string } {
  if (!(error instanceof Error)) return { text: String(error), more: "" };
  const whole = `${error.message}${error.cause instanceof Error ? `: ${error.cause.message}` : ""}`;
  const [text = ""] = whole.split("\n", 1);
  return { text, more: whole.slice(text.length).trim() };
}

async function main(): Promise<number> {
  let plan: ReturnType<typeof chosen>;
  try {
    plan = chosen();
  } catch (error) {
    process.stderr.write(`scenarios: ${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  const dir = mkdtempSync(join(tmpdir(), "foedus-scenarios-"));
  const program = join(dir, "foedus.mjs");
  await bundle(program);
  // Hubs start as the installed command starts itself.
  const play: Play = { scale: "whole", entry: [...INSTALLED.flags, program], env: INSTALLED.env };
  process.stdout.write(`${availableParallelism()} processors, ${(totalmem() / 2 ** 30).toFixed(1)} GiB of memory\n`);
  let broken = 0;
  for (const scenario of plan.scenarios) {
    process.stdout.write(`\n${scenario.id} ${scenario.title} (${scenario.shows})\n${HEAD}\n`);
    for (const how of plan.ways) broken += await one(scenario, how, play);
  }
  rmSync(dir, { recursive: true, force: true });
  process.stdout.write(
    `\n${broken === 0 ? "every promise was kept" : `${broken} ${broken === 1 ? "promise was" : "promises were"} missed`}\n`,
  );
  return broken === 0 ? 0 : 1;
}

process.exitCode = await main();
