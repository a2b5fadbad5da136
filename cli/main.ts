#!/usr/bin/env -S node --disable-sigusr1
import { stays } from "./signals.ts";
import "./builtins.ts";

// All else is loaded after the signals are handled: an import statement would load it before.
const { main } = await import("./command.ts");
const argv = process.argv.slice(2);
process.exitCode = await main(argv);
// A hub that has stopped is over: a timer that somebody forgot must not hold it.
if (stays(argv)) process.exit();
