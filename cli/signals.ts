import { isatty } from "node:tty";

/**
 * The signals of a process that runs a hub are handled here, before anything else is loaded: what a signal does by default is to end
 * the process without a word, and with SIGUSR1 to open Node's debugger to everybody on this machine (`--disable-sigusr1` closes the
 * moment before this file runs).
 */

/** Verbs that run until they are stopped and follow their files; for all others a closed terminal is an end, as it should be. */
const STAYING: ReadonlySet<string> = new Set(["hub", "serve"]);

/** What the second word after such a verb may be so that it does something short. */
const SHORT: ReadonlySet<string> = new Set(["init"]);

/** In a terminal SIGHUP says that it was closed; elsewhere (systemd, a container, nohup) an operator sends it. Decided at the start: both may be gone later. */
const atTerminal = isatty(0) || isatty(1);

let hungUp = false;
let missed = false;
let listener: (() => void) | undefined;

/** stays tells whether a command line runs a hub. */
export function stays(argv: readonly string[]): boolean {
  const [verb = "", second = ""] = argv.filter((word) => !word.startsWith("-"));
  return STAYING.has(verb) && !SHORT.has(second);
}

/** takeSignals makes SIGHUP wait for `onHangup`, or stop a hub whose terminal is closed, and SIGUSR1 and SIGUSR2 do nothing. */
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
}

/** onHangup calls back at each SIGHUP, and once for those that came before. */
export function onHangup(callback: () => void): void {
  listener = callback;
  if (missed) callback();
  missed = false;
}

takeSignals(process.argv.slice(2));
