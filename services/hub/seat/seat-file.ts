import { rmSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { fail } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { notFile, readText, writeWhole } from "#runtime/files.ts";

const FORMAT = "foedus-seat-1";
const hubId = z.string().refine(isHubId);
const token = z
  .int()
  .min(0)
  .max(2 ** 48);
const place = z.strictObject({ host: z.string().min(1).max(253), port: z.int().min(1).max(65_535) });
const dialled = z.strictObject({ hubId, endpoint: place, standby: z.boolean(), fence: token, incarnation: token });
const seatFile = z.strictObject({
  format: z.literal(FORMAT),
  hubs: z.array(hubId).max(256),
  fence: token,
  members: z.array(dialled).max(256),
});

/** SeatMemory is what an installation remembers of its hub's having others. */
export interface SeatMemory {
  /** Hubs whose word counts for which of them acts; empty: all peers. */
  readonly hubs: readonly string[];
  /** With which an installation acted last that wrote the data beside the file; 0 for none. */
  readonly fence: number;
  /** Where members with standbys were dialled, as far as was told last. */
  readonly members: readonly z.infer<typeof dialled>[];
}

/** seatPath is where a process remembers that its hub has several installations, in the data folder. */
export function seatPath(dataDir: string, runs: string): string {
  return join(dataDir, `${runs}.seat.json`);
}

/** readSeat reads what an installation remembers; undefined if its hub has one only. NOT_CONFIGURED if the file is damaged. */
export function readSeat(path: string): SeatMemory | undefined {
  let text: string;
  try {
    text = readText(path);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && (cause.code === "ENOENT" || cause.code === "ENOTDIR")) return undefined;
    throw fail("NOT_CONFIGURED", `the file ${path} cannot be read${notFile(cause)}; make it readable for the user that runs the hub`, {
      cause,
    });
  }
  try {
    const { format: _, ...memory } = seatFile.parse(JSON.parse(text));
    return memory;
  } catch (cause) {
    const fix = "take it from a backup; without it this installation would not know that its hub has others";
    throw fail("NOT_CONFIGURED", `the file ${path} is damaged; ${fix}`, { cause });
  }
}

/** writeSeat remembers that the hub has several installations, or with undefined that it has one. */
export function writeSeat(path: string, memory: SeatMemory | undefined): void {
  if (memory === undefined) rmSync(path, { force: true });
  else writeWhole(path, `${JSON.stringify({ format: FORMAT, ...memory })}\n`, 0o600);
}
