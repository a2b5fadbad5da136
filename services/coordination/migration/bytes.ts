/** EMPTY is no bytes. */
export const EMPTY = new Uint8Array(0);
