import { isIP } from "node:net";
import * as z from "zod";
import { isHubId } from "#kernel/hub-id.ts";

/** WEBHOOKS_MAX is how many sinks a hub may have: each watches the events, and a caller may have eight watches. */
export const WEBHOOKS_MAX = 8;

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** isSink tells whether a URL may be posted to: over HTTPS, or without to this machine. */
function isSink(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== "" || url.password !== "" || url.hash !== "") return false;
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
}

/** Kinds of events, as the schema of telemetry has them without their prefix. */
const KINDS = [
  ...["LINK_STATE", "TRUST_DECIDED", "ACCESS_REFUSED", "SESSION", "FEED", "NODE", "COMMAND", "EXECUTOR", "STORE", "MODULE"],
  ...["CREDENTIAL", "LIMIT", "CLOCK", "EVENTS_DROPPED", "CONFIGURATION", "COORDINATION"],
] as const;

const sink = z.strictObject({
  url: z
    .string()
    .max(2_048)
    .refine(isSink, "must be an https:// URL without user, password or fragment; http:// only to this machine (127.0.0.1, localhost)")
    .meta({ unit: "URL", secret: true, description: "where events are posted" }),
  secret_file: z.string().min(1).meta({
    unit: "path, relative to the configuration file",
    description:
      "file with the secret that deliveries are signed with, `whsec_<base64 of 24 to 64 bytes>`, mode 0600; further lines are further secrets",
  }),
  kinds: z.array(z.enum(KINDS)).max(KINDS.length).default([]).meta({ description: "kinds of events, such as COMMAND; empty: all" }),
  min_severity: z.enum(["DEBUG", "INFO", "WARNING", "ERROR"]).default("INFO").meta({ description: "least severity of the events" }),
  peer: z.string().max(63).default("").meta({ description: "only events about this peer" }),
  node: z.string().max(127).default("").meta({ description: "only events about this node (hub/node)" }),
  ca: z.string().default("").meta({
    unit: "path",
    description: "CA certificates that the receiver's certificate must end in, PEM; empty: the CAs that come with Node",
  }),
  allow_addresses: z
    .array(z.string().refine((text) => isIP(text) !== 0, "must be IP addresses"))
    .max(16)
    .default([])
    .meta({ description: "addresses that are posted to although they are link-local, multicast, or those of a cloud's metadata" }),
  timeout_ms: z.int().min(100).max(60_000).default(10_000).meta({ unit: "ms", description: "time that the receiver has to answer" }),
  retry_max_ms: z
    .int()
    .min(1_000)
    .max(3_600_000)
    .default(60_000)
    .meta({ unit: "ms", description: "longest wait between two tries; the first is one second, and each twice the one before" }),
  give_up_ms: z.int().min(1_000).max(604_800_000).default(86_400_000).meta({
    unit: "ms",
    description: "an event that was not taken for so long is left out, which the next delivery says; those behind it wait meanwhile",
  }),
});

/** WebhookConfig is one sink. */
export type WebhookConfig = z.infer<typeof sink>;

/** webhooksConfig is the sinks of a hub, by name. */
export const webhooksConfig = z
  .record(z.string().refine(isHubId, "names are 1 to 63 of a-z, 0-9 and -"), sink)
  .default({})
  .refine((sinks) => Object.keys(sinks).length <= WEBHOOKS_MAX, `at most ${WEBHOOKS_MAX} webhooks`)
  .meta({ description: "where events of this hub are posted to, by a name of your choice" });
