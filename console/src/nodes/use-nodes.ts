import { useEffect, useRef, useState } from "preact/hooks";
import { type CallError, call, RPC } from "../api.ts";
import { after } from "../browser.ts";
import { asCallError } from "../poll.ts";
import type { NodeName, NodeRecord } from "../types.ts";
import { type Filter, firstPage, keyOf, type Listed, nextPage } from "./pages.ts";

/** Between two looks at nodes that are seen, ms: a screen of 20 is as new as two seconds. */
const LOOK_MS = 100;
/** How often a list that is short is listed again, for what appeared and disappeared, ms; and how often after a failure. */
const AGAIN_MS = 5_000;
/** The same of one of which only the first page is loaded: the hub sorts and keeps all of it. */
const AGAIN_LONG_MS = 30_000;
const RETRY_MS = 1_000;
/** A list of more pages than one is not listed again by itself: it would cost the hub too much. */
const SHORT_ROWS = 100;

/** Nodes is a list as far as it is loaded, kept up to date where it is seen. */
export interface Nodes {
  readonly listed: Listed | undefined;
  readonly error: CallError | undefined;
  readonly loading: boolean;
  /** more loads the next page. */
  readonly more: () => void;
  /** seen says which nodes are on the screen. */
  readonly seen: (names: readonly NodeName[]) => void;
  /** looked puts what was asked for elsewhere into the list. */
  readonly looked: (record: NodeRecord) => void;
}

/** replaced puts newer records in the place of older ones. */
function replaced(listed: Listed | undefined, record: NodeRecord): Listed | undefined {
  const at = listed?.records.findIndex((old) => keyOf(old) === keyOf(record)) ?? -1;
  if (listed === undefined || at < 0) return listed;
  return { ...listed, records: listed.records.with(at, record) };
}

/** Ref is what a hook keeps between two drawings. */
type Ref<T> = { current: T };

/** useNodes keeps a list of nodes. */
export function useNodes(filter: Filter): Nodes {
  const [listed, setListed] = useState<Listed>();
  const [error, setError] = useState<CallError>();
  const [loading, setLoading] = useState(false);
  const newest = useRef<Listed | undefined>(undefined);
  newest.current = listed;
  const names = useRef<readonly NodeName[]>([]);
  const ended = useRef(new AbortController());
  const looked = (record: NodeRecord): void => setListed((now) => replaced(now, record));

  useEffect(() => {
    const mine = new AbortController();
    ended.current = mine;
    setListed(undefined);
    newest.current = undefined;
    let cancel = () => {};
    const list = async (): Promise<void> => {
      const known = newest.current;
      let waitMs = AGAIN_MS;
      if (!document.hidden && (known === undefined || known.records.length <= SHORT_ROWS))
        try {
          const answer = await firstPage(filter, mine.signal);
          if (mine.signal.aborted) return;
          // Further pages that came meanwhile are not lost.
          setListed((now) => (now !== undefined && now.records.length > answer.records.length && now.next !== "" ? now : answer));
          setError(undefined);
          if (answer.next !== "") waitMs = AGAIN_LONG_MS;
        } catch (failed) {
          if (mine.signal.aborted) return;
          setError(asCallError(failed));
          waitMs = RETRY_MS;
        }
      cancel = after(waitMs, () => void list());
    };
    void list();
    return () => {
      mine.abort();
      cancel();
    };
  }, [filter]);

  useLooks(names, ended, looked);

  const more = (): void => {
    const known = newest.current;
    const { signal } = ended.current;
    if (loading || known === undefined || known.next === "") return;
    setLoading(true);
    nextPage(filter, known, signal)
      .then((answer) => void (signal.aborted || setListed(answer)))
      .catch((failed: unknown) => void (signal.aborted || setError(asCallError(failed))))
      .finally(() => setLoading(false));
  };
  return { listed, error, loading, more, seen: (now) => (names.current = now), looked };
}

/** useLooks asks for one after the other of the nodes that are seen, over one connection: as little as keeps a screen up to date. */
function useLooks(names: Ref<readonly NodeName[]>, ended: Ref<AbortController>, looked: (record: NodeRecord) => void): void {
  useEffect(() => {
    let cancel = () => {};
    let at = 0;
    const look = async (): Promise<void> => {
      const mine = ended.current.signal;
      const name = document.hidden || names.current.length === 0 ? undefined : names.current[at++ % names.current.length];
      if (name !== undefined) {
        const { record } = await call<{ record?: NodeRecord }>(RPC.getNode, { name }, { signal: mine }).catch(() => ({
          record: undefined,
        }));
        if (record !== undefined && !mine.aborted) looked(record);
      }
      cancel = after(LOOK_MS, () => void look());
    };
    let over = false;
    void look().then(() => over && cancel());
    return () => {
      over = true;
      cancel();
    };
  }, []);
}
