// `make flood`: every type of frame, half a minute each after half a minute without, and a line of figures for both; then refused streams,
// and an own caller that misbehaves.
import { parseArgs } from "node:util";
import { CALM, Flood, TYPES } from "./flood.ts";
import { misbehave } from "./own.ts";
import { refusedStreams } from "./refused.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "30" },
    only: { type: "string", default: "" },
    trust: { type: "string", default: "full" },
  },
});
const flood = await Flood.start(values.trust as "full" | "limited" | "minimal");
try {
  const wanted = TYPES.filter((type) => values.only === "" || values.only.split(",").includes(type));
  // A flood is compared with the same machine a moment before: what else runs there changes within minutes.
  for (const type of wanted.flatMap((each) => [CALM, each])) {
    const seen = await flood.run(type, Number(values.seconds) * 1_000);
    process.stdout.write(`${JSON.stringify(seen)}\n`);
  }
} finally {
  await flood.stop();
}
process.stdout.write(`${JSON.stringify(await refusedStreams(200, 1_000))}\n`);
for (const noticed of await misbehave(Number(values.seconds) * 1_000)) process.stdout.write(`${JSON.stringify(noticed)}\n`);
