/**
 * NARROW_WINDOW_BYTES and WIDE_WINDOW_BYTES are the receive windows of HTTP/2 connections. Why there are two (PROTOCOL S9):
 *
 * Node's HTTP/2 stops reading a connection while a write to its socket is pending. If both ends have more to write than the kernel
 * takes, neither reads, and nothing moves on that connection again until a keepalive gives it up. The receive window of one end bounds
 * what the other may have under way to it. As long as one of the two directions always fits into the buffers of the kernel, its sender
 * never waits for the socket and therefore reads, and both directions go on.
 *
 * WI1 a connection on which both ends may send in bulk has a narrow window at one end at least.
 * WI2 a wide window is for a connection whose other direction carries little: what a hub receives from callers of its own, whose windows
 *    are narrow (WI1), and from peers on a session's second connection and on its first one, once the second exists; and what a client
 *    receives on the connection of the streams that the server alone sends on.
 */
export const NARROW_WINDOW_BYTES = 128 * 1024;
export const WIDE_WINDOW_BYTES = 4 * 1024 * 1024;
