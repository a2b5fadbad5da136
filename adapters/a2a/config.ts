import * as z from "zod";

/** NODE_ID is how ids of nodes look. */
const NODE_ID = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/, "write 1 to 63 letters, digits, dots, colons, underscores or hyphens");

const HTTP_URL = z.url({ protocol: /^https?$/ }).max(2_048);

const HUB = z.strictObject({
  context: z.string().optional().describe("name of a context, with a gateway's certificate"),
  contexts: z.string().optional().describe("file of the contexts"),
  address: z.string().optional().describe("host:port, in place of a context"),
  ca: z.string().optional(),
  cert: z.string().optional().describe("certificate of a gateway"),
  key: z.string().optional(),
});

const AGENT = z.strictObject({
  node: NODE_ID.describe("id of the node that the agent becomes"),
  url: HTTP_URL.describe("where the agent's card is: at /.well-known/agent-card.json below it"),
  keys: z.string().optional().describe("file with the agent's public keys (JWK set); its card must be signed with one of them"),
  unsigned: z.boolean().optional().describe("true: take a card that nobody signed"),
  plaintext: z.boolean().optional().describe("true: speak HTTP without TLS to another machine"),
  token_file: z.string().optional().describe("file with the bearer token that the agent wants"),
});

const SERVE = z.strictObject({
  host: z.string().max(253).default("127.0.0.1"),
  port: z.int().min(0).max(65_535).default(18_829).describe("0 for a free one"),
  token_file: z.string().describe("file with the bearer token that local agents send; made if it is not there"),
  tls_cert: z.string().optional(),
  tls_key: z.string().optional(),
  sign_key: z
    .string()
    .optional()
    .describe("private key (PEM, P-256) with which offered cards are signed; its public half is at /.well-known/jwks.json"),
  timeout_ms: z.int().min(100).max(3_600_000).default(60_000).describe("deadline of what a local agent asks for"),
});

/** A2A_CONFIG is the configuration of the adapter. */
export const A2A_CONFIG = z.strictObject({
  hub: HUB.default({}),
  agents: z.array(AGENT).max(64).default([]).describe("agents that become nodes of the hub"),
  serve: SERVE.optional().describe("offers agents of other hubs to local agents"),
});

/** A2aConfig is a configuration that was read. */
export type A2aConfig = z.infer<typeof A2A_CONFIG>;

/** AgentConfig is one of its agents. */
export type AgentConfig = A2aConfig["agents"][number];

/** configProblems says what is wrong with a configuration that has the right shape. */
export function configProblems({ agents, serve }: A2aConfig, isLoopback: (host: string) => boolean): string[] {
  const found: string[] = [];
  const seen = new Set<string>();
  for (const [i, { node, url, keys, unsigned, plaintext }] of agents.entries()) {
    const at = `agents.${i}`;
    if (seen.has(node)) found.push(`${at}.node: ${node} is there twice`);
    seen.add(node);
    if ((keys === undefined) !== (unsigned === true)) found.push(`${at}: give keys, or "unsigned": true to take a card that nobody signed`);
    const { protocol, hostname } = new URL(url);
    if (protocol === "http:" && plaintext !== true && !isLoopback(hostname.replace(/^\[|\]$/g, "")))
      found.push(`${at}.url: use https, or "plaintext": true to speak without TLS`);
  }
  if (agents.length === 0 && serve === undefined) found.push("there are neither agents nor serve: nothing to do");
  if (serve !== undefined && (serve.tls_cert === undefined) !== (serve.tls_key === undefined))
    found.push("serve: tls_cert and tls_key belong together");
  if (serve !== undefined && serve.tls_cert === undefined && !isLoopback(serve.host))
    found.push("serve.host: a token would cross the network in the clear; give tls_cert and tls_key");
  return found;
}
