import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { ListEventsRequestSchema, type TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { EventReport, EventSink } from "#runtime/events.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import { EventForwarder } from "../../services/hub/events.ts";
import { createTelemetry, telemetryConfig } from "../../services/telemetry/index.ts";
import { SILENT } from "./host.ts";

/** Field by which an event is known again. */
const ID = "simulated";
const PAGE = 1_000;

/** SimTelemetryOptions are what the telemetry of one process is made of. */
export interface SimTelemetryOptions {
  readonly platform: Omit<Platform, "events">;
  /** connect makes the client by which this process calls its own telemetry. */
  readonly connect: (module: ServiceModule) => ClientOf<typeof TelemetryService>;
  readonly onFatal: (error: unknown) => void;
}

/** SimTelemetry is the shipping telemetry service of one process, with what takes the events of the other services to it. */
export class SimTelemetry {
  readonly #forwarder: EventForwarder;
  readonly #module: ServiceModule;
  readonly #client: ClientOf<typeof TelemetryService>;
  readonly #incarnation: number;
  #reported = 0;

  constructor({ platform, connect, onFatal }: SimTelemetryOptions) {
    const { clock, incarnation } = platform;
    this.#incarnation = incarnation;
    this.#forwarder = new EventForwarder({ clock, log: SILENT, metrics: new Registry() });
    const events: EventSink = { report: () => undefined };
    this.#module = createTelemetry({ platform: { ...platform, events }, config: telemetryConfig.parse({}), onFatal });
    this.#client = connect(this.#module);
  }

  async start(): Promise<void> {
    await this.#module.start();
    this.#forwarder.connect(this.#client);
  }

  /** sink takes what a service reports. Each report has a number of its own, so that one that is kept twice is seen. */
  sink(service: string): EventSink {
    const sink = this.#forwarder.sink(service);
    return {
      report: (event: EventReport) =>
        sink.report({ ...event, fields: { ...event.fields, [ID]: `${this.#incarnation}/${++this.#reported}` } }),
    };
  }

  /** kept are the names of all events that are kept, newest first. */
  async kept(): Promise<string[]> {
    const names: string[] = [];
    for (let beforeSeq = 0n; ; ) {
      const { events, nextBeforeSeq } = await this.#client.listEvents(create(ListEventsRequestSchema, { pageSize: PAGE, beforeSeq }));
      for (const event of events) if (event.fields[ID] !== undefined) names.push(`${event.fields[ID]} (${event.text})`);
      if (nextBeforeSeq === 0n) return names;
      beforeSeq = nextBeforeSeq;
    }
  }

  async stop(graceMs: number): Promise<void> {
    await this.#forwarder.stop();
    await this.#module.stop(graceMs);
  }
}
