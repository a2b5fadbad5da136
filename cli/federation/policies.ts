import { create } from "@bufbuild/protobuf";
import type { PolicyValue } from "#gen/foedus/coordination/v1alpha1/members_pb.ts";
import { ListPoliciesRequestSchema, ListPoliciesResponseSchema } from "#gen/foedus/coordination/v1alpha1/policies_pb.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean, duration } from "../print/format.ts";
import { table } from "../print/table.ts";
import { type Connection, connect } from "../reach/connect.ts";
import { messageJson, printJson } from "../verb.ts";
import type { LocalFlags } from "./roles.ts";

/** policies lists what the federation has decided for all its hubs, with the versions and the defaults. */
export async function policies(io: Io, _args: readonly string[], options: LocalFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const request = create(ListPoliciesRequestSchema, { local: options.local ?? false });
  const answer = await connection.coordination.listPolicies(request, { signal: io.stopped });
  if (options.json) await printJson(io, messageJson(ListPoliciesResponseSchema, answer));
  else if (options.quiet) await io.out(answer.policies.map(({ key }) => `${clean(key)}\n`).join(""));
  else {
    const rows = answer.policies.map(({ key, value, version, defaultValue }) => [
      key,
      policyText(value),
      String(version),
      policyText(defaultValue),
    ]);
    const columns = [{ title: "POLICY" }, { title: "VALUE" }, { title: "VERSION", align: "right" }, { title: "DEFAULT" }] as const;
    await io.out(table(io, columns, rows));
    if (options.local === true) io.note(`${duration(answer.ageMs)} old at most\n`);
  }
  return EXIT.ok;
}

/** versionOf is the version at which a policy is now: what a change of it is based on. 0 for one that the hub does not know. */
export async function versionOf(io: Io, { coordination }: Pick<Connection, "coordination">, key: string): Promise<bigint> {
  const { policies: all } = await coordination.listPolicies(create(ListPoliciesRequestSchema), { signal: io.stopped });
  return all.find((policy) => policy.key === key)?.version ?? 0n;
}

/** policyText writes a value as `foedus federation propose policy` takes it. */
export function policyText(value: PolicyValue | undefined): string {
  switch (value?.kind.case) {
    case "int":
      return String(value.kind.value.value);
    case "fraction":
      return `${value.kind.value.numerator}/${value.kind.value.denominator}`;
    case "words":
      return value.kind.value.words.join(" ");
    default:
      return "";
  }
}
