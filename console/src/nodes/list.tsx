import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Badge, Fresh, Name } from "../parts.tsx";
import { shortened, shown, valueText } from "../text.ts";
import type { NodeName, NodeRecord } from "../types.ts";
import { keyOf } from "./pages.ts";
import { moved, type Span, spanAt } from "./window.ts";

/** Height of a row, as the style has it. */
const ROW_PX = 46;
/** Rows from the end at which the next page is loaded. */
const NEAR = 30;
/** Values of a node that its row shows. */
const VALUES = 3;

interface Props {
  readonly records: readonly NodeRecord[];
  readonly total: number;
  readonly chosen: string | undefined;
  readonly choose: (record: NodeRecord) => void;
  readonly open: () => void;
  readonly more: () => void;
  readonly loading: boolean;
  readonly seen: (names: readonly NodeName[]) => void;
}

/** List shows the nodes that are on the screen, and draws no others. */
export function List({ records, total, chosen, choose, open, more, loading, seen }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [span, setSpan] = useState<Span>({ from: 0, to: 0 });
  const look = (): void => {
    const { scrollTop = 0, clientHeight = 0 } = box.current ?? {};
    const now = spanAt(scrollTop, clientHeight, ROW_PX, records.length);
    setSpan((old) => (old.from === now.from && old.to === now.to ? old : now));
  };
  useLayoutEffect(look, [records.length]);
  useEffect(() => {
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  });
  useEffect(() => {
    seen(records.slice(span.from, span.to).map(({ name }) => name));
    // Nothing follows on nothing: a list that is only being asked for has no next page.
    if (records.length > 0 && span.to > records.length - NEAR) more();
  }, [span, records.length]);
  const at = records.findIndex((record) => keyOf(record) === chosen);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && at >= 0) return open();
    const height = box.current?.clientHeight ?? 0;
    const to = moved(event.key, at, records.length, Math.max(1, Math.floor(height / ROW_PX) - 1));
    const record = to === undefined ? undefined : records[to];
    if (record === undefined || to === undefined) return;
    event.preventDefault();
    choose(record);
    const element = box.current;
    if (element !== null) element.scrollTop = Math.min(to * ROW_PX, Math.max(element.scrollTop, (to + 1) * ROW_PX - element.clientHeight));
  };
  return (
    <div
      class="rows"
      ref={box}
      role="listbox"
      aria-labelledby="nodes-title"
      aria-busy={loading}
      tabIndex={0}
      aria-activedescendant={at >= span.from && at < span.to ? `row-${at}` : undefined}
      onScroll={look}
      onKeyDown={onKeyDown}
    >
      <div role="presentation" class="all" style={{ height: `${records.length * ROW_PX}px` }} />
      {records.slice(span.from, span.to).map((record, index) => (
        <Row
          key={keyOf(record)}
          record={record}
          at={span.from + index}
          total={total}
          chosen={span.from + index === at}
          choose={() => choose(record)}
        />
      ))}
    </div>
  );
}

interface RowProps {
  readonly record: NodeRecord;
  readonly at: number;
  readonly total: number;
  readonly chosen: boolean;
  readonly choose: () => void;
}

function Row({ record, at, total, chosen, choose }: RowProps) {
  const { name, node, state = [], online, freshness, ageMs } = record;
  const values = state.slice(0, VALUES).map(({ key, value }) => `${shown(key)} ${shortened(valueText(value), 24)}`);
  return (
    // Keys are those of the list.
    // biome-ignore lint/a11y/useKeyWithClickEvents: see above
    // biome-ignore lint/a11y/useFocusableInteractive: the list has the focus
    <div
      id={`row-${at}`}
      class="row"
      role="option"
      aria-selected={chosen}
      aria-posinset={at + 1}
      aria-setsize={total}
      style={{ top: `${at * ROW_PX}px` }}
      onClick={choose}
    >
      <span>
        <Name text={node?.name === undefined || node.name === "" ? name.nodeId : node.name} />
      </span>
      <span>
        <Badge tone={online === true ? "good" : "plain"}>{online === true ? "online" : "offline"}</Badge>{" "}
        <Fresh freshness={freshness} ageMs={ageMs} />
      </span>
      <span class="second">
        <Name text={`${name.hubId}/${name.nodeId}`} /> <Name text={node?.type} />
      </span>
      <span class="second">{values.join(" · ")}</span>
    </div>
  );
}
