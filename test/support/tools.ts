// Programs of other people that tests use: helm, grpcurl, promtool and the like. `make tools` gets them; a test whose program is not
// there is skipped, with one line that says which.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

const BIN = join(import.meta.dirname, "../../.tools/bin");
const told = new Set<string>();

/** Tool is a program that tests use. */
export interface Tool {
  /** Where it is; the bare name when it is missing. */
  readonly path: string;
  /** Why tests that need it are skipped; only there when it is missing. For `test.skipIf(helm.reason !== undefined)`. */
  readonly reason?: string;
}

/** tool looks for a program in `.tools/bin` and then on the path. That one is missing is printed, once per test file. */
export function tool(name: string): Tool {
  const places = [BIN, ...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin"];
  for (const path of places.map((folder) => join(folder, name))) {
    try {
      accessSync(path, constants.X_OK);
      return { path };
    } catch {
      // the next place
    }
  }
  const reason = `${name} is not on this machine; make tools gets it`;
  if (!told.has(name)) process.stderr.write(`skipped: ${reason}\n`);
  told.add(name);
  return { path: name, reason };
}

/** anyMissing tells whether a test that needs several programs is to be skipped. */
export function anyMissing(...tools: readonly Tool[]): boolean {
  return tools.some(({ reason }) => reason !== undefined);
}
