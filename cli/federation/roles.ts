import { create } from "@bufbuild/protobuf";
import { type MemberEndpoint, MemberEndpointSchema } from "#gen/foedus/coordination/v1alpha1/members_pb.ts";
import {
  CheckRoleRequestSchema,
  ListRolesRequestSchema,
  ListRolesResponseSchema,
  SetEndpointsRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/roles_pb.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount } from "../parse.ts";
import { clean } from "../print/format.ts";
import { table } from "../print/table.ts";
import { addressText } from "../reach/address.ts";
import { connect } from "../reach/connect.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** LocalFlags say whether this hub answers by itself. */
export interface LocalFlags extends OperatorFlags {
  readonly local?: boolean;
}

/** roles lists who has which role of the federation, with the fence of each. */
export async function roles(io: Io, _args: readonly string[], options: LocalFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const request = create(ListRolesRequestSchema, { local: options.local ?? false });
  const answer = await connection.coordination.listRoles(request, { signal: io.stopped });
  if (options.json) await printJson(io, messageJson(ListRolesResponseSchema, answer));
  else if (options.quiet) await io.out(answer.roles.map(({ role, hubId }) => `${clean(role)} ${clean(hubId)}\n`).join(""));
  else
    await io.out(
      table(
        io,
        [{ title: "ROLE" }, { title: "HUB" }, { title: "FENCE", align: "right" }, { title: "STANDBYS", flexible: true }],
        answer.roles.map(({ role, hubId, fence, standbys }) => [role, hubId, String(fence), standbys.join(", ")]),
      ),
    );
  return EXIT.ok;
}

/** check tells whether the hub has a role with a fence: exit code 1 if it may not act in it. */
export async function check(io: Io, [role = "", fence = ""]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  await connection.coordination.checkRole(create(CheckRoleRequestSchema, { role, fence: BigInt(parseCount(fence)) }), {
    signal: io.stopped,
  });
  if (options.json) await printJson(io, { role, fence });
  else if (!options.quiet) await io.out(`the hub may act as ${clean(role)} with fence ${clean(fence)}\n`);
  return EXIT.ok;
}

/** standbys lists where members are reached now, and where else they can be. */
export async function standbys(io: Io, _args: readonly string[], options: LocalFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const request = create(ListRolesRequestSchema, { local: options.local ?? false });
  const answer = await connection.coordination.listRoles(request, { signal: io.stopped });
  if (options.json) await printJson(io, messageJson(ListRolesResponseSchema, answer));
  else
    await io.out(
      table(
        io,
        [{ title: "HUB" }, { title: "REACHED AT" }, { title: "FENCE", align: "right" }, { title: "STANDBYS", flexible: true }],
        answer.endpoints.map(({ hubId, endpoint, dialled, fence, standbys: others }) => [
          hubId,
          `${shown(endpoint)}${dialled === 0 ? "" : ` (standby ${dialled})`}`,
          String(fence),
          others.map(shown).join(", "),
        ]),
      ),
    );
  return EXIT.ok;
}

/** setStandbys says where the hub is reached when it has failed; none takes them away. */
export async function setStandbys(
  io: Io,
  addresses: readonly string[],
  options: OperatorFlags & { readonly primary?: string },
): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const primary = options.primary === undefined ? {} : { primary: endpointOf(options.primary) };
  const request = create(SetEndpointsRequestSchema, { ...primary, standbys: addresses.map(endpointOf) });
  const { fence } = await connection.coordination.setEndpoints(request, { signal: io.stopped });
  if (options.json) await printJson(io, { fence: String(fence) });
  else if (!options.quiet) await io.out(`decided, with fence ${fence}\n`);
  return EXIT.ok;
}

function shown(endpoint: MemberEndpoint | undefined): string {
  return endpoint === undefined ? "" : addressText(endpoint.host, endpoint.port);
}

function endpointOf(text: string): MemberEndpoint {
  const [, bracketed, plain, port = ""] = /^(?:\[([^\]]+)\]|([^:\s]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535)
    throw new CliError(EXIT.usage, `${clean(text)} is no address`, "Write host:port, or [address]:port for IPv6.");
  return create(MemberEndpointSchema, { host, port: Number(port) });
}
