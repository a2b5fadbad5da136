/** Span is the rows from `from` up to, and without, `to`. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** Rows that are drawn beyond what is seen. */
const MARGIN = 6;

/** spanAt tells which of `count` rows are drawn when so much is scrolled away. */
export function spanAt(scrollTop: number, height: number, rowHeight: number, count: number): Span {
  const from = Math.max(0, Math.min(count, Math.floor(scrollTop / rowHeight) - MARGIN));
  const to = Math.min(count, Math.ceil((scrollTop + height) / rowHeight) + MARGIN);
  return { from, to: Math.max(from, to) };
}

/** moved tells which row is chosen after a key; undefined for a key that moves nothing. */
export function moved(key: string, at: number, count: number, perScreen: number): number | undefined {
  const steps: Readonly<Record<string, number>> = {
    ArrowDown: 1,
    ArrowUp: -1,
    PageDown: perScreen,
    PageUp: -perScreen,
    Home: -Infinity,
    End: Infinity,
  };
  const step = Object.hasOwn(steps, key) ? steps[key] : undefined;
  return step === undefined || count === 0 ? undefined : Math.max(0, Math.min(count - 1, at + step));
}
