#!/usr/bin/env -S node --disable-sigusr1
import "./signals.ts";

// All else is loaded after the signals are handled: an import statement would load it before.
const { main } = await import("./command.ts");
process.exitCode = await main(process.argv.slice(2));
