// Commands under load, and what the audit of a hub says of them: for tests and for `make audit`.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { type Event, EventFilterSchema, EventKind, ListEventsRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { CommandStream, ExecutorClient } from "../../clients/typescript/command-stream.ts";
import { lamp, register } from "./acts.ts";
import { type Clients, Federation, type FederationOptions } from "./federation.ts";

/** Filter selects events. */
export type Filter = MessageInitShape<typeof EventFilterSchema>;

/** audited lists all events of commands of a hub that match, the oldest first. */
export async function audited({ telemetry }: Pick<Clients, "telemetry">, filter: Filter = {}): Promise<Event[]> {
  const events: Event[] = [];
  for (let beforeSeq = 0n; ; ) {
    const wanted = create(EventFilterSchema, { kinds: [EventKind.COMMAND], ...filter });
    const page = await telemetry.listEvents(create(ListEventsRequestSchema, { filter: wanted, pageSize: 1_000, beforeSeq }));
    // Also of this kind is what the hub itself tells of a command that nobody knows the end of.
    events.push(...page.events.filter(({ command }) => command !== undefined));
    beforeSeq = page.nextBeforeSeq;
    if (beforeSeq === 0n) return events.reverse();
  }
}

/** Lamps at two hubs, and a caller of the first that switches them all. */
export class Switchboard {
  readonly federation: Federation;
  /** What the caller was told, by the names of its commands. */
  readonly told = new Map<string, Outcome>();
  /** Commands of which the caller was told something, names or none. */
  answered = 0;
  readonly #executors: readonly ExecutorClient[];
  readonly #stream: CommandStream;
  readonly #lamps: readonly string[];

  private constructor(federation: Federation, executors: readonly ExecutorClient[], lamps: readonly string[]) {
    this.federation = federation;
    this.#executors = executors;
    this.#lamps = lamps;
    this.#stream = new CommandStream(federation.hub("home").clients("gateway-zigbee").commands);
  }

  /** start starts two hubs, home and factory, with so many lamps each. */
  static async start(lamps: number, options: Partial<FederationOptions> = {}): Promise<Switchboard> {
    // What nobody knows the end of has its record when nobody can tell it any more.
    const config = { discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 }, command_forwarding: { late_ms: 500 } };
    const hubs = [
      { id: "home", peers: [{ hub: "factory" }], config },
      { id: "factory", peers: [{ hub: "home" }], config },
    ];
    const federation = await Federation.start({ hubs, ...options });
    await federation.operational();
    const ids = Array.from({ length: lamps }, (_, i) => `lamp-${i}`);
    const executors: ExecutorClient[] = [];
    for (const { id } of hubs) {
      const gateway = federation.hub(id).clients("gateway-zigbee");
      await register(gateway, ...ids.map(lamp));
      const attached = Promise.withResolvers<void>();
      const run = ({ value }: { readonly value: unknown }) => ({ value: value as string });
      executors.push(new ExecutorClient(gateway.commands, { nodeIds: ids, run, onAttached: () => attached.resolve() }));
      await attached.promise;
    }
    return new Switchboard(federation, executors, ids);
  }

  /** send lets a caller send so many commands, some at a time, and remembers what it is told. */
  async send(count: number, inFlight: number, hubIds: readonly string[]): Promise<void> {
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let n = next++; n < count; n = next++) {
        const nodeId = this.#lamps[n % this.#lamps.length] as string;
        const target = { hubId: hubIds[n % hubIds.length] as string, nodeId, capability: "state", value: n % 2 === 0 ? "ON" : "OFF" };
        // Every tenth can be asked for again.
        const key = n % 10 === 0 ? { idempotencyKey: `key-${n}` } : {};
        const { outcome, name } = await this.#stream.execute({ ...target, ...key, timeoutMs: 8_000 });
        this.answered++;
        if (name !== undefined) this.told.set(`${name.hubId}/${name.epoch}/${name.seq}`, outcome as Outcome);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, lane));
  }

  async stop(): Promise<void> {
    this.#stream.close();
    for (const executor of this.#executors) executor.close();
    await this.federation.stop();
  }
}

/** repeated are the names that the audit has more than once. */
export function repeated(events: readonly Event[]): string[] {
  const seen = new Set<string>();
  const twice: string[] = [];
  for (const { command } of events) {
    const name = command?.name ?? "";
    if (name === "") continue;
    if (seen.has(name)) twice.push(name);
    seen.add(name);
  }
  return twice;
}

/**
 * contradictions compares what a caller was told with the audit: every command has an event with that outcome, or a better known one. Only
 * refusals may be counted instead.
 */
export function contradictions(told: ReadonlyMap<string, Outcome>, events: readonly Event[]): string[] {
  const kept = new Map(events.map(({ command }) => [command?.name ?? "", command?.outcome]));
  let counted = events.reduce((sum, { command }) => sum + Number(command?.suppressed ?? 0n), 0);
  return [...told].flatMap(([name, outcome]) => {
    const found = kept.get(name);
    const refused = outcome === Outcome.REJECTED || outcome === Outcome.EXPIRED;
    if (found === undefined) return refused && counted-- > 0 ? [] : [`${name} has no event`];
    return found === outcome || outcome === Outcome.UNKNOWN ? [] : [`${name} was told ${outcome}, and the audit says ${found}`];
  });
}
