import type { StoreOp } from "#kernel/core.ts";
import type { Boot, StoreReader } from "../ports.ts";
import { readMeta } from "../table/stored-records.ts";
import { putMeta } from "../world.ts";

/**
 * BootMark is kept to tell an unclean stop. It is written in the commit that opens the new epoch, so that a start which fails before that
 * does not use it up.
 */
interface BootMark {
  readonly bootId: string;
  readonly clean: boolean;
  /** What was promised while it ran, which need not be what is promised now. Absent in marks of older versions. */
  readonly durability?: Boot["durability"];
}

/** bootMark is the mark of a run that begins, or that ends in order. */
export function bootMark(boot: Boot, clean: boolean): StoreOp {
  return putMeta("boot", { ...boot, clean } satisfies BootMark);
}

/** tailAtRisk tells whether the run before this one ended so that records may be missing which others have seen. */
export function tailAtRisk(reader: StoreReader, boot: Boot): boolean {
  const mark = readMeta<BootMark>(reader, "boot");
  const promised = mark?.durability ?? boot.durability;
  return mark !== undefined && !mark.clean && promised === "process" && mark.bootId !== boot.bootId;
}
