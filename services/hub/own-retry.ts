import { Retry } from "#kernel/backoff.ts";

/**
 * ownRetry spaces the tries to reach another process of this hub, which may be gone for long in split mode. The longest wait is below what
 * discovery gives a service to come back (5 s), so that a restart of one of them loses no link.
 */
export const ownRetry = (): Retry => new Retry({ baseMs: 500, maxMs: 4_000, factor: 2 });
