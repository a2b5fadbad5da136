import type { Ref } from "preact";
import { useEffect } from "preact/hooks";
import { call, RPC } from "../api.ts";
import { Badge, Fresh, Name, Problem, Table } from "../parts.tsx";
import { usePoll } from "../poll.ts";
import { shortened, shown, valueText, wordOf } from "../text.ts";
import type { Capability, Me, NodeName, NodeRecord } from "../types.ts";
import { rangeText } from "../value.ts";
import { Command } from "./command.tsx";

/** How often the node that is looked at is asked for, ms. */
const LOOK_MS = 1_000;

interface Props {
  readonly name: NodeName;
  readonly me: Me;
  readonly heading: Ref<HTMLHeadingElement>;
  /** looked is told what was found, which is newer than what the list has. */
  readonly looked: (record: NodeRecord) => void;
}

/** takesText says what a capability takes. */
function takesText(capability: Capability): string {
  if (capability.invocable !== true) return "read only";
  const { allowed = [] } = capability;
  return allowed.length > 0 ? shown(shortened(allowed.join(", "))) : rangeText(capability) || "any";
}

/** Detail is one node: what it is, what it says, and what it can be told. */
export function Detail({ name, me, heading, looked }: Props) {
  const ask = async (signal: AbortSignal): Promise<NodeRecord | undefined> =>
    (await call<{ record?: NodeRecord }>(RPC.getNode, { name }, { signal })).record;
  const { data: record, error, again } = usePoll(ask, LOOK_MS, [name.hubId, name.nodeId]);
  useEffect(() => void (record && looked(record)), [record]);
  const { node, state = [] } = record ?? {};
  const capabilities = node?.capabilities ?? [];
  const invocable = capabilities.filter((capability) => capability.invocable === true);
  return (
    <>
      <h2 id="detail-title" ref={heading} tabIndex={-1}>
        <Name text={node?.name === undefined || node.name === "" ? name.nodeId : node.name} />
      </h2>
      <Problem error={error?.code === "unreachable" ? undefined : error} />
      {record === undefined ? null : <Facts record={record} />}
      {capabilities.length + state.length === 0 ? null : <State capabilities={capabilities} record={record} />}
      {invocable.length === 0 ? null : <h3>Commands</h3>}
      {invocable.length > 0 && !me.admin ? <p class="soft">A viewer looks only; an admin can send commands.</p> : null}
      {me.admin
        ? invocable.map((capability) => (
            <Command
              key={capability.name}
              target={name}
              capability={capability}
              now={state.find(({ key }) => key === capability.name)?.value}
              done={again}
            />
          ))
        : null}
    </>
  );
}

function Facts({ record }: { readonly record: NodeRecord }) {
  const { name, node, online, freshness, ageMs } = record;
  const rows: readonly (readonly [string, string | undefined])[] = [
    ["Hub", name.hubId],
    ["Id", name.nodeId],
    ["Kind", wordOf("NODE_KIND_", node?.kind, "device")],
    ["Type", node?.type],
    ["Vendor", node?.vendor],
    ["Description", node?.description],
    ...Object.entries(node?.labels ?? {}).map(([key, value]) => [`Label ${shown(key)}`, value] as const),
  ];
  return (
    <dl>
      <dt>State</dt>
      <dd>
        <Badge tone={online === true ? "good" : "plain"}>{online === true ? "online" : "offline"}</Badge>{" "}
        <Fresh freshness={freshness} ageMs={ageMs} />
      </dd>
      {rows
        .filter(([, text]) => text !== undefined && text !== "")
        .map(([title, text]) => [
          <dt key={`t ${title}`}>{title}</dt>,
          <dd key={`d ${title}`}>
            <Name text={text} />
          </dd>,
        ])}
    </dl>
  );
}

/** State is each value with what is said about it; keys that no capability describes come last. */
function State({ capabilities, record }: { readonly capabilities: readonly Capability[]; readonly record: NodeRecord | undefined }) {
  const { state = [], stateOmitted = 0 } = record ?? {};
  const values = new Map(state.map(({ key, value }) => [key, value]));
  const known = new Set(capabilities.map(({ name }) => name));
  const rows = [...capabilities, ...state.filter(({ key }) => !known.has(key)).map(({ key }): Capability => ({ name: key }))];
  return (
    <>
      <h3>Capabilities and state</h3>
      <Table caption="Values as last reported" heads={["Name", "Value", "Type", "Takes"]}>
        {rows.map((capability) => (
          <tr key={capability.name} data-key={capability.name}>
            <th scope="row">
              <Name text={capability.name} />
            </th>
            <td>
              <bdi class="name">{valueText(values.get(capability.name), capability.unit)}</bdi>
            </td>
            <td>{wordOf("VALUE_TYPE_", capability.type, "none")}</td>
            <td>{takesText(capability)}</td>
          </tr>
        ))}
      </Table>
      {stateOmitted > 0 ? <p class="soft">{stateOmitted} more values are too long to be shown here.</p> : null}
    </>
  );
}
