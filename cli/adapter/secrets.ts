import { open, readFile, stat } from "node:fs/promises";
import { systemEntropy } from "#channel/entropy.ts";
import { TOKEN_MIN_CHARS } from "../../adapters/shared/http/index.ts";
import { usage } from "../exit.ts";
import type { Io } from "../io.ts";

/** readSecret reads a file. Throws CliError (usage). */
export async function readSecret(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw usage(`${what} ${file} cannot be read`, "Check the path and its permissions.", error);
  }
}

/** privateIn reads a secret from its file, which nobody else may read. Throws CliError (usage). */
export async function privateIn(file: string, what: string): Promise<string> {
  const { mode } = await stat(file).catch((error: unknown) => {
    throw usage(`${what} ${file} cannot be read`, "Check the path and its permissions.", error);
  });
  if ((mode & 0o077) !== 0)
    throw usage(`others may read ${what} ${file}`, `Run \`chmod 600 ${file}\`, and make a new secret if anybody read this one.`);
  return readSecret(file, what);
}

/** tokenIn reads a token from its file, which nobody else may read. Throws CliError (usage). */
export async function tokenIn(file: string): Promise<string> {
  const token = (await privateIn(file, "the token file")).trim();
  if (!/^[\x21-\x7e]+$/.test(token)) throw usage(`the token in ${file} is not one word`, "Write letters and digits only.");
  return token;
}

/** tokenOf is `tokenIn` of a token that callers of this program send; a missing file is made with a new one. Throws CliError (usage). */
export async function tokenOf(io: Io, file: string): Promise<string> {
  const known = await stat(file).catch(() => undefined);
  if (known === undefined) {
    const made = Buffer.from(systemEntropy.bytes(32)).toString("base64url");
    try {
      const handle = await open(file, "wx", 0o600);
      await handle.writeFile(`${made}\n`);
      await handle.close();
    } catch (error) {
      throw usage(`the token file ${file} cannot be made`, "Check the path and its permissions.", error);
    }
    io.note(`a new token is in ${file}; clients send it as "Authorization: Bearer <token>"\n`);
    return made;
  }
  const token = await tokenIn(file);
  if (token.length < TOKEN_MIN_CHARS)
    throw usage(
      `the token in ${file} is too short`,
      `Write at least ${TOKEN_MIN_CHARS} letters and digits, or delete the file to have one made.`,
    );
  return token;
}
