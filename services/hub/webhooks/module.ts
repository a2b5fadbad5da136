import { statSync } from "node:fs";
import { join } from "node:path";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { notFile, readText } from "#runtime/files.ts";
import { counter, sampledGauge } from "#runtime/metrics/declare.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import type { OwnClients } from "../clients.ts";
import { resolveFrom } from "../files/identity.ts";
import { dataDirOf, type Ground } from "../ground.ts";
import type { WebhookConfig } from "./config.ts";
import { type Counts, Follower } from "./follower.ts";
import { Positions } from "./positions.ts";
import { Poster } from "./post.ts";
import { parseSecrets } from "./signature.ts";

const OUTCOMES = ["taken", "failed", "refused"] as const;

/** createWebhooks makes the module that posts events to the sinks of the configuration. Its start rejects for files that cannot be used. */
export function createWebhooks(ground: Ground, clients: Pick<OwnClients, "client">): ServiceModule {
  const { config, clock, log } = ground;
  const sinks = Object.entries(config.webhooks);
  let positions: Positions | undefined;
  let followers: readonly Follower[] = [];
  return {
    name: "webhooks",
    bindings: [],
    start: async () => {
      positions = new Positions(join(dataDirOf(ground), "webhooks.json"), clock, log, Object.keys(config.webhooks));
      const count = counting(ground);
      followers = sinks.map(([name, sink]) =>
        follower(
          ground,
          clients,
          name,
          sink,
          positions as Positions,
          count(name, () => failing(name)),
        ),
      );
      const failing = (name: string): boolean => followers[sinks.findIndex(([other]) => other === name)]?.failing === true;
      for (const one of followers) one.start();
    },
    // Whether somebody else takes events says nothing of this hub.
    readiness: () => ({ ready: true }),
    describe: () => followers.map((one) => one.describe()).join("\n"),
    stop: async () => {
      await Promise.all(followers.map((one) => one.stop()));
      positions?.flush();
    },
  };
}

function follower(
  ground: Ground,
  clients: Pick<OwnClients, "client">,
  name: string,
  config: WebhookConfig,
  positions: Positions,
  counts: Counts,
): Follower {
  const { folder, clock, entropy, log, events } = ground;
  const secretFile = resolveFrom(folder, config.secret_file);
  const caFile = config.ca === "" ? undefined : resolveFrom(folder, config.ca);
  const secrets = (): readonly Buffer[] => parseSecrets(readSecret(secretFile, name), secretFile);
  const ca = (): string | undefined => (caFile === undefined ? undefined : read(caFile, `webhooks.${name}.ca`));
  // What an operator has to correct is said at the start.
  secrets();
  ca();
  return new Follower({
    name,
    hubId: ground.config.hub_id,
    config,
    client: () => clients.client(TelemetryService),
    poster: new Poster({ url: config.url, ca, allowed: config.allow_addresses, timeoutMs: config.timeout_ms, clock }),
    secrets,
    positions,
    clock,
    prng: new Prng(entropy.seed()),
    log,
    events: events.sink("hub"),
    counts,
  });
}

function read(file: string, field: string): string {
  try {
    return readText(file);
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `cannot read ${file}${notFile(cause)}; correct ${field} or make the file readable`, { cause });
  }
}

/** readSecret refuses a file that others may read: who has the secret can write what this hub seems to have said. */
function readSecret(file: string, name: string): string {
  const text = read(file, `webhooks.${name}.secret_file`);
  if ((statSync(file).mode & 0o007) !== 0)
    throw fail("NOT_CONFIGURED", `the secret of the webhook ${name} is open to other users of this machine; close it: chmod 600 ${file}`);
  return text;
}

/** counting declares what sinks count. Their names are those of the configuration, so they are few. */
function counting({ metrics }: Ground): (name: string, failing: () => boolean) => Counts {
  const tries = counter(metrics, {
    name: "foedus_webhook_tries_total",
    help: "Tries to post an event, by webhook and outcome: taken, failed, or refused for good.",
    labels: ["webhook", "outcome"],
  });
  const missed = counter(metrics, {
    name: "foedus_webhook_missed_events_total",
    help: "Events that a webhook did not get and was told of, because they were no longer kept or not taken for too long.",
    labels: ["webhook"],
  });
  const failing = sampledGauge(metrics, {
    name: "foedus_webhook_failing",
    help: "1 while the last try to post an event to a webhook failed.",
    labels: ["webhook"],
  });
  return (webhook, isFailing) => {
    for (const outcome of OUTCOMES) tries.inc({ webhook, outcome }, 0);
    missed.inc({ webhook }, 0);
    failing({ webhook }, () => (isFailing() ? 1 : 0));
    return { tried: (outcome) => tries.inc({ webhook, outcome }), missed: (events) => missed.inc({ webhook }, events) };
  };
}
