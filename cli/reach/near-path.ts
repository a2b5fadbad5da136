import { dirname, relative } from "node:path";

/** nearPath writes a path as people would type it here: relative below this folder or beside it, absolute where it would begin with many dots. */
export function nearPath(cwd: string, path: string): string {
  const near = relative(cwd, path);
  if (near === "") return ".";
  // The folder of a partner's hub beside this one is near; /etc is not.
  const above = near.split("/").filter((part) => part === "..").length;
  return above > 1 || (above === 1 && dirname(cwd) === "/") ? path : near;
}

/** shellWord writes a name as a shell takes it for one word: in quotes if it has anything in it that the shell would read otherwise. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** typedPath is nearPath for a command that is to be copied into a shell. */
export function typedPath(cwd: string, path: string): string {
  return shellWord(nearPath(cwd, path));
}
