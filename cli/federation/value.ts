import { create } from "@bufbuild/protobuf";
import {
  ChangeValueRequestSchema,
  GetValueRequestSchema,
  ListValuesRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { type AgreedValue, AgreedValueSchema } from "#gen/foedus/coordination/v1alpha1/values_pb.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseValueKey } from "../parse.ts";
import { clean, duration } from "../print/format.ts";
import { table } from "../print/table.ts";
import { connect } from "../reach/connect.ts";
import { everyPage } from "../reach/pages.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** ChangeFlags are the options of what changes a value. */
export interface ChangeFlags extends OperatorFlags {
  readonly ifVersion?: string;
}

const text = ({ value }: AgreedValue): string => clean(new TextDecoder().decode(value));

/** get shows an agreed value: confirmed by who leads, or as this hub has it. */
export async function get(
  io: Io,
  [typed = ""]: readonly string[],
  options: OperatorFlags & { readonly local?: boolean },
): Promise<ExitCode | undefined> {
  const key = parseValueKey(typed);
  using connection = await connect(options, io);
  const request = create(GetValueRequestSchema, { key, local: options.local ?? false });
  const { value, ageMs } = await connection.coordination.getValue(request, { signal: io.stopped });
  if (value === undefined)
    throw new CliError(EXIT.notFound, `there is no value ${clean(key)}`, "List the values with `foedus federation value list`.");
  if (options.json) await printJson(io, { value: messageJson(AgreedValueSchema, value) });
  else await io.out(`${text(value)}\n`);
  if (options.local === true && options.json !== true && options.quiet !== true)
    io.note(`version ${value.version}, ${duration(ageMs)} old at most\n`);
  return EXIT.ok;
}

/** list lists agreed values as this hub has them. */
export async function list(io: Io, [prefix = ""]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const request = (after: string) => create(ListValuesRequestSchema, { prefix, after });
  const pages = await everyPage("values", (after) => connection.coordination.listValues(request(after), { signal: io.stopped }));
  const values = pages.flatMap((page) => page.values);
  const ageMs = pages[0]?.ageMs ?? 0n;
  if (options.json) await printJson(io, { values: values.map((value) => messageJson(AgreedValueSchema, value)) });
  else if (options.quiet) await io.out(values.map(({ key }) => `${clean(key)}\n`).join(""));
  else if (values.length === 0) io.note("there are no agreed values yet: `foedus federation value set` sets one\n");
  else {
    const columns = [{ title: "KEY" }, { title: "VERSION", align: "right" }, { title: "BY" }, { title: "VALUE", flexible: true }] as const;
    await io.out(
      table(
        io,
        columns,
        values.map((value) => [value.key, String(value.version), value.author, text(value)]),
      ),
    );
    io.note(`${duration(ageMs)} old at most\n`);
  }
  return EXIT.ok;
}

/** set sets an agreed value; it is decided when this returns. */
export async function set(io: Io, [key = "", value = ""]: readonly string[], options: ChangeFlags): Promise<ExitCode | undefined> {
  return change(io, options, {
    case: "put",
    value: { key: parseValueKey(key), value: new TextEncoder().encode(value), ...condition(options, 0) },
  });
}

/** remove deletes an agreed value. */
export async function remove(io: Io, [key = ""]: readonly string[], options: ChangeFlags): Promise<ExitCode | undefined> {
  return change(io, options, { case: "delete", value: { key: parseValueKey(key), ...condition(options, 1) } });
}

/** condition is that a value has a version, of at least `least`: 0 is that of a value that is not there. */
function condition({ ifVersion }: ChangeFlags, least: 0 | 1): { readonly conditional: boolean; readonly expect: bigint } {
  return { conditional: ifVersion !== undefined, expect: ifVersion === undefined ? 0n : BigInt(parseCount(ifVersion, least)) };
}

type Change = NonNullable<NonNullable<Parameters<typeof create<typeof ChangeValueRequestSchema>>[1]>["change"]>["change"];

async function change(io: Io, options: ChangeFlags, of: NonNullable<Change>): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const { version } = await connection.coordination.changeValue(create(ChangeValueRequestSchema, { change: { change: of } }), {
    signal: io.stopped,
  });
  if (options.json) await printJson(io, { version: Number(version) });
  else if (!options.quiet) await io.out(`decided, version ${version}\n`);
  return EXIT.ok;
}
