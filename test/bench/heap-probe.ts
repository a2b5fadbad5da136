// Loaded into a hub that is measured, with --import: on SIGUSR2 it collects all garbage and writes one line of what is left.

import { setFlagsFromString, writeHeapSnapshot } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as (options: object) => void;

process.on("SIGUSR2", () => {
  // What a first collection frees of native memory is counted by the next.
  for (let i = 0; i < 3; i++) collect({ type: "major", execution: "sync", flavor: "last-resort" });
  process.stdout.write(`heap-probe ${JSON.stringify(process.memoryUsage())}\n`);
  const folder = process.env["HEAP_PROBE_SNAPSHOTS"];
  if (folder !== undefined)
    process.stdout.write(
      `heap-probe-snapshot ${writeHeapSnapshot(`${folder}/${process.pid}-${Math.round(process.uptime())}.heapsnapshot`)}\n`,
    );
});
