// `make down`.
import { PID_FILE, stopDemo } from "./running.ts";

try {
  process.stdout.write((await stopDemo()) ? "all hubs stopped\n" : "no hubs of `make up` are running here\n");
} catch (error) {
  process.stderr.write(`make down failed: ${error instanceof Error ? error.message : String(error)}; try again, or see ${PID_FILE}\n`);
  process.exitCode = 1;
}
