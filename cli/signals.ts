/**
 * The signals of a process that runs a hub are handled here, before anything else is loaded: what a signal does by default is to end
 * the process without a word, and with SIGUSR1 to open Node's debugger to everybody on this machine (`--disable-sigusr1` closes the
 * moment before this file runs). Nothing is imported here: an import would be loaded first, which takes longer than Node's own start.
 */

/** Verbs that run until they are stopped and follow their files; for all others a closed terminal is an end, as it should be. */
const STAYING: ReadonlySet<string> = new Set(["hub", "serve", "adapter"]);

/** What the second word after such a verb may be so that it does something short. */
const SHORT: ReadonlySet<string> = new Set(["init"]);

/** STOP_SIGNALS ask a hub to stop. */
export const STOP_SIGNALS = ["SIGINT", "SIGTERM"] as const;

let atTerminal = false;
let hungUp = false;
let missed = false;
let listener: (() => void) | undefined;
const early: NodeJS.Signals[] = [];

/** stays tells whether a command line runs a hub. */
export function stays(argv: readonly string[]): boolean {
  const [verb = "", second = ""] = argv.filter((word) => !word.startsWith("-"));
  return STAYING.has(verb) && !SHORT.has(second);
}

/** remember keeps a signal to stop until `onStop` is called. */
const remember = (signal: NodeJS.Signals): void => void early.push(signal);

/**
 * takeSignals makes SIGHUP wait for `onHangup`, or stop a hub whose terminal is closed, SIGINT and SIGTERM wait for `onStop`, and SIGUSR1
 * and SIGUSR2 do nothing.
 */
export function takeSignals(argv: readonly string[]): void {
  if (!stays(argv)) return;
  process.on("SIGHUP", () => {
    if (atTerminal) {
      // The system and the shell may both send one, and a second SIGTERM would end the hub before it has written everything.
      if (!hungUp) process.kill(process.pid, "SIGTERM");
      hungUp = true;
    } else if (listener === undefined) missed = true;
    else listener();
  });
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) process.on(signal, () => undefined);
  for (const signal of STOP_SIGNALS) process.on(signal, remember);
  // In a terminal SIGHUP says that it was closed; elsewhere (systemd, a container, nohup) an operator sends it. Decided now: both may be
  // gone later. Handlers run only after this.
  const { isatty } = process.getBuiltinModule("node:tty");
  atTerminal = isatty(0) || isatty(1);
}

/** onHangup calls back at each SIGHUP, and once for those that came before. */
export function onHangup(callback: () => void): void {
  listener = callback;
  if (missed) callback();
  missed = false;
}

/** onStop calls back at each SIGINT and SIGTERM, and for those that came before. */
export function onStop(callback: (signal: NodeJS.Signals) => void): void {
  for (const signal of STOP_SIGNALS) process.on(signal, callback).off(signal, remember);
  for (const signal of early.splice(0)) callback(signal);
}

takeSignals(process.argv.slice(2));
