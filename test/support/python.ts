import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./federation.ts";
import { run } from "./grpcurl.ts";
import type { Tool } from "./tools.ts";

/** InstalledClient is the Python client as a program gets it: from its wheel. */
export interface InstalledClient {
  readonly wheel: string;
  /** Where it is installed, alone. */
  readonly site: string;
  /** Environment in which Python finds it, and besides what the environment of `make tools` has. */
  readonly env: NodeJS.ProcessEnv;
}

/** installClient makes the wheel and installs it into an empty folder in `folder`, without a network and without what it depends on. */
export async function installClient(python: Tool, folder: string): Promise<InstalledClient> {
  const site = join(folder, "site");
  mkdirSync(site, { recursive: true });
  const made = await run(join(ROOT, "tools/packages/python.sh"), [join(folder, "dist")]);
  if (made.code !== 0) throw new Error(`no wheel was made: ${made.stderr}`);
  const wheel = made.stdout.trim();
  const install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", site, wheel];
  const installed = await run(python.path, install);
  if (installed.code !== 0) throw new Error(`the wheel was not installed: ${installed.stderr}`);
  return { wheel, site, env: { ...process.env, PYTHONPATH: site, PYTHONDONTWRITEBYTECODE: "1", GRPC_VERBOSITY: "NONE" } };
}
