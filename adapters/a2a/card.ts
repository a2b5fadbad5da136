import { createHash, createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from "node:crypto";
import { type AgentCard, type AgentSkill, canonicalizeAgentCard, generateAgentCardSignature } from "@a2a-js/sdk";
import { DefaultAgentCardResolver } from "@a2a-js/sdk/client";
import { flattenedVerify } from "jose";
import { fail, type NodeInit, printable, VALUE_TYPE } from "../../clients/typescript/index.ts";

/** ASK is the capability of every agent: text in, what it answers out. */
export const ASK = "ask";
/** TASK is the state in which the progress of an agent's task is shown. */
export const TASK = "task";
/** REACHABLE is the state that says whether the agent can be reached. */
export const REACHABLE = "reachable";
/** Names that no skill takes. */
const OWN_NAMES: ReadonlySet<string> = new Set([ASK, TASK, REACHABLE]);

/** Skills of a card that are taken: the schema's bound. */
const SKILLS_MAX = 64;
const LIST_MAX = 32;
/** Signatures of a card that are looked at, and how they may be made: with a key that only its owner has. */
const SIGNATURES_MAX = 8;
const ALGORITHMS = ["ES256", "ES384", "ES512", "EdDSA", "Ed25519", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/** PublicKeys are the keys of one agent, by their ids. */
export type PublicKeys = ReadonlyMap<string, JsonWebKey>;

/** keysOf reads a JWK set. Throws FoedusError (INVALID_FIELD). */
export function keysOf(text: string): PublicKeys {
  const found = new Map<string, JsonWebKey>();
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    set = undefined;
  }
  const { keys } = (set ?? {}) as { readonly keys?: unknown };
  for (const key of Array.isArray(keys) ? (keys as readonly (JsonWebKey & { readonly kid?: unknown })[]) : [])
    if (typeof key.kid === "string" && key.d === undefined) found.set(key.kid, key);
  if (found.size === 0) throw fail("INVALID_FIELD", "the file of keys is no JWK set with public keys that have ids (kid)");
  return found;
}

/** Verified is a card, and the key that its signature was made with. */
export interface Verified {
  readonly card: AgentCard;
  /** SPKI, DER; empty for a card that nobody signed. */
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** readCard reads a card of version 1.0 or 0.3. Throws FoedusError (INVALID_FIELD) for what is none. */
export function readCard(json: unknown): AgentCard {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw fail("INVALID_FIELD", "the agent's card is not an object of JSON");
  let card: AgentCard;
  try {
    card = new DefaultAgentCardResolver({ legacyCompat: { enabled: true } }).normalizeAgentCard(json);
  } catch (cause) {
    throw fail("INVALID_FIELD", "the agent's card cannot be read", { cause });
  }
  if (typeof card.name !== "string" || card.name === "") throw fail("INVALID_FIELD", "the agent's card has no name");
  if (!Array.isArray(card.supportedInterfaces) || card.supportedInterfaces.length === 0)
    throw fail("INVALID_FIELD", "the agent's card names no interface to call it by");
  return card;
}

/**
 * verifyCard checks a card's signature with the keys that its owner gave the operator. Where the card says that its keys are (jku) is not asked:
 * a card that lies would name its own. Throws FoedusError (SIGNATURE_INVALID).
 */
export async function verifyCard(card: AgentCard, keys: PublicKeys): Promise<Verified> {
  const signatures = Array.isArray(card.signatures) ? card.signatures.slice(0, SIGNATURES_MAX) : [];
  if (signatures.length === 0) throw fail("SIGNATURE_INVALID", "the agent's card is not signed");
  const payload = Buffer.from(canonicalizeAgentCard(card)).toString("base64url");
  for (const { protected: header, signature } of signatures) {
    const key = keyNamed(header, keys);
    if (key === undefined) continue;
    try {
      await flattenedVerify({ payload, protected: header, signature }, createPublicKey({ key, format: "jwk" }), { algorithms: ALGORITHMS });
    } catch {
      continue;
    }
    const publicKey = createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "der" });
    return { card, publicKey: fitting(publicKey), signature: fitting(Buffer.from(signature, "base64url")) };
  }
  throw fail("SIGNATURE_INVALID", "no signature of the agent's card was made with a key that is known for it");
}

/** keyNamed finds the key that the protected header of a signature names. */
function keyNamed(header: string, keys: PublicKeys): JsonWebKey | undefined {
  try {
    const { kid } = JSON.parse(Buffer.from(header, "base64url").toString("utf8")) as { readonly kid?: unknown };
    return typeof kid === "string" ? keys.get(kid) : undefined;
  } catch {
    return undefined;
  }
}

const fitting = (bytes: Uint8Array): Uint8Array => (bytes.length <= 1_024 ? bytes : NOTHING);

/** Signer signs cards, and shows the key by which others verify them. */
export interface Signer {
  readonly sign: (card: AgentCard) => Promise<AgentCard>;
  /** JWK set. */
  readonly jwks: object;
}

/** signerOf makes one of a private key in PEM. Throws FoedusError (INVALID_FIELD). */
export function signerOf(pem: string): Signer {
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(pem);
  } catch (cause) {
    throw fail("INVALID_FIELD", "sign_key is no private key in PEM", { cause });
  }
  if (privateKey.asymmetricKeyDetails?.namedCurve !== "prime256v1") throw fail("INVALID_FIELD", "sign_key is no key of the curve P-256");
  const jwk = createPublicKey(privateKey).export({ format: "jwk" });
  // Named by what it is (RFC 7638), so that a new key has a new name.
  const kid = createHash("sha256")
    .update(JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y }))
    .digest("base64url");
  const sign = generateAgentCardSignature(privateKey, { alg: "ES256", kid, typ: "JOSE" });
  return { sign, jwks: { keys: [{ ...jwk, kid, alg: "ES256", use: "sig" }] } };
}

/** unsigned takes a card that nobody signed. */
export function unsigned(card: AgentCard): Verified {
  return { card, publicKey: NOTHING, signature: NOTHING };
}

/** clipped shortens a text to so many bytes, and shows what is invisible in it. */
export function clipped(text: unknown, maxBytes: number): string {
  const shown = printable(typeof text === "string" ? text : "");
  if (Buffer.byteLength(shown) <= maxBytes) return shown;
  let kept = "";
  let size = 3;
  for (const character of shown) {
    size += Buffer.byteLength(character);
    if (size > maxBytes) break;
    kept += character;
  }
  return `${kept}…`;
}

const words = (list: unknown, maxBytes = 127): string[] =>
  Array.isArray(list) ? list.slice(0, LIST_MAX).map((word) => clipped(word, maxBytes)) : [];

const isJson = (mode: string): boolean => /^application\/(?:[\w.-]+\+)?json$/.test(mode);

/** takesJson tells whether a skill takes data, and no text. */
export function takesJson({ inputModes }: Pick<AgentSkill, "inputModes">, defaults: readonly string[]): boolean {
  const modes = inputModes?.length > 0 ? inputModes : defaults;
  return modes.length > 0 && modes.every(isJson);
}

/** nodeOf makes the node that an agent becomes. What its card says is text from elsewhere: shortened, and visible to the last character. */
export function nodeOf(nodeId: string, url: string, { card, publicKey, signature }: Verified): NodeInit {
  const skills = (card.skills ?? []).filter(({ id }) => typeof id === "string" && id !== "").slice(0, SKILLS_MAX);
  const named = new Map(skills.map((skill) => [clipped(skill.id, 127), skill]));
  const capabilities = [...named].flatMap(([name, skill]) => {
    if (OWN_NAMES.has(name)) return [];
    const type = takesJson(skill, card.defaultInputModes ?? []) ? VALUE_TYPE.JSON : VALUE_TYPE.STRING;
    return [{ name, type, invocable: true, description: clipped(skill.description, 1_024) }];
  });
  return {
    nodeId,
    kind: 2,
    type: "a2a-agent",
    name: clipped(card.name, 255),
    vendor: clipped(card.provider?.organization, 255),
    description: clipped(card.description, 2_048),
    labels: { "a2a.signed": publicKey.length > 0 ? "yes" : "no" },
    capabilities: [
      { name: ASK, type: VALUE_TYPE.STRING, invocable: true, description: "send a message, and get what the agent answers" },
      { name: TASK, type: VALUE_TYPE.JSON, readable: true, description: "state of the task that the agent worked on last" },
      {
        name: REACHABLE,
        type: VALUE_TYPE.BOOL,
        readable: true,
        description: "whether the agent's card can be read, and is signed as it has to be",
      },
      ...capabilities,
    ],
    agent: {
      version: clipped(card.version, 63),
      endpoint: clipped(url, 2_048),
      publicKey,
      signature,
      skills: [...named].map(([id, skill]) => ({
        id,
        name: clipped(skill.name, 255),
        description: clipped(skill.description, 1_024),
        tags: words(skill.tags),
        inputModes: words(skill.inputModes),
        outputModes: words(skill.outputModes),
      })),
    },
  };
}
