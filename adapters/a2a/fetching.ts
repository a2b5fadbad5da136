import { fail } from "../../clients/typescript/index.ts";

/** Bytes of a card, and of the answers to one call. */
const CARD_MAX_BYTES = 262_144;
const ANSWER_MAX_BYTES = 4_194_304;
/** How long a card may take, ms. */
const CARD_WITHIN_MS = 10_000;

/** limited ends a body that is longer than it may be. */
function limited(response: Response, most: number): Response {
  if (response.body === null) return response;
  let size = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform: (chunk, controller) => {
      size += chunk.byteLength;
      if (size > most) controller.error(fail("MESSAGE_TOO_LARGE", `the agent answers with more than ${most} bytes`));
      else controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(counter), { status: response.status, headers: response.headers });
}

/** fetchFor gives the fetch with which one agent is called: at its own origin only, without redirects, with its token, within limits. */
export function fetchFor(base: string, token: string | undefined): typeof fetch {
  const { origin } = new URL(base);
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : String(input));
    if (url.origin !== origin)
      throw fail("INVALID_FIELD", `the agent's card names an address at ${url.origin}, and the agent is at ${origin}`);
    const headers = new Headers(init.headers);
    if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
    return limited(await fetch(url, { ...init, headers, redirect: "error" }), ANSWER_MAX_BYTES);
  };
}

/** cardJson reads the card of an agent, as JSON of whatever shape. */
export async function cardJson(base: string, fetchOne: typeof fetch): Promise<unknown> {
  const url = new URL(".well-known/agent-card.json", base.endsWith("/") ? base : `${base}/`);
  const headers = { accept: "application/json", "a2a-version": "1.0" };
  const response = await fetchOne(url, { headers, signal: AbortSignal.timeout(CARD_WITHIN_MS) });
  if (!response.ok) throw fail("NODE_NOT_FOUND", `the agent answers ${response.status} when asked for its card`);
  return (await limited(response, CARD_MAX_BYTES).json()) as unknown;
}
