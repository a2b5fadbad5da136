/** What the page takes from the browser that tells time or chance: this file is the one place for it. */

/** after calls back once, and gives what calls it off. */
export function after(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}

/** wallMs is the clock of the machine that shows the page. */
export function wallMs(): number {
  return Date.now();
}

/** monoMs rises evenly, whatever the wall clock does. */
export function monoMs(): number {
  return performance.now();
}

/** freshKey is an idempotency key that nobody else has. */
export function freshKey(): string {
  return `console-${crypto.randomUUID()}`;
}
