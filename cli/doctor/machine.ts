import { accessSync, constants, existsSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { clockPlausible } from "#runtime/clock.ts";
import { bytes } from "../print/format.ts";
import { shellWord } from "../reach/near-path.ts";
import type { Ledger } from "./ledger.ts";

/** Below this a hub may stop writing soon, bytes. */
const FREE_ERROR_BYTES = 64 * 1024 * 1024;
/** Below this it is time to look at the disk, bytes. */
const FREE_WARNING_BYTES = 512 * 1024 * 1024;

/** Disk is what a file system says of itself. */
export interface Disk {
  readonly freeBytes: number;
  readonly writable: boolean;
  /** Whether users who are neither its owner nor in its group may get in; false for a folder that is not made yet. */
  readonly open: boolean;
}

/** readDisk asks the file system of a folder, or of the nearest one above it that exists: a hub makes its data folder itself. */
export function readDisk(folder: string): Disk {
  let place = folder;
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  const { bavail, bsize } = statfsSync(place);
  let writable = true;
  try {
    accessSync(place, constants.W_OK);
  } catch {
    writable = false;
  }
  return { freeBytes: bavail * bsize, writable, open: place === folder && (statSync(folder).mode & 0o007) !== 0 };
}

/** lookAtDisk judges the place of the data. */
export function lookAtDisk(ledger: Ledger, subject: string, { freeBytes, writable, open }: Disk): void {
  ledger.look(
    open && {
      severity: "error",
      check: "disk",
      subject,
      message: "other users of this machine may read what is in it, and the keys of tokens and feeds are",
      fix: `\`chmod o-rwx ${shellWord(subject)}\`; the hub does it at its start if the folder is its own.`,
    },
  );
  ledger.look(
    !writable && {
      severity: "error",
      check: "disk",
      subject,
      message: "this user may not write there",
      fix: "Give the folder to the user that runs the hub.",
    },
  );
  ledger.look(
    freeBytes < FREE_WARNING_BYTES && {
      severity: freeBytes < FREE_ERROR_BYTES ? "error" : "warning",
      check: "disk",
      subject,
      message: `only ${bytes(freeBytes)} are free there`,
      fix: "Free some space, or move data_dir; a hub whose disk is full refuses writes until there is room.",
    },
  );
}

/** lookAtClock judges the wall clock of this machine (Unix ms). */
export function lookAtClock(ledger: Ledger, nowWall: number): void {
  const failure = clockPlausible(nowWall);
  ledger.look(
    failure !== undefined && {
      severity: "error",
      check: "clock",
      subject: "this machine",
      message: `${failure.message}: it says ${new Date(nowWall).toISOString()}`,
      fix: "Set it, e.g. with a time service (`timedatectl set-ntp true`); the hub waits for that.",
    },
  );
}
