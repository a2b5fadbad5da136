import { createServer } from "node:net";
import { fail } from "#kernel/error.ts";

/** listenError says what to do about a port that cannot be listened on; `setting` is the field that chooses it. */
export function listenError(host: string, port: number, cause: NodeJS.ErrnoException, setting?: string): Error {
  const another = setting === undefined ? "configure another port" : `choose another port with ${setting}`;
  if (cause.code === "EADDRINUSE")
    return fail("ALREADY_EXISTS", `port ${port} on ${host} is already in use; stop the other program or ${another}`, {
      cause,
      facts: { port: String(port) },
    });
  if (cause.code === "EACCES")
    return fail("ACCESS_DENIED", `no permission to listen on port ${port}; use a port above 1023`, {
      cause,
      facts: { port: String(port) },
    });
  if (cause.code === "EADDRNOTAVAIL")
    return fail("INVALID_FIELD", `${host} is not an address of this machine; use 0.0.0.0 or one that it has`, { cause });
  return fail("NOT_CONFIGURED", `cannot listen on ${host} port ${port}`, { cause });
}

/** portTaken is the error of a port that somebody listens on already; undefined for one that may be used, or fails for another reason. */
export function portTaken(host: string, port: number, setting?: string): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code === "EADDRINUSE" ? listenError(host, port, error, setting) : undefined),
    );
    server.listen(port, host, () => server.close(() => resolve(undefined)));
  });
}
