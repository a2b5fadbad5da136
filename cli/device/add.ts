import { existsSync } from "node:fs";
import { join } from "node:path";
import { EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { nearPath, shellWord, typedPath } from "../reach/near-path.ts";
import { printJson } from "../verb.ts";
import { type PlaceFlags, placeOf } from "./place.ts";
import { nodeIdOf } from "./simulate.ts";
import { isLanguage, LANGUAGES, type Language, starterOf } from "./starter.ts";

/** AddFlags are the options of `node add`. */
export interface AddFlags extends PlaceFlags {
  readonly language?: string;
}

/** The SDK of a checkout, seen from here; the installed command has none beside it. */
const CHECKOUT = join(import.meta.dirname, "../..");

function languageOf(text = "typescript"): Language {
  if (isLanguage(text)) return text;
  throw usage(`there is no program to begin with in "${text}"`, `Languages are ${Object.keys(LANGUAGES).join(", ")}.`);
}

/** sdkOf is what a program in TypeScript imports: the SDK of this checkout, or the package. */
function sdkOf({ cwd }: Io): string {
  const file = join(CHECKOUT, "clients/typescript/index.ts");
  if (!existsSync(file)) return "foedus-client";
  const near = nearPath(cwd, file);
  return /^\.{0,2}\//.test(near) ? near : `./${near}`;
}

/** runnersOf are the commands that install what a program needs, and the one that runs it. */
function runnersOf(io: Io, language: Language, file: string): string[] {
  const here = existsSync(join(CHECKOUT, "Makefile"));
  const folder = here ? `${nearPath(io.cwd, join(CHECKOUT, "dist/packages"))}/` : "";
  if (language === "python")
    return [...(here ? [`make -C ${typedPath(io.cwd, CHECKOUT)} packages`] : []), `pip install ${folder}foedus-*.whl`, `python3 ${file}`];
  if (!here) return ["npm install foedus-client-*.tgz", `node ${file}`];
  const node = join(CHECKOUT, "node_modules/.bin/node");
  return [`${existsSync(node) ? typedPath(io.cwd, node) : "node"} ${file}`];
}

/** stepsOf says what to do next. On a terminal the program was shown and not saved yet. */
function stepsOf(io: Io, language: Language, nodeId: string, hubId: string): string {
  const file = shellWord(`${nodeId}.${LANGUAGES[language]}`);
  const again = `foedus node add ${shellWord(nodeId)}${language === "python" ? " --language python" : ""} >${file}`;
  const steps = [...(io.columns === undefined ? [] : [again]), ...runnersOf(io, language, file), `foedus send ${hubId}/${nodeId} state ON`];
  return steps.map((step) => `  ${step}\n`).join("");
}

/**
 * run gives a new node what it needs: a certificate, and a program to begin with. The program goes to stdout, so that it can be redirected
 * into a file, and what to do next to stderr. The node itself comes into being when its program registers it.
 */
export async function run(io: Io, [text = ""]: readonly string[], flags: AddFlags): Promise<ExitCode | undefined> {
  const language = languageOf(flags.language);
  const nodeId = nodeIdOf(text);
  const place = await placeOf(io, nodeId, flags);
  const near = (file: string): string => nearPath(io.cwd, file);
  const [ca, cert, key] = [near(place.ca), near(place.cert), near(place.key)];
  const program = starterOf(language, { nodeId, address: place.address, ca, cert, key, sdk: sdkOf(io) });
  if (flags.json) {
    const files = { ca_file: place.ca, certificate_file: place.cert, key_file: place.key };
    await printJson(io, { hub_id: place.hubId, node_id: nodeId, ...files, language, program });
    return EXIT.ok;
  }
  const made =
    place.issued === undefined ? "is used" : place.issued.action === "kept" ? "is there already, and kept" : `was ${place.issued.action}`;
  io.note(
    `The certificate of ${place.hubId}/${nodeId} ${made}: ${cert}, with its key. The program on stdout registers the node and answers its ` +
      `commands. Next, in this folder${io.columns === undefined ? "" : ", save it"}, run it and switch it:\n${stepsOf(io, language, nodeId, place.hubId)}`,
  );
  await io.out(program);
  return EXIT.ok;
}
