/**
 * The signals of a process that runs a hub are handled here, before anything else is loaded: what a signal does by default is to end
 * the process without a word, and with SIGUSR1 to open Node's debugger to everybody on this machine (`--disable-sigusr1` closes the
 * moment before this file runs).
 */

/** Verbs that run until they are stopped and follow their files; for all others a closed terminal is an end, as it should be. */
const STAYING: ReadonlySet<string> = new Set(["hub", "serve"]);

/** What the second word after such a verb may be so that it does something short. */
const SHORT: ReadonlySet<string> = new Set(["init"]);

let missed = false;
let listener: (() => void) | undefined;

/** stays tells whether a command line runs a hub. */
export function stays(argv: readonly string[]): boolean {
  const [verb = "", second = ""] = argv.filter((word) => !word.startsWith("-"));
  return STAYING.has(verb) && !SHORT.has(second);
}

/** takeSignals makes SIGHUP wait for `onHangup`, and SIGUSR1 and SIGUSR2 do nothing. */
export function takeSignals(argv: readonly string[]): void {
  if (!stays(argv)) return;
  process.on("SIGHUP", () => {
    if (listener === undefined) missed = true;
    else listener();
  });
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) process.on(signal, () => undefined);
}

/** onHangup calls back at each SIGHUP, and once for those that came before. */
export function onHangup(callback: () => void): void {
  listener = callback;
  if (missed) callback();
  missed = false;
}

takeSignals(process.argv.slice(2));
