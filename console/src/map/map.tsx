import { useMemo, useState } from "preact/hooks";
import { call, RPC } from "../api.ts";
import type { Traffic } from "../flow/traffic.ts";
import { Badge, Fresh, Name, Problem, Table } from "../parts.tsx";
import { usePoll } from "../poll.ts";
import { ageText, bytesText, shown, wordOf } from "../text.ts";
import type { Feed, Me, Peer } from "../types.ts";
import { Canvas } from "./canvas.tsx";
import { graphOf, toneOf, trustText } from "./graph.ts";

/** How often freshness is asked for, ms. */
const LOOK_MS = 2_000;

/** MapView is the hub among its peers. */
export function MapView({ me, traffic }: { readonly me: Me; readonly traffic: Traffic }) {
  const [chosen, choose] = useState("");
  const ask = async (signal: AbortSignal): Promise<readonly Feed[]> =>
    (await call<{ feeds?: readonly Feed[] }>(RPC.listFeeds, {}, { signal })).feeds ?? [];
  const { data: feeds = [] } = usePoll(ask, LOOK_MS, []);
  const { dots, edges } = useMemo(() => graphOf(me.hubId, traffic), [me.hubId, traffic.peers, traffic.samples]);
  const peer = traffic.peers.find(({ hubId }) => hubId === chosen);
  const theirs = new Map(feeds.filter(({ own }) => own !== true).map((feed) => [feed.head?.hubId ?? "", feed]));
  return (
    <>
      <h2>Map of the federation, as this hub sees it</h2>
      <Problem error={traffic.error?.code === "unreachable" ? undefined : traffic.error} />
      <div class="map">
        <Canvas own={me.hubId} dots={dots} edges={edges} choose={choose} />
        <section class="card" aria-labelledby="hub-title">
          <h2 id="hub-title">{peer === undefined ? "Choose a peer" : <Name text={peer.hubId} />}</h2>
          {peer === undefined ? null : <PeerFacts peer={peer} feed={theirs.get(peer.hubId)} />}
        </section>
      </div>
      <div class="card">
        <Table caption="Peers" heads={["Hub", "Link", "Trust", "Nodes it shares", "Freshness", "Traffic"]}>
          {traffic.peers.map((each) => (
            <PeerRow key={each.hubId} peer={each} feed={theirs.get(each.hubId)} traffic={traffic} choose={choose} />
          ))}
        </Table>
        {traffic.loaded && traffic.peers.length === 0 ? <p class="soft">This hub has no peers yet.</p> : null}
      </div>
    </>
  );
}

interface RowProps {
  readonly peer: Peer;
  readonly feed: Feed | undefined;
  readonly traffic: Traffic;
  readonly choose: (hubId: string) => void;
}

function PeerRow({ peer, feed, traffic, choose }: RowProps) {
  const last = traffic.samples.get(peer.hubId)?.at(-1);
  return (
    <tr>
      <th scope="row">
        <button type="button" onClick={() => choose(peer.hubId)}>
          <Name text={peer.hubId} />
        </button>
      </th>
      <td>
        <Badge tone={toneOf(peer.state)}>{wordOf("LINK_STATE_", peer.state)}</Badge> {ageText(Number(peer.stateAgeMs ?? 0))}
      </td>
      <td>{trustText(peer)}</td>
      <td class="number">{(feed?.nodes ?? 0).toLocaleString()}</td>
      <td>{feed === undefined ? "nothing shared" : <Fresh freshness={feed.freshness} ageMs={feed.ageMs} />}</td>
      <td>{last === undefined ? "–" : `${bytesText(last.bytesIn)}/s in, ${bytesText(last.bytesOut)}/s out`}</td>
    </tr>
  );
}

function PeerFacts({ peer, feed }: { readonly peer: Peer; readonly feed: Feed | undefined }) {
  const skew = Number(peer.clockSkewMs ?? 0);
  const rows: readonly (readonly [string, string | undefined])[] = [
    ["Link", wordOf("LINK_STATE_", peer.state)],
    ["Trust", trustText(peer)],
    ["Ceiling", wordOf("TRUST_LEVEL_", peer.maxTrust, "none")],
    ["Why", peer.decision],
    ["Share it gets", peer.share],
    ["Software", peer.software],
    ["Its clock", Math.abs(skew) < 1_000 ? "as ours" : `${ageText(Math.abs(skew))} ${skew > 0 ? "ahead" : "behind"}`],
    ["Last failure", peer.failure?.message],
    ["Its feed", feed === undefined ? "nothing shared with this hub" : `${(feed.nodes ?? 0).toLocaleString()} nodes`],
    ...(peer.sessions ?? []).map(
      ({ service, state, rttMs = 0, failure }) =>
        [
          `Session ${shown(service)}`,
          `${wordOf("LINK_STATE_", state)}${Number(rttMs) > 0 ? `, round trip ${Number(rttMs).toFixed(1)} ms` : ""}${failure?.message === undefined ? "" : `; ${failure.message}`}`,
        ] as const,
    ),
  ];
  return (
    <dl>
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
