/** Verdict is yes, or no with a sentence. */
export type Verdict = { readonly ok: true } | { readonly ok: false; readonly why: string };

/**
 * mayAct decides at an endpoint whether it may act for its hub. `held` is the fence that it was given, `current` the one of the log as far
 * as this endpoint has read it since it started; undefined while it has not, and then it does nothing (LF1).
 *
 * LF1 an endpoint acts for its hub only with the present fence of the book of members (BM6), which it has read from the log since it started.
 * LF2 a standby serves its hub's data only if it has all that others have seen of it.
 */
export function mayAct(hub: string, held: number | undefined, current: number | undefined): Verdict {
  if (current === undefined) return no(`this endpoint of ${hub} has not read yet who acts for it; it waits for the log`);
  if (held === undefined || !Number.isSafeInteger(held)) return no(`this endpoint of ${hub} holds no fence; another one acts for it`);
  if (held < current) return no(`another endpoint acts for ${hub} with fence ${current}; this one had ${held} and stands down`);
  if (held > current) return no(`this endpoint of ${hub} holds fence ${held} and the log has ${current} only; it waits for the log`);
  return { ok: true };
}

/** StandbyState is what a standby knows when it is asked to serve its hub's data. */
export interface StandbyState {
  readonly hub: string;
  /** Position of its copy of the hub's data; undefined if it has none. */
  readonly position: number | undefined;
  /** The newest position that others are known to have seen of the hub; undefined if nobody knows. */
  readonly seen: number | undefined;
  readonly held: number | undefined;
  readonly current: number | undefined;
}

/**
 * mayServe decides whether a standby may serve its hub's data. Roles and the dialled endpoint move without the data; a copy that is missing,
 * or older than what others have seen of the hub, would make what they know untrue, and is not served (LF2).
 */
export function mayServe({ hub, position, seen, held, current }: StandbyState): Verdict {
  const act = mayAct(hub, held, current);
  if (!act.ok) return act;
  if (position === undefined) return no(`this standby has no data of ${hub}; restore a backup here, or bring the primary back`);
  if (!Number.isSafeInteger(position) || position < 0)
    return no(`the position of this standby's data of ${hub} is none; restore a backup here`);
  if (seen === undefined || !Number.isSafeInteger(seen))
    return no(`nobody has said yet how far the data of ${hub} went; this standby waits for a peer that knows`);
  if (position < seen)
    return no(`this standby has the data of ${hub} up to ${position} and others have seen ${seen}; bring the rest here first`);
  return { ok: true };
}

function no(why: string): Verdict {
  return { ok: false, why };
}
