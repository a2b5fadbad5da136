import { fail } from "#kernel/error.ts";

/** listenError says what to do about a port that cannot be listened on. */
export function listenError(host: string, port: number, cause: NodeJS.ErrnoException): Error {
  if (cause.code === "EADDRINUSE")
    return fail("ALREADY_EXISTS", `port ${port} on ${host} is already in use; stop the other program or configure another port`, {
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
