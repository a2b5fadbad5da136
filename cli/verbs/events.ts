import { create } from "@bufbuild/protobuf";
import { type Outcome, OutcomeSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import {
  type Event,
  type EventFilter,
  EventFilterSchema,
  EventKindSchema,
  EventSchema,
  ListEventsRequestSchema,
  Severity,
  SeveritySchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { Hub } from "../../clients/typescript/hub.ts";
import { EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseDuration } from "../parse.ts";
import { follow, followOptions } from "../print/follow.ts";
import { clean, count, enumLabels, enumValue, label, since } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { type Connection, connect } from "../reach/connect.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { clockTime } from "./watch.ts";

/** EventFlags are the options of `events`. */
export interface EventFlags extends OperatorFlags {
  readonly follow?: boolean;
  readonly kind?: readonly string[];
  readonly severity?: string;
  readonly peer?: string;
  readonly node?: string;
  readonly caller?: string;
  readonly outcome?: readonly string[];
  readonly command?: string;
  readonly since?: string;
  readonly until?: string;
  readonly limit?: string;
}

const DEFAULT_LIMIT = 50;
/** Events shown before the new ones when following. */
const FOLLOW_LIMIT = 10;
const PAGE_MAX = 1_000;

/** Debug events are for who asks for them. */
const DEFAULT_SEVERITY = Severity.INFO;

/** ago is a date so long before now, Unix ms. */
function ago(io: Io, duration: string | undefined): bigint {
  return duration === undefined ? 0n : BigInt(Math.max(0, Math.round(io.clock.wall() - parseDuration(duration))));
}

function outcomesOf(flags: EventFlags): Outcome[] {
  return (flags.outcome ?? []).map((text) => {
    const outcome = enumValue(OutcomeSchema, text);
    if (outcome === undefined) throw usage(`there is no outcome "${text}"`, `Outcomes are ${enumLabels(OutcomeSchema).join(", ")}.`);
    return outcome;
  });
}

function filterOf(io: Io, flags: EventFlags): EventFilter {
  const kinds = (flags.kind ?? []).map((text) => {
    const kind = enumValue(EventKindSchema, text);
    if (kind === undefined) throw usage(`there is no kind of event "${text}"`, `Kinds are ${enumLabels(EventKindSchema).join(", ")}.`);
    return kind;
  });
  const minSeverity = flags.severity === undefined ? DEFAULT_SEVERITY : enumValue(SeveritySchema, flags.severity);
  if (minSeverity === undefined)
    throw usage(`there is no severity "${flags.severity}"`, `Severities are ${enumLabels(SeveritySchema).join(", ")}.`);
  return create(EventFilterSchema, {
    kinds,
    minSeverity,
    peer: flags.peer ?? "",
    node: flags.node ?? "",
    caller: flags.caller ?? "",
    outcomes: outcomesOf(flags),
    command: flags.command ?? "",
    sinceMs: ago(io, flags.since),
    untilMs: ago(io, flags.until),
  });
}

/** run lists the newest events, oldest first, and with --follow goes on with new ones. */
export async function run(io: Io, _args: readonly string[], options: EventFlags): Promise<ExitCode | undefined> {
  const filter = filterOf(io, options);
  const limit = options.limit === undefined ? (options.follow ? FOLLOW_LIMIT : DEFAULT_LIMIT) : parseCount(options.limit);
  using connection = await connect(options, io);
  const events = (await list(connection, filter, limit, io.stopped)).reverse();
  if (options.follow) await followEvents(io, connection, filter, events, options);
  else if (options.json) await printJson(io, { events: events.map((event) => messageJson(EventSchema, event)) });
  else if (events.length === 0) io.note("no events\n");
  else await io.out(listText(io, events));
  return EXIT.ok;
}

/** list gets events newest first. */
async function list(connection: Connection, filter: EventFilter, limit: number, signal: AbortSignal): Promise<Event[]> {
  const events: Event[] = [];
  let beforeSeq = 0n;
  do {
    const request = create(ListEventsRequestSchema, { filter, pageSize: Math.min(PAGE_MAX, limit - events.length), beforeSeq });
    const page = await connection.telemetry.listEvents(request, { signal });
    events.push(...page.events);
    beforeSeq = page.nextBeforeSeq;
  } while (beforeSeq !== 0n && events.length < limit);
  return events;
}

async function followEvents(
  io: Io,
  connection: Connection,
  filter: EventFilter,
  known: readonly Event[],
  options: EventFlags,
): Promise<void> {
  const print = async (event: Event): Promise<void> => {
    if (options.json) await printJson(io, messageJson(EventSchema, event), "line");
    else await io.out(lineText(io, event));
  };
  for (const event of known) await print(event);
  const newest = known.at(-1)?.seq ?? 0n;
  const stream = Hub.over(connection).events({
    ...followOptions(io),
    filter,
    // Without one only new ones come, which is what is wanted when nothing matched so far.
    ...(newest === 0n ? {} : { fromSeq: newest + 1n }),
    onMissed: (missed) => io.note(`${count(missed, "event")} missed\n`),
  });
  await follow(io, stream, print);
}

function severityCell(severity: Severity): Exclude<Cell, string> {
  const style =
    severity === Severity.ERROR ? "red" : severity === Severity.WARNING ? "yellow" : severity === Severity.DEBUG ? "dim" : undefined;
  return { text: label(SeveritySchema, severity || Severity.INFO), style };
}

function aboutText({ peer, node }: Event): string {
  return node || peer || "-";
}

function listText(io: Io, events: readonly Event[]): string {
  const columns = [
    { title: "WHEN" },
    { title: "SEVERITY" },
    { title: "KIND" },
    { title: "SERVICE" },
    { title: "ABOUT" },
    { title: "WHAT", flexible: true, prose: true },
  ];
  const nowWall = io.clock.wall();
  const rows = events.map((event): Cell[] => [
    since(event.wallMs, nowWall),
    severityCell(event.severity),
    label(EventKindSchema, event.kind),
    event.service,
    aboutText(event),
    event.text,
  ]);
  return table(io, columns, rows);
}

/** A followed event is printed the moment it happens, so it has a time and not an age. */
function lineText(io: Io, event: Event): string {
  const { text, style } = severityCell(event.severity);
  const severity = text.padEnd(7);
  const parts = [
    clockTime(Number(event.wallMs)),
    style === undefined ? severity : io.style(style, severity),
    label(EventKindSchema, event.kind),
    aboutText(event),
    event.text,
  ];
  return `${parts.map((part, i) => (i === 1 ? part : clean(part))).join("  ")}\n`;
}
