// Two real hubs with lamps and a hostile device, and MCP clients of the official SDK that talk to `foedus mcp` as agent hosts do.

import { join } from "node:path";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { type Running, start } from "../cli/fixture.ts";
import { attach, lamp, number, register, text, update } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";

/** Era is which of the two families of the protocol a client speaks. */
export type Era = "legacy" | "modern";

/** ToolResult is the result of a tool call, as these tests read it. */
export interface ToolResult {
  readonly content: readonly { readonly type: string; readonly text: string }[];
  readonly structuredContent?: Record<string, unknown>;
  readonly isError?: boolean;
  readonly _meta?: Record<string, unknown>;
}

/** Agent is an agent host's side of one connection. */
export class Agent implements AsyncDisposable {
  readonly client: Client;
  #errors = "";

  private constructor(client: Client) {
    this.client = client;
  }

  /** stdio starts `foedus mcp` as an agent host does. */
  static async stdio(args: readonly string[], era: Era = "legacy"): Promise<Agent> {
    const { PATH = "", HOME = "" } = process.env;
    const transport = new StdioClientTransport({
      command: process.execPath,
      args: [join(ROOT, "cli/main.ts"), "mcp", ...args],
      env: { PATH, HOME, XDG_CONFIG_HOME: "/nonexistent" },
      stderr: "pipe",
    });
    const agent = new Agent(clientOf(era));
    transport.stderr?.on("data", (chunk: Buffer) => {
      agent.#errors += chunk.toString();
    });
    await agent.client.connect(transport);
    return agent;
  }

  /** http connects to a server that listens. */
  static async http(
    url: string,
    headers: Readonly<Record<string, string>>,
    era: Era = "legacy",
    fetch?: typeof globalThis.fetch,
  ): Promise<Agent> {
    const agent = new Agent(clientOf(era));
    const more = fetch === undefined ? {} : { fetch };
    await agent.client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { ...headers } }, ...more }));
    return agent;
  }

  /** errors is what the server wrote to stderr. */
  get errors(): string {
    return this.#errors;
  }

  async call(name: string, args: Record<string, unknown> = {}, options: { readonly signal?: AbortSignal } = {}): Promise<ToolResult> {
    return (await this.client.callTool({ name, arguments: args }, options)) as unknown as ToolResult;
  }

  /** data is the structured content of a call that has to succeed. */
  async data<T = Record<string, unknown>>(name: string, args: Record<string, unknown> = {}): Promise<T> {
    const result = await this.call(name, args);
    if (result.isError === true || result.structuredContent === undefined) throw new Error(`${name} failed: ${result.content[0]?.text}`);
    return result.structuredContent as T;
  }

  /** refusal is the text of a call that has to fail as a tool error. */
  async refusal(name: string, args: Record<string, unknown> = {}): Promise<string> {
    const result = await this.call(name, args);
    if (result.isError !== true) throw new Error(`${name} succeeded: ${result.content[0]?.text}`);
    return result.content[0]?.text ?? "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}

function clientOf(era: Era): Client {
  const info = { name: "test", version: "1.0.0" };
  return era === "modern" ? new Client(info, { versionNegotiation: { mode: { pin: "2026-07-28" } } }) : new Client(info);
}

/** flagsOf are the options by which the command reaches a hub as one of its principals. */
export function flagsOf(hub: HubProcess, principal: "operator-admin" | "operator-viewer" | "gateway-agents"): string[] {
  const { ca, cert, key } = hub.pki(principal);
  return ["--address", hub.address("registry-sync"), "--ca", ca, "--cert", cert, "--key", key];
}

/** World is two hubs that share everything, with two lamps each. */
export interface World {
  readonly federation: Federation;
  readonly home: HubProcess;
  readonly factory: HubProcess;
  /** The gateway of the factory, which registers nodes there. */
  readonly gateway: Clients;
  /** What ran on the factory's lamps. */
  readonly ran: readonly string[];
  /** add registers another node at the factory, with values, and resolves when home knows it. */
  add(node: Node, values?: Readonly<Record<string, string | number>>): Promise<void>;
  close(): Promise<void>;
}

/** world starts them. */
export async function world(): Promise<World> {
  const federation = await Federation.start({
    hubs: [
      { id: "home", peers: [{ hub: "factory" }] },
      { id: "factory", peers: [{ hub: "home" }] },
    ],
  });
  try {
    await federation.operational();
    const [home, factory] = [federation.hub("home"), federation.hub("factory")];
    const gateway = factory.clients("gateway-agents");
    await register(gateway, lamp("press-lamp"), lamp("hall-lamp"));
    const { ran } = attach(gateway, ["press-lamp", "hall-lamp"]);
    await update(gateway, "press-lamp", { state: text("OFF"), power: number(17) });
    const admin = home.clients();
    const known = async (nodeId: string, key?: string): Promise<unknown> =>
      until(`home knowing ${nodeId}`, async () => {
        const { record } = await admin.registry.getNode({
          $typeName: "foedus.registry_sync.v1alpha1.GetNodeRequest",
          name: { $typeName: "foedus.common.v1.NodeName", hubId: "factory", nodeId },
        });
        return key === undefined ? record?.node !== undefined : record?.state.some((state) => state.key === key);
      });
    await known("press-lamp", "power");
    await until("the lamps being online", async () => {
      const { records } = await admin.registry.listNodes({
        $typeName: "foedus.registry_sync.v1alpha1.ListNodesRequest",
        pageSize: 10,
        pageToken: "",
        summary: true,
      });
      return records.length >= 2 && records.every(({ online }) => online);
    });
    const add: World["add"] = async (node, values = {}) => {
      await register(gateway, node);
      const written = Object.entries(values).map(([key, value]) => [key, typeof value === "string" ? text(value) : number(value)] as const);
      if (written.length > 0) await update(gateway, node.nodeId, Object.fromEntries(written));
      await known(node.nodeId, written[0]?.[0]);
    };
    return { federation, home, factory, gateway, ran, add, close: () => federation.stop() };
  } catch (error) {
    await federation.stop();
    throw error;
  }
}

/** served is `foedus mcp --http` on a free port. */
export async function served(
  args: readonly string[],
  input?: { readonly cwd: string },
): Promise<{ readonly url: string; readonly running: Running; stop(): Promise<number | null> }> {
  const running = start(["mcp", "--http", "127.0.0.1:0", "--json", ...args], input ?? {});
  await running.printed("\n");
  const { url } = JSON.parse(running.out) as { url: string };
  const stop = async (): Promise<number | null> => {
    running.child.kill("SIGTERM");
    return (await running.done).code;
  };
  return { url, running, stop };
}
