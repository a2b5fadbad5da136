import { useEffect, useRef } from "preact/hooks";
import UPlot from "uplot";

/** Line is one line of a plot. */
export interface Line {
  readonly title: string;
  readonly color: string;
  readonly values: readonly (number | null)[];
}

interface Props {
  readonly title: string;
  /** What a screen reader says instead of the picture. */
  readonly summary: string;
  readonly times: readonly number[];
  readonly lines: readonly Line[];
  readonly text: (value: number) => string;
}

/** Plot draws lines over time. */
export function Plot({ title, summary, times, lines, text }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot>(undefined);
  // The lines are always the same ones, and only their values change.
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const { color } = getComputedStyle(element);
    const axis = { stroke: color, grid: { stroke: `color-mix(in srgb, ${color} 20%, transparent)` }, ticks: { show: false } };
    const made = new UPlot(
      {
        width: element.clientWidth,
        height: element.clientHeight,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [axis, { ...axis, size: 80, values: (_plot, values) => values.map(text) }],
        series: [{}, ...lines.map((line) => ({ stroke: line.color, width: 2, spanGaps: false, points: { show: false } }))],
      },
      [[], ...lines.map(() => [])],
      element,
    );
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: element.clientHeight }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData([[...times], ...lines.map(({ values }) => [...values])]), [times, lines]);
  return (
    <figure class="card">
      <figcaption>
        {title}
        {lines.map((line) => (
          <span key={line.title} class="legend">
            {" "}
            <svg width="14" height="10" aria-hidden="true">
              <rect width="14" height="4" y="3" fill={line.color} />
            </svg>{" "}
            {line.title}
          </span>
        ))}
      </figcaption>
      <div class="plot" ref={box} role="img" aria-label={`${title}: ${summary}`} />
    </figure>
  );
}
