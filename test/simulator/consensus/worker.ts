import { parentPort, workerData } from "node:worker_threads";
import { summarise } from "./report.ts";
import { simulate } from "./subjects.ts";

// One thread of `main.ts`: a seed comes, what became of it goes back.
const { engine, voters } = workerData as { readonly engine: string; readonly voters: number | undefined };

parentPort?.on("message", (seed: number) => {
  void simulate(engine, seed, voters).then((result) => parentPort?.postMessage(summarise(result)));
});
