// Preloaded into a hub's process (`node --import`): the clocks of that process differ from the machine's by what a file says, and the
// file may change while the process runs. So a machine that boots in 1970, or that slept, is tested without touching this one.
import { readFileSync } from "node:fs";

/** SHIFT_VARIABLE names the file: JSON `{ "wallMs": …, "monoMs": … }`, what is added to each clock. */
export const SHIFT_VARIABLE = "TEST_CLOCK_SHIFT";

const file = process.env[SHIFT_VARIABLE];

if (file !== undefined) {
  const wall = Date.now.bind(Date);
  const mono = performance.now.bind(performance);
  let shift = { wallMs: 0, monoMs: 0 };
  let readAt = Number.NEGATIVE_INFINITY;
  const current = (): typeof shift => {
    // A read of the file every 20 ms is soon enough for a test and costs nothing against what the hub does.
    if (mono() - readAt > 20) {
      readAt = mono();
      try {
        shift = { ...shift, ...(JSON.parse(readFileSync(file, "utf8")) as Partial<typeof shift>) };
      } catch {
        // The file is being written; the next look finds it whole.
      }
    }
    return shift;
  };
  Date.now = () => wall() + current().wallMs;
  performance.now = () => mono() + current().monoMs;
}
