import cytoscape from "cytoscape";
import { useEffect, useRef } from "preact/hooks";
import type { Dot, Edge, Tone } from "./graph.ts";

interface Props {
  readonly own: string;
  readonly dots: readonly Dot[];
  readonly edges: readonly Edge[];
  readonly choose: (hubId: string) => void;
}

const TONES: readonly Tone[] = ["good", "warn", "bad", "plain"];

/** colored resolves a colour of the style sheet, which cytoscape cannot: it draws on a canvas. */
function colored(element: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function styleFor(element: HTMLElement): cytoscape.StylesheetJson {
  const color = (name: string): string => colored(element, name);
  const colors = Object.fromEntries(TONES.map((tone) => [tone, color(tone === "plain" ? "soft" : tone)]));
  return [
    {
      selector: "node",
      style: {
        label: "data(label)",
        color: color("ink"),
        "font-size": 13,
        "text-valign": "bottom",
        "text-margin-y": 4,
        "text-background-color": color("card"),
        "text-background-opacity": 1,
        width: 26,
        height: 26,
      },
    },
    { selector: "node[?own]", style: { width: 40, height: 40, "font-weight": "bold" } },
    {
      selector: "edge",
      style: {
        width: "data(width)",
        label: "data(label)",
        color: color("soft"),
        "font-size": 10,
        "text-background-color": color("card"),
        "text-background-opacity": 1,
        "curve-style": "straight",
      },
    },
    { selector: "edge[tone = 'bad'], edge[tone = 'warn']", style: { "line-style": "dashed" } },
    { selector: "edge[tone = 'plain']", style: { "line-style": "dotted" } },
    ...TONES.map((tone) => ({ selector: `node[tone = '${tone}']`, style: { "background-color": colors[tone] ?? "" } })),
    ...TONES.map((tone) => ({ selector: `edge[tone = '${tone}']`, style: { "line-color": colors[tone] ?? "" } })),
  ];
}

/** Canvas draws the map. The table beside it says the same to those who do not see it. */
export function Canvas({ own, dots, edges, choose }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const graph = useRef<cytoscape.Core>(undefined);
  const chosen = useRef(choose);
  chosen.current = choose;
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = cytoscape({ container: element, style: styleFor(element), minZoom: 0.2, maxZoom: 1.5 });
    made.on("tap", "node", ({ target }) => chosen.current(String(target.data("hub"))));
    graph.current = made;
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const recolor = (): void => void made.style(styleFor(element));
    scheme.addEventListener("change", recolor);
    return () => {
      scheme.removeEventListener("change", recolor);
      made.destroy();
    };
  }, []);
  useEffect(() => {
    const made = graph.current;
    if (made === undefined) return;
    const known = new Set([...dots, ...edges].map(({ id }) => id));
    made
      .elements()
      .filter((element) => !known.has(element.id()))
      .remove();
    let fresh = false;
    for (const { id, ...data } of dots) {
      const old = made.getElementById(id);
      fresh ||= old.empty();
      if (old.empty()) made.add({ group: "nodes", data: { id, hub: id.slice("hub:".length), ...data } });
      else old.data(data);
    }
    for (const { id, peer, ...data } of edges) {
      const old = made.getElementById(id);
      if (old.empty()) made.add({ group: "edges", data: { id, source: `hub:${own}`, target: `hub:${peer}`, ...data } });
      else old.data(data);
    }
    if (fresh)
      made
        .layout({
          name: "concentric",
          concentric: (node: { data(name: string): unknown }) => (node.data("own") ? 2 : 1),
          levelWidth: () => 1,
          minNodeSpacing: 60,
        })
        .run();
  }, [dots, edges, own]);
  return <div class="graph" ref={box} role="img" aria-label={`Map of this hub and ${edges.length} peers; the table below says the same`} />;
}
