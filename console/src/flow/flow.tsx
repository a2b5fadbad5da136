import { useState } from "preact/hooks";
import { call, RPC } from "../api.ts";
import { Fresh, Name, Problem, Table } from "../parts.tsx";
import { usePoll } from "../poll.ts";
import { bytesText, shown } from "../text.ts";
import type { Feed } from "../types.ts";
import { Plot } from "./plot.tsx";
import type { Sample, Traffic } from "./traffic.ts";

/** How often feeds are asked for, ms. */
const LOOK_MS = 2_000;
const IN = "#2a7de1";
const OUT = "#d9730d";

/** FlowView is what goes over the links, and how far feeds are. */
export function FlowView({ traffic }: { readonly traffic: Traffic }) {
  const ask = async (signal: AbortSignal): Promise<readonly Feed[]> =>
    (await call<{ feeds?: readonly Feed[] }>(RPC.listFeeds, {}, { signal })).feeds ?? [];
  const { data: feeds, error } = usePoll(ask, LOOK_MS, []);
  const [peer, setPeer] = useState("");
  return (
    <>
      <h2>Feeds and links</h2>
      <Problem error={error ?? traffic.error} />
      <label>
        Plots of
        <select value={peer} onChange={({ currentTarget }) => setPeer(currentTarget.value)}>
          <option value="">all peers</option>
          {traffic.peers.map(({ hubId }) => (
            <option key={hubId} value={hubId}>
              {shown(hubId)}
            </option>
          ))}
        </select>
      </label>
      <Plots key={peer} samples={traffic.samples.get(peer) ?? []} />
      <Feeds feeds={feeds ?? []} />
      <Links traffic={traffic} />
    </>
  );
}

function Plots({ samples }: { readonly samples: readonly Sample[] }) {
  const last = samples.at(-1);
  const times = samples.map(({ at }) => at);
  const perSecond = (bytes: number): string => `${bytesText(bytes)}/s`;
  return (
    <div class="plots">
      <Plot
        title="Throughput"
        summary={last === undefined ? "nothing measured yet" : `${perSecond(last.bytesIn)} in, ${perSecond(last.bytesOut)} out`}
        times={times}
        lines={[
          { title: "in", color: IN, values: samples.map(({ bytesIn }) => bytesIn) },
          { title: "out", color: OUT, values: samples.map(({ bytesOut }) => bytesOut) },
        ]}
        text={perSecond}
      />
      <Plot
        title="Round trip, longest of the sessions"
        summary={last?.rttMs === undefined || last.rttMs === null ? "nothing measured yet" : `${last.rttMs.toFixed(1)} ms`}
        times={times}
        lines={[{ title: "round trip", color: IN, values: samples.map(({ rttMs }) => rttMs) }]}
        text={(ms) => `${ms.toFixed(1)} ms`}
      />
    </div>
  );
}

function Feeds({ feeds }: { readonly feeds: readonly Feed[] }) {
  return (
    <div class="card">
      <Table caption="Feeds" heads={["Owner", "Share", "Position", "Nodes", "Freshness", "Dropped", "Peers that are behind"]}>
        {feeds.map(({ head, own, freshness, ageMs, nodes = 0, dropped = "0", cursors = [] }) => (
          <tr key={`${head?.hubId} ${head?.share}`}>
            <th scope="row">
              <Name text={head?.hubId} />
            </th>
            <td>
              <Name text={head?.share} />
            </td>
            <td class="number">{Number(head?.seq ?? 0).toLocaleString()}</td>
            <td class="number">{nodes.toLocaleString()}</td>
            <td>{own === true ? "own" : <Fresh freshness={freshness} ageMs={ageMs} />}</td>
            <td class="number">{Number(dropped).toLocaleString()}</td>
            <td>
              {cursors.length === 0 ? "–" : null}
              {cursors.map(({ hubId, lag = "0", snapshot }) => (
                <div key={hubId} class={lag === "0" ? "good" : "warn"}>
                  <Name text={hubId} />: {lag === "0" ? "has all" : `${Number(lag).toLocaleString()} segments`}
                  {snapshot === true ? ", receives a snapshot" : ""}
                </div>
              ))}
            </td>
          </tr>
        ))}
      </Table>
    </div>
  );
}

function Links({ traffic }: { readonly traffic: Traffic }) {
  const number = (text: string | undefined): string => Number(text ?? 0).toLocaleString();
  return (
    <div class="card">
      <Table
        caption="Counters of links since the start"
        heads={["Peer", "Service", "Mount", "Frames in", "Frames out", "In", "Out", "Sessions", "Waits for credit", "Failures", "Last"]}
      >
        {traffic.links.map((link) => (
          <tr key={`${link.peer} ${link.service} ${link.mount}`}>
            <th scope="row">
              <Name text={link.peer} />
            </th>
            <td>{shown(link.service)}</td>
            <td>{shown(link.mount)}</td>
            <td class="number">{number(link.framesIn)}</td>
            <td class="number">{number(link.framesOut)}</td>
            <td class="number">{bytesText(Number(link.bytesIn ?? 0))}</td>
            <td class="number">{bytesText(Number(link.bytesOut ?? 0))}</td>
            <td class="number">{number(link.ready)}</td>
            <td class={`number ${link.waiting === true ? "warn" : ""}`}>{number(link.backpressure)}</td>
            <td class="number">{number(link.fatal)}</td>
            <td>
              <Name text={link.lastEvent} />
            </td>
          </tr>
        ))}
      </Table>
    </div>
  );
}
