import { useEffect, useState } from "preact/hooks";
import { after } from "../browser.ts";
import { Badge, Name } from "../parts.tsx";
import { shown, timeText, wordOf } from "../text.ts";
import type { HubEvent } from "../types.ts";
import { type EventFilter, type Followed, follow, KEPT, NOTHING } from "./follow.ts";

const KINDS = [
  "LINK_STATE",
  "TRUST_DECIDED",
  "ACCESS_REFUSED",
  "SESSION",
  "FEED",
  "NODE",
  "COMMAND",
  "EXECUTOR",
  "STORE",
  "MODULE",
  "CREDENTIAL",
  "LIMIT",
  "CLOCK",
  "EVENTS_DROPPED",
  "CONFIGURATION",
  "COORDINATION",
];
const SEVERITIES = ["DEBUG", "INFO", "WARNING", "ERROR"];
const TONES = { debug: "plain", info: "plain", warning: "warn", error: "bad" } as const;
const REST_MS = 250;
/** Rows that are drawn; the rest is kept, and drawn when it is asked for. */
const ROWS = 200;

/** EventsView is what happened at the hub, as it happens. */
export function EventsView() {
  const [typed, setTyped] = useState<EventFilter>({ kind: "", severity: "SEVERITY_INFO", peer: "", node: "" });
  const [filter, setFilter] = useState(typed);
  const [followed, set] = useState<Followed>(NOTHING);
  const [rows, setRows] = useState(ROWS);
  useEffect(() => after(REST_MS, () => setFilter(typed)), [typed]);
  useEffect(() => {
    let ended = new AbortController();
    const begin = (): void => {
      ended.abort();
      ended = new AbortController();
      // A browser has six connections to a hub for all its pages: one that nobody sees holds none.
      if (document.hidden) return;
      set(NOTHING);
      const { signal } = ended;
      void follow(filter, signal, (change) => void (signal.aborted || set(change)));
    };
    begin();
    document.addEventListener("visibilitychange", begin);
    return () => {
      ended.abort();
      document.removeEventListener("visibilitychange", begin);
    };
  }, [filter]);
  return (
    <>
      <h2>Events</h2>
      <Filters filter={typed} change={setTyped} />
      <p class="soft" role="status">
        {followed.live ? "Live." : followed.problem === "" ? "Loading …" : `Not live, trying again: ${shown(followed.problem)}`}
        {followed.missed > 0 ? ` ${followed.missed} events were lost before they could be shown.` : ""}
      </p>
      <ol class="log" aria-label="Events, newest first">
        {followed.events.slice(0, rows).map((event) => (
          <Line key={event.seq} event={event} />
        ))}
      </ol>
      {followed.events.length > rows ? (
        <button type="button" onClick={() => setRows(KEPT)}>
          Show {followed.events.length - rows} more
        </button>
      ) : null}
    </>
  );
}

function Line({ event }: { readonly event: HubEvent }) {
  const severity = wordOf("SEVERITY_", event.severity, "info");
  return (
    <li>
      <time dateTime={new Date(Number(event.wallMs ?? 0)).toISOString()}>{timeText(Number(event.wallMs ?? 0))}</time>
      <span>
        <Badge tone={severity in TONES ? TONES[severity as keyof typeof TONES] : "plain"}>{severity}</Badge>
      </span>
      <span class="soft">{wordOf("EVENT_KIND_", event.kind)}</span>
      <span>
        <Name text={event.text} />{" "}
        {event.node === undefined ? null : (
          <span class="soft">
            node <Name text={event.node} />{" "}
          </span>
        )}
        {event.peer === undefined ? null : (
          <span class="soft">
            peer <Name text={event.peer} />
          </span>
        )}
      </span>
    </li>
  );
}

function Filters({ filter, change }: { readonly filter: EventFilter; readonly change: (filter: EventFilter) => void }) {
  const choice = (key: "kind" | "severity", title: string, prefix: string, names: readonly string[], all: string) => (
    <label>
      {title}
      <select value={filter[key]} onChange={({ currentTarget }) => change({ ...filter, [key]: currentTarget.value })}>
        {all === "" ? null : <option value="">{all}</option>}
        {names.map((name) => (
          <option key={name} value={`${prefix}${name}`}>
            {wordOf("", name)}
          </option>
        ))}
      </select>
    </label>
  );
  const text = (key: "peer" | "node", title: string, most: number) => (
    <label>
      {title}
      <input
        type="search"
        maxLength={most}
        value={filter[key]}
        onInput={({ currentTarget }) => change({ ...filter, [key]: currentTarget.value.trim() })}
      />
    </label>
  );
  return (
    <search class="tools">
      {choice("kind", "Kind", "EVENT_KIND_", KINDS, "all")}
      {choice("severity", "At least", "SEVERITY_", SEVERITIES, "")}
      {text("peer", "Peer is", 63)}
      {text("node", "Node is (hub/node)", 127)}
    </search>
  );
}
