import type { TLSSocket } from "node:tls";
import { type AuthInfo, createMcpHandler } from "@modelcontextprotocol/server";
import { callerIn, whenAborted } from "../../clients/typescript/index.ts";
import { type Asked, Listener, type ListenOptions, problem } from "../shared/http/index.ts";
import { createServer, type ServerParts } from "./server.ts";
import type { Caller } from "./tool.ts";

/** MCP_PATH is where the server is. */
const MCP_PATH = "/mcp";

/** HttpListener is a server that listens. */
export interface HttpListener {
  readonly url: string;
  close(): Promise<void>;
}

/** Roles from the least to the most. */
const ROLES = ["metrics", "viewer", "admin"] as const;

/** lesser is the lesser of two roles: neither the caller nor this server may do what the other may not. */
function lesser(a: Caller["role"], b: Caller["role"]): Caller["role"] {
  return ROLES[Math.min(ROLES.indexOf(a), ROLES.indexOf(b))] ?? "metrics";
}

/** callerOfSocket reads who shows a certificate; undefined if it is no operator of the hub. That its CA signed it was checked in TLS. */
function callerOfSocket(socket: TLSSocket, hubId: string): Caller | undefined {
  const leaf = socket.getPeerX509Certificate();
  const caller = leaf === undefined ? undefined : callerIn(leaf);
  if (caller === undefined || caller.hubId !== hubId || caller.kind !== "operator" || caller.role === undefined) return undefined;
  return { id: `operator/${caller.name}`, role: caller.role };
}

/** serveHttp listens for MCP clients over HTTP, until it is closed or `signal` aborts. Throws what the system says when it cannot. */
export async function serveHttp(
  options: ListenOptions,
  callerNow: () => Caller,
  parts: ServerParts,
  signal?: AbortSignal,
): Promise<HttpListener> {
  const { hubId } = parts.hub;
  const mutual = options.tls?.clientCa !== undefined;
  const handler = createMcpHandler(({ authInfo }) => createServer(authInfo?.extra?.["caller"] as Caller, parts), {
    onerror: parts.onError,
  });
  const theirsOf = (socket: Asked["socket"]): Caller | undefined => (mutual ? callerOfSocket(socket as TLSSocket, hubId) : callerNow());
  const refuse = ({ method, path, socket }: Omit<Asked, "body" | "signal">): Response | undefined => {
    if (path !== MCP_PATH) return problem(404, `the server is at ${MCP_PATH}`);
    if (!["POST", "GET", "DELETE"].includes(method)) return problem(405, "use POST", { allow: "POST" });
    return theirsOf(socket) === undefined ? problem(403, `show the certificate of an operator of ${hubId}`) : undefined;
  };
  const answer = async ({ method, headers, body, socket, signal: gone }: Asked): Promise<Response> => {
    const [own, theirs] = [callerNow(), theirsOf(socket) as Caller];
    const role = lesser(own.role, theirs.role);
    const caller: Caller = { id: theirs.id, role, limited: role !== own.role };
    const request = new Request(`${listener.origin}${MCP_PATH}`, { method, headers, signal: gone, ...(method === "POST" ? { body } : {}) });
    const authInfo: AuthInfo = { token: "", clientId: caller.id, scopes: [caller.role], extra: { caller } };
    return handler.fetch(request, { authInfo });
  };
  const listener = await Listener.open(options, { refuse, answer }, parts);
  const close = async (): Promise<void> => {
    const closed = listener.close();
    await handler.close();
    await closed;
  };
  whenAborted(signal, () => void close().catch(parts.onError));
  return { url: `${listener.origin}${MCP_PATH}`, close };
}
