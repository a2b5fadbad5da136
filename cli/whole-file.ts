import { mkdir, open, realpath, rename, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * writeWhole replaces a file in one step: written beside it, flushed, renamed, so that a reader sees the old or the new content.
 * A symbolic link stays one, an existing file keeps its mode, and the folder is made if it is missing.
 */
export async function writeWhole(path: string, text: string, mode = 0o644): Promise<void> {
  const file = await realpath(path).catch(() => path);
  await mkdir(dirname(file), { recursive: true });
  const present = await stat(file).catch(() => undefined);
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", mode);
  try {
    try {
      await handle.chmod(present === undefined ? mode : present.mode & 0o777);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}
