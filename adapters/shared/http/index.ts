// What adapters share that are reached over HTTP: who is let in, and within which limits.
export { type GuardOptions, isLoopback, TOKEN_MIN_CHARS } from "./guard.ts";
export { type Asked, Listener, type ListenOptions, problem, type TlsFiles } from "./listener.ts";
