import { useEffect, useRef, useState } from "preact/hooks";
import { after } from "../browser.ts";
import { Problem } from "../parts.tsx";
import type { Me, NodeName } from "../types.ts";
import { Detail } from "./detail.tsx";
import { Filters } from "./filters.tsx";
import { List } from "./list.tsx";
import { type Filter, keyOf, NO_FILTER } from "./pages.ts";
import { useNodes } from "./use-nodes.ts";

/** How long typing rests before the hub is asked, ms. */
const REST_MS = 250;

/** NodesView is the list of nodes, and one of them. */
export function NodesView({ me }: { readonly me: Me }) {
  const [typed, setTyped] = useState<Filter>(NO_FILTER);
  const [filter, setFilter] = useState<Filter>(NO_FILTER);
  const [chosen, choose] = useState<NodeName>();
  const nodes = useNodes(filter);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => after(REST_MS, () => setFilter(typed)), [typed]);
  const { listed, error, loading, more, seen } = nodes;
  return (
    <>
      <section class="listing" aria-labelledby="nodes-title">
        <h2 id="nodes-title">Nodes</h2>
        <Filters filter={typed} hubs={listed?.hubs ?? []} change={setTyped} />
        <p class="soft" role="status">
          {listed === undefined
            ? "Loading …"
            : `${listed.total.toLocaleString()} ${listed.total === 1 ? "node" : "nodes"}${listed.next === "" ? "" : `, the first ${listed.records.length.toLocaleString()} loaded; scroll or search for more`}`}
        </p>
        <Problem error={error} />
        <List
          records={listed?.records ?? []}
          total={listed?.total ?? 0}
          chosen={chosen === undefined ? undefined : keyOf({ name: chosen })}
          choose={(record) => choose(record.name)}
          open={() => heading.current?.focus()}
          more={more}
          loading={loading}
          seen={seen}
        />
      </section>
      <section class="detail card" aria-labelledby="detail-title">
        {chosen === undefined ? (
          <h2 id="detail-title">Choose a node</h2>
        ) : (
          <Detail key={keyOf({ name: chosen })} name={chosen} me={me} heading={heading} looked={nodes.looked} />
        )}
      </section>
    </>
  );
}
