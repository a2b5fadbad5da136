// `make flood`: every type of frame, half a minute each, and one line of figures per type; then refused streams.
import { parseArgs } from "node:util";
import { CALM, Flood, TYPES } from "./flood.ts";
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
  for (const type of [CALM, ...TYPES])
    if (type === CALM || values.only === "" || values.only.split(",").includes(type)) {
      const seen = await flood.run(type, Number(values.seconds) * 1_000);
      process.stdout.write(`${JSON.stringify(seen)}\n`);
    }
} finally {
  await flood.stop();
}
process.stdout.write(`${JSON.stringify(await refusedStreams(200, 1_000))}\n`);
