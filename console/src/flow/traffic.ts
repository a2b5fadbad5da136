import { useEffect, useRef, useState } from "preact/hooks";
import { type CallError, call, RPC } from "../api.ts";
import { monoMs, wallMs } from "../browser.ts";
import { usePoll } from "../poll.ts";
import type { LinkReport, Peer } from "../types.ts";

/** How often links are asked for, ms; with many peers less often, as each answer is long. */
const LOOK_MS = 2_000;
const LOOK_MANY_MS = 5_000;
const MANY = 20;
/** SAMPLES is how many samples are kept: ten minutes of them. */
export const SAMPLES = 300;

/** A rate is over so many looks: services report their counters each few seconds only. */
const OVER = 5;

/** Sample is what went over the links of one peer, or of all, in a second, and how long a round trip took. */
export interface Sample {
  /** Unix s. */
  readonly at: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Longest round trip of its sessions, ms; null if none is known. */
  readonly rttMs: number | null;
}

/** Traffic is how the links to peers are, and were while the page was open. */
export interface Traffic {
  readonly peers: readonly Peer[];
  readonly links: readonly LinkReport[];
  /** Samples by peer; those of all together under "". */
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  readonly error: CallError | undefined;
  readonly loaded: boolean;
}

/** Totals are the bytes that went over the links of one peer since the hub started. */
export interface Totals {
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** totalsOf adds up the counters by peer, and for all under "". */
export function totalsOf(links: readonly LinkReport[]): ReadonlyMap<string, Totals> {
  const totals = new Map<string, Totals>();
  for (const { peer, bytesIn = "0", bytesOut = "0" } of links)
    for (const key of ["", peer]) {
      const old = totals.get(key) ?? { bytesIn: 0, bytesOut: 0 };
      totals.set(key, { bytesIn: old.bytesIn + Number(bytesIn), bytesOut: old.bytesOut + Number(bytesOut) });
    }
  return totals;
}

/** rate is a difference in a second. Counters that fell are those of a hub that was started again: nothing is known of the time between. */
export function rate(before: number, now: number, seconds: number): number {
  return now < before || seconds <= 0 ? 0 : (now - before) / seconds;
}

/** rttOf is the longest round trip of a peer's sessions. */
export function rttOf({ sessions = [] }: Peer): number | null {
  const times = sessions.map(({ rttMs = 0 }) => Number(rttMs)).filter((ms) => ms > 0);
  return times.length === 0 ? null : Math.max(...times);
}

/** useTraffic follows peers and links as long as the page is open. */
export function useTraffic(): Traffic {
  const [many, setMany] = useState(false);
  const ask = async (signal: AbortSignal) => {
    // One after the other: a browser has six connections to a hub for all its pages.
    const { peers = [] } = await call<{ peers?: readonly Peer[] }>(RPC.listPeers, {}, { signal });
    const { links = [] } = await call<{ links?: readonly LinkReport[] }>(RPC.listLinks, {}, { signal });
    return { peers, links };
  };
  const { data, error, atMs } = usePoll(ask, many ? LOOK_MANY_MS : LOOK_MS, []);
  const readings = useRef<readonly Reading[]>([]);
  const samples = useRef<ReadonlyMap<string, readonly Sample[]>>(new Map());
  const [, redraw] = useState(0);
  useEffect(() => {
    if (data === undefined) return;
    setMany(data.peers.length > MANY);
    const totals = totalsOf(data.links);
    const [before] = readings.current;
    if (before !== undefined) samples.current = sampled(samples.current, before, { totals, atMs }, data.peers);
    readings.current = [...readings.current, { totals, atMs }].slice(-OVER);
    redraw(monoMs());
  }, [data]);
  return {
    peers: data?.peers ?? [],
    links: data?.links ?? [],
    samples: samples.current,
    error,
    loaded: data !== undefined,
  };
}

interface Reading {
  readonly totals: ReadonlyMap<string, Totals>;
  readonly atMs: number;
}

/** sampled adds one sample for each peer that there is. */
function sampled(
  old: ReadonlyMap<string, readonly Sample[]>,
  before: Reading,
  now: Reading,
  peers: readonly Peer[],
): ReadonlyMap<string, readonly Sample[]> {
  const seconds = (now.atMs - before.atMs) / 1_000;
  const at = wallMs() / 1_000;
  const times = new Map<string, number | null>(peers.map((peer) => [peer.hubId, rttOf(peer)]));
  const known = [...times.values()].filter((ms) => ms !== null);
  times.set("", known.length === 0 ? null : Math.max(...known));
  return new Map(
    [...times].map(([key, rttMs]) => {
      const [was, is] = [before.totals.get(key), now.totals.get(key)];
      const sample: Sample = {
        at,
        bytesIn: rate(was?.bytesIn ?? 0, is?.bytesIn ?? 0, seconds),
        bytesOut: rate(was?.bytesOut ?? 0, is?.bytesOut ?? 0, seconds),
        rttMs,
      };
      return [key, [...(old.get(key) ?? []), sample].slice(-SAMPLES)];
    }),
  );
}
