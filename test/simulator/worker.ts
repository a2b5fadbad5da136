import { parentPort, workerData } from "node:worker_threads";
import { drawOptions, type FaultChoice, faultsOf } from "./options.ts";
import { summarise } from "./report.ts";
import { runSeed } from "./run.ts";

// One thread of `main.ts`: a seed comes, what became of it goes back.
const { hubs, faults } = workerData as { readonly hubs: number; readonly faults: FaultChoice };

parentPort?.on("message", (seed: number) => {
  void runSeed(drawOptions(seed, hubs, new Set(faultsOf(seed, faults)))).then((result) => parentPort?.postMessage(summarise(result)));
});
