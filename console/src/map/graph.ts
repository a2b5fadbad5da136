import type { Traffic } from "../flow/traffic.ts";
import { shortened, shown, wordOf } from "../text.ts";
import type { Peer } from "../types.ts";

/** Tone is how a link looks. */
export type Tone = "good" | "warn" | "bad" | "plain";

/** toneOf is the tone of a state of a link. */
export function toneOf(state: string | undefined): Tone {
  const word = wordOf("LINK_STATE_", state);
  if (word === "operational") return "good";
  if (word === "terminated") return "plain";
  return word === "recovering" ? "bad" : "warn";
}

/** trustText says how far two hubs trust each other. */
export function trustText({ level, levelThere }: Peer): string {
  return `${wordOf("TRUST_LEVEL_", level, "none")} here, ${wordOf("TRUST_LEVEL_", levelThere, "none")} there`;
}

/** Dot is a hub on the map. */
export interface Dot {
  readonly id: string;
  readonly label: string;
  readonly tone: Tone;
  readonly own: boolean;
}

/** Edge is a link on the map. */
export interface Edge {
  readonly id: string;
  readonly peer: string;
  readonly tone: Tone;
  readonly width: number;
  readonly label: string;
}

/** Longest name on the map. */
const LABEL = 24;
/** Thickest link, px; each tenfold traffic is as much thicker. */
const WIDTH_MAX = 10;

/** widthOf is how thick a link is drawn for so many bytes in a second. */
export function widthOf(bytesPerSecond: number): number {
  return Math.min(WIDTH_MAX, 1.5 + 1.5 * Math.log10(1 + bytesPerSecond / 100));
}

/** graphOf is the map: this hub, its peers, and the links between. */
export function graphOf(
  hubId: string,
  { peers, samples }: Pick<Traffic, "peers" | "samples">,
): { readonly dots: readonly Dot[]; readonly edges: readonly Edge[] } {
  const label = (text: string): string => shortened(shown(text), LABEL);
  const dots = peers.map((peer): Dot => ({ id: `hub:${peer.hubId}`, label: label(peer.hubId), tone: toneOf(peer.state), own: false }));
  const edges = peers.map((peer): Edge => {
    const last = samples.get(peer.hubId)?.at(-1);
    const width = widthOf((last?.bytesIn ?? 0) + (last?.bytesOut ?? 0));
    return {
      id: `link:${peer.hubId}`,
      peer: peer.hubId,
      tone: toneOf(peer.state),
      width,
      label: wordOf("TRUST_LEVEL_", peer.level, "none"),
    };
  });
  return {
    dots: [{ id: `hub:${hubId}`, label: label(hubId), tone: "good", own: true }, ...dots.filter(({ id }) => id !== `hub:${hubId}`)],
    edges,
  };
}
