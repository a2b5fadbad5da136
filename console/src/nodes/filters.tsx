import { shown } from "../text.ts";
import type { NodePage } from "../types.ts";
import { type Filter, NO_FILTER } from "./pages.ts";

interface Props {
  readonly filter: Filter;
  readonly hubs: NonNullable<NodePage["hubs"]>;
  readonly change: (filter: Filter) => void;
}

/** Filters are what the list can be limited by: what the hub itself can look for. */
export function Filters({ filter, hubs, change }: Props) {
  const text = (key: "prefix" | "type" | "capability", title: string, most: number) => (
    <label>
      {title}
      <input
        type="search"
        size={14}
        maxLength={most}
        value={filter[key]}
        onInput={({ currentTarget }) => change({ ...filter, [key]: currentTarget.value.trim() })}
      />
    </label>
  );
  // A hub that is chosen stays in the list that it limits.
  const names = [...new Set([...hubs.map(({ hubId }) => hubId), ...(filter.hub === "" ? [] : [filter.hub])])].sort();
  return (
    <search class="tools">
      {text("prefix", "Id begins with", 63)}
      <label>
        Hub
        <select value={filter.hub} onChange={({ currentTarget }) => change({ ...filter, hub: currentTarget.value })}>
          <option value="">all</option>
          {names.map((name) => (
            <option key={name} value={name}>
              {shown(name)}
            </option>
          ))}
        </select>
      </label>
      {text("type", "Type is", 255)}
      {text("capability", "Has capability", 127)}
      <label>
        Kind
        <select value={filter.kind} onChange={({ currentTarget }) => change({ ...filter, kind: currentTarget.value })}>
          <option value="">all</option>
          <option value="NODE_KIND_DEVICE">devices</option>
          <option value="NODE_KIND_AGENT">agents</option>
        </select>
      </label>
      <label class="line">
        <input
          type="checkbox"
          checked={filter.onlineOnly}
          onChange={({ currentTarget }) => change({ ...filter, onlineOnly: currentTarget.checked })}
        />
        online only
      </label>
      {filter === NO_FILTER ? null : (
        <button type="button" onClick={() => change(NO_FILTER)}>
          Clear
        </button>
      )}
    </search>
  );
}
