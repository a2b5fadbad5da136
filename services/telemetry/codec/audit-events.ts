import { create } from "@bufbuild/protobuf";
import type { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { CommandAuditSchema, type CommandWay } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import { type Event, EventKind, EventSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { printable } from "#kernel/printable.ts";
import { clipText } from "#kernel/wire/bytes.ts";
import { WireError } from "#kernel/wire/proto-reader.ts";
import type { HappeningFilter, SeverityGrade } from "../messages.ts";
import { type AuditHead, type AuditRow, readAuditHead, readAuditRow } from "./audit-reader.ts";
import { shownValue } from "./shown-value.ts";

/** Numbers of the outcomes and ways in the schema. */
const OUTCOMES = ["", "done", "failed", "rejected", "expired", "unknown"] as const;
const DONE = 1;
const UNKNOWN = 5;
const WAY = { FORWARDED: 2, RECEIVED: 3 } as const;

const TEXT_BYTES = 1_024;
/** Kind and severity of these events, and the service that tells of them. */
const SERVICE = "command-forwarding";

/** severityOf an audit record: what may have to be looked after is a warning. */
export function severityOf(outcome: number): SeverityGrade {
  return outcome === UNKNOWN || outcome === 0 ? 3 : 2;
}

/** Caller is who sent a command: what of a SPIFFE id or of a hub people read. */
interface Caller {
  readonly name: string;
  readonly hub: string;
}

function callerOf(text: string, way: number, ownHub: string): Caller {
  if (way === WAY.RECEIVED) return { name: `hub/${text}`, hub: text };
  const spiffe = /^spiffe:\/\/([^/]+)\/(.+)$/u.exec(text);
  if (spiffe !== null) return { name: spiffe[2] as string, hub: spiffe[1] as string };
  return { name: text.replace(/^automation:/u, "automation/"), hub: ownHub };
}

/** AuditFrame is a batch that is read record by record. */
export class AuditFrame {
  readonly head: AuditHead;
  readonly #bytes: Uint8Array;
  readonly #hubId: string;

  /** `hubId` is this hub's: records do not repeat it. */
  constructor(bytes: Uint8Array, hubId: string) {
    this.#bytes = bytes;
    this.#hubId = hubId;
    this.head = readAuditHead(bytes);
  }

  /** events are those that match, with positions from `first` on, of which those before `from` are left out. */
  *events(first: number, from: number, filter: HappeningFilter): Generator<Event> {
    const { count, records } = this.head;
    if (filter.kinds.length > 0 && !filter.kinds.includes(EventKind.COMMAND)) return;
    for (let i = Math.max(0, from - first); i < count; i++) {
      const row = rowOf(this.#bytes, records[2 * i] as number, records[2 * i + 1] as number);
      if (row !== undefined && this.#matches(row, filter)) yield this.#event(first + i, this.head.first + i, row);
    }
  }

  #text(place: number): string {
    return place === 0 ? "" : (this.head.texts[place - 1] ?? "");
  }

  #matches(row: AuditRow, filter: HappeningFilter): boolean {
    const { outcome, wallMs } = row;
    if (severityOf(outcome) < filter.minSeverity) return false;
    if (filter.outcomes.length > 0 && !filter.outcomes.includes(outcome)) return false;
    if (wallMs < filter.sinceMs || (filter.untilMs > 0 && wallMs >= filter.untilMs)) return false;
    if (filter.node !== "" && this.#node(row) !== filter.node) return false;
    if (filter.peer !== "" && this.#peer(row) !== filter.peer) return false;
    if (filter.caller !== "" && !isCaller(this.#text(row.caller), filter.caller, row.way)) return false;
    return filter.command === "" || this.#name(row) === filter.command || this.#text(row.key) === filter.command;
  }

  #node({ hub, node }: AuditRow): string {
    const owner = this.#text(hub);
    const name = this.#text(node);
    return owner === "" || name === "" ? name : `${owner}/${name}`;
  }

  #peer({ way, hub, caller }: AuditRow): string {
    return way === WAY.FORWARDED ? this.#text(hub) : way === WAY.RECEIVED ? this.#text(caller) : "";
  }

  #name({ way, caller, nameEpoch, nameNumber }: AuditRow): string {
    if (nameNumber === 0 && way !== WAY.RECEIVED) return "";
    return `${way === WAY.RECEIVED ? this.#text(caller) : this.#hubId}/${nameEpoch}/${nameNumber}`;
  }

  #event(seq: number, number: number, row: AuditRow): Event {
    const { way, outcome, suppressed } = row;
    const caller = callerOf(this.#text(row.caller), way, this.#hubId);
    const value = row.hidden ? "" : shownValue(row.value, row.valueBytes > 0);
    const capability = this.#text(row.capability);
    const reason = this.#text(row.reason);
    return create(EventSchema, {
      seq: BigInt(seq),
      wallMs: BigInt(row.wallMs),
      kind: EventKind.COMMAND,
      severity: severityOf(outcome),
      service: SERVICE,
      peer: this.#peer(row),
      node: clipText(this.#node(row), 127),
      text: clipText(this.#sentence(row, caller.name, value), TEXT_BYTES),
      command: create(CommandAuditSchema, {
        caller: caller.name,
        callerHub: caller.hub,
        way: way as CommandWay,
        capability,
        value,
        valueHidden: row.hidden,
        valueBytes: row.valueBytes,
        outcome: outcome as Outcome,
        reason,
        durationUs: BigInt(row.durationUs),
        name: this.#name(row),
        key: this.#text(row.key),
        suppressed: BigInt(suppressed),
        number: BigInt(number),
      }),
    });
  }

  /** sentence is the event for people. Names and reasons come from others: nothing in them can pass for anything but text. */
  #sentence(row: AuditRow, name: string, value: string): string {
    const who = printable(name === "" ? "somebody" : name);
    if (row.suppressed > 0) return `${row.suppressed} more refused commands of ${who} were counted only`;
    const why = [this.#text(row.reason), this.#text(row.message)].filter((text) => text !== "").map(printable);
    const because = row.outcome === DONE || why.length === 0 ? "" : ` (${why.join(": ")})`;
    const node = this.#node(row);
    if (node === "" && row.nameNumber > 0) return `${who}: command ${printable(this.#name(row))}: ${OUTCOMES[row.outcome] ?? ""}${because}`;
    if (node === "") return `a command of ${who} was refused before it was read${because}`;
    const given = row.hidden ? " = (hidden)" : value === "" ? "" : ` = ${value}`;
    return `${who}: ${printable(this.#text(row.capability))} of ${printable(node)}${given}: ${OUTCOMES[row.outcome] ?? ""}${because}`;
  }
}

/** rowOf reads a record; one that cannot be read is none: nobody writes any but this software, and others must still be found. */
function rowOf(bytes: Uint8Array, from: number, to: number): AuditRow | undefined {
  try {
    return readAuditRow(bytes, from, to);
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

/** isCaller tells whether a caller is the one that is asked for: all of it, or its end after a slash. */
function isCaller(text: string, wanted: string, way: number): boolean {
  if (text === wanted || text.endsWith(`/${wanted}`)) return true;
  if (way === WAY.RECEIVED) return `hub/${text}` === wanted;
  return text.startsWith("automation:") && (text.slice("automation:".length) === wanted || text.replace(":", "/") === wanted);
}
