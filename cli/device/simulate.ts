import { whenAborted } from "#channel/abort.ts";
import type { Timer } from "#channel/clock.ts";
import { NodeKind } from "#gen/foedus/common/v1/node_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { own } from "#kernel/own.ts";
import { Hub } from "../../clients/typescript/hub.ts";
import type { NodeInit } from "../../clients/typescript/kept-nodes.ts";
import { readMaterial } from "../../clients/typescript/reach/file-credentials.ts";
import type { Updater } from "../../clients/typescript/updater.ts";
import { CliError, EXIT, type ExitCode, exitCodeOf, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseNode } from "../parse.ts";
import { clean, count, duration } from "../print/format.ts";
import { asUsage } from "../reach/as-usage.ts";
import { shellWord } from "../reach/near-path.ts";
import { type Change, DEVICE_TYPES, type DeviceType, isDeviceType, SimulatedDevice } from "./kinds.ts";
import { type Place, type PlaceFlags, placeOf } from "./place.ts";
import { Teller } from "./teller.ts";

/** SimulateFlags are the options of `device simulate`. */
export interface SimulateFlags extends PlaceFlags {
  readonly type?: string;
  readonly keep?: boolean;
}

/** Label by which a simulated device is known: one of these may be replaced by another, a real one not. */
const SIMULATED = "simulated";

const STEP_MS = 1_000;
/** Waits while the hub does not answer at the beginning, ms; the SDK has its own afterwards. */
const [RETRY_FIRST_MS, RETRY_MOST_MS] = [500, 10_000];
/** How long the hub may take to forget the device at the end, ms. */
const FORGET_MS = 3_000;

/** deviceTypeOf reads --type. Throws CliError (usage). */
function deviceTypeOf(text = "lamp"): DeviceType {
  if (isDeviceType(text)) return text;
  throw usage(`"${text}" cannot be simulated`, `Types are ${DEVICE_TYPES.join(", ")}.`);
}

/** nodeIdOf reads the id of a node of the hub that is meant. Throws CliError (usage). */
export function nodeIdOf(text: string): string {
  const { hubId, nodeId } = parseNode(text);
  if (hubId === "") return nodeId;
  throw usage(`"${text}" names a hub and a node`, `Give the id of the node only: ${shellWord(nodeId)}; --hub says at which hub.`);
}

/** nodeOf is a simulated device as the registry has it. */
export function nodeOf(device: SimulatedDevice, nodeId: string): NodeInit {
  return {
    nodeId,
    kind: NodeKind.DEVICE,
    type: device.nodeType,
    name: `Simulated ${device.type}`,
    vendor: "Foedus",
    description: "Played by `foedus device simulate`.",
    labels: { [SIMULATED]: "true" },
    capabilities: device.features.map(({ name, type, invocable, description, unit = "", allowed = [], min, max }) => ({
      name,
      type,
      readable: true,
      invocable,
      description,
      unit,
      allowed: [...allowed],
      ...(min === undefined ? {} : { min }),
      ...(max === undefined ? {} : { max }),
    })),
  };
}

/** run plays a device until it is stopped: it registers, reports what it measures, and does what it is told. */
export async function run(io: Io, [text]: readonly string[], flags: SimulateFlags): Promise<ExitCode | undefined> {
  const type = deviceTypeOf(flags.type);
  const nodeId = nodeIdOf(text ?? type);
  const place = await placeOf(io, nodeId, flags);
  const device = new SimulatedDevice(type, nodeId);
  const teller = new Teller(io, flags, device, { hubId: place.hubId, nodeId });
  const { hubId, address, ca, cert, key } = place;
  // A file that cannot be read is a mistake of the command line.
  asUsage(() => readMaterial(place));
  const hub = await Hub.connect({
    ...{ hubId, address, ca, cert, key, clock: io.clock },
    onError: (error) => io.error(`foedus: ${clean(error instanceof Error ? error.message : String(error))}\n`),
  });
  const simulation = new Simulation(io, hub, device, teller, { place, nodeId, keep: flags.keep === true });
  try {
    return await simulation.run();
  } finally {
    teller.stops();
    hub.close();
  }
}

interface Terms {
  readonly place: Place;
  readonly nodeId: string;
  readonly keep: boolean;
}

/** Simulation is a device that is played at a hub. */
class Simulation {
  readonly #io: Io;
  readonly #hub: Hub;
  readonly #device: SimulatedDevice;
  readonly #teller: Teller;
  readonly #terms: Terms;
  /** Rejects when the hub wants no more of it. */
  readonly #over = Promise.withResolvers<never>();
  #commands = 0;
  #linked = false;
  #timer: Timer | undefined;

  constructor(io: Io, hub: Hub, device: SimulatedDevice, teller: Teller, terms: Terms) {
    this.#io = io;
    this.#hub = hub;
    this.#device = device;
    this.#teller = teller;
    this.#terms = terms;
    // It may be over before anybody waits for that.
    this.#over.promise.catch(() => undefined);
  }

  async run(): Promise<ExitCode> {
    const { nodeId, keep } = this.#terms;
    const begunAt = this.#io.clock.mono();
    await this.#mustBeFree();
    if (this.#io.stopped.aborted) {
      this.#teller.ends("ends; it was not registered");
      return EXIT.ok;
    }
    this.#teller.begins(keep);
    const updater = this.#hub.updater({
      nodes: [nodeOf(this.#device, nodeId)],
      onLink: (failure, willRetry) => this.#link(failure, willRetry, false),
      onRefused: ({ failure }) => this.#over.reject(refusedAs(nodeId, failure)),
    });
    for (const [key, value] of this.#device.state) updater.set(nodeId, key, value);
    const executor = this.#serve(updater);
    this.#tick(updater);
    try {
      await Promise.race([this.#stopped(), this.#over.promise]);
    } finally {
      this.#timer?.cancel();
      executor.close();
    }
    const lived = `answered ${count(this.#commands, "command")} in ${duration(this.#io.clock.mono() - begunAt)}`;
    this.#teller.ends(`ends: it ${lived}; ${await this.#leave()}`);
    return EXIT.ok;
  }

  #stopped(): Promise<void> {
    return new Promise((resolve) => whenAborted(this.#io.stopped, () => resolve()));
  }

  /** mustBeFree waits for the hub, and refuses to take the place of a real device. Throws CliError and FoedusError. */
  async #mustBeFree(): Promise<void> {
    const { nodeId, place } = this.#terms;
    for (let waitMs = RETRY_FIRST_MS; !this.#io.stopped.aborted; waitMs = Math.min(2 * waitMs, RETRY_MOST_MS)) {
      try {
        const request = { $typeName: "foedus.registry_sync.v1alpha1.GetNodeRequest", name: nameOf(place.hubId, nodeId) } as const;
        const { record } = await this.#hub.clients.registry.getNode(request, { signal: this.#io.stopped });
        if (own(record?.node?.labels ?? {}, SIMULATED) !== undefined) return;
        throw new CliError(
          EXIT.failed,
          `${clean(place.hubId)} has a node ${clean(nodeId)} that is not a simulated one`,
          "Give another name: `foedus device simulate <name>`.",
        );
      } catch (error) {
        if (this.#io.stopped.aborted) return;
        if (!(error instanceof FoedusError)) throw error;
        if (error.failure.reason === "NODE_NOT_FOUND") return;
        if (exitCodeOf(error) !== EXIT.connect && exitCodeOf(error) !== EXIT.timeout) throw error;
        this.#teller.away(error.failure.message, "If the hub does not run, start it: `foedus hub` in its folder.");
        await this.#wait(waitMs);
      }
    }
  }

  /** wait lets time pass, or ends at once when it is stopped. */
  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#io.clock.setTimer(ms, resolve);
      whenAborted(this.#io.stopped, () => {
        timer.cancel();
        resolve();
      });
    });
  }

  #serve(updater: Updater): { close(): void } {
    const { nodeId } = this.#terms;
    return this.#hub.serve({
      nodeIds: [nodeId],
      run: ({ capability, value, callerHubId }) => {
        const reaction = this.#device.invoke(capability, value);
        const invoked = { capability, value, callerHubId };
        if ("failure" in reaction) {
          this.#teller.refused(invoked, reaction.failure);
          return { failure: reaction.failure };
        }
        this.#commands++;
        this.#report(updater, reaction.changes);
        this.#teller.ran(invoked, reaction.changes);
        return { value: reaction.value };
      },
      onAttached: (_nodes, refused) => {
        const [failure] = refused;
        if (failure !== undefined) return this.#over.reject(refusedAs(nodeId, failure));
        this.#link(undefined, true, true);
      },
      onDetached: (failure, willRetry) => this.#link(failure, willRetry, true),
    });
  }

  /** link is told how a stream is connected; whether commands come is what counts. */
  #link(failure: Failure | undefined, willRetry: boolean, commands: boolean): void {
    if (failure !== undefined && !willRetry) return this.#over.reject(new FoedusError(failure));
    if (this.#io.stopped.aborted || !commands) return;
    this.#linked = failure === undefined;
    if (failure === undefined) this.#teller.connected();
    else this.#teller.away(`${clean(this.#terms.place.hubId)} is away (${failure.message})`);
  }

  #report(updater: Updater, changes: readonly Change[]): void {
    try {
      for (const { key, value } of changes) updater.set(this.#terms.nodeId, key, value);
    } catch (error) {
      // Nothing is sent any more, and the link says why.
      this.#over.reject(error);
    }
  }

  #tick(updater: Updater): void {
    this.#timer = this.#io.clock.setTimer(STEP_MS, () => {
      const changes = this.#device.step();
      this.#report(updater, changes);
      this.#teller.reads(changes);
      this.#teller.passes();
      this.#tick(updater);
    });
  }

  /** leave takes the device out of the registry, and says what the hub has of it from now on. */
  async #leave(): Promise<string> {
    const { nodeId, place, keep } = this.#terms;
    const hubId = clean(place.hubId);
    const kept = `${hubId} keeps it, as offline, with its last state`;
    if (keep) return kept;
    if (!this.#linked) return `${hubId} is away and was not told, so it keeps it, as offline`;
    const late = Promise.withResolvers<string>();
    const timer = this.#io.clock.setTimer(FORGET_MS, () => late.resolve(`${hubId} did not answer in time, so it may keep it`));
    const gone = this.#hub.deregister(nodeId).then(
      () => `${hubId} no longer has it`,
      (error: unknown) => `${kept}, for it could not be told: ${clean(error instanceof Error ? error.message : String(error))}`,
    );
    try {
      return await Promise.race([gone, late.promise]);
    } finally {
      timer.cancel();
    }
  }
}

/** refusedAs names the node in what a hub says of one; there is no field that anybody typed. */
function refusedAs(nodeId: string, { reason, message }: Failure): FoedusError {
  return fail(reason, `${nodeId} was refused: ${message}`);
}

const nameOf = (hubId: string, nodeId: string) => ({ $typeName: "foedus.common.v1.NodeName", hubId, nodeId }) as const;
