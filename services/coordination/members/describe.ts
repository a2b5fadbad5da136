import { endpointOf } from "./failures.ts";
import type { Endpoint, Member, MembersDump, PolicyValue } from "./messages.ts";
import { keyInForce } from "./roster.ts";

/** showEndpoint writes an endpoint as it is dialled. */
export function showEndpoint({ host, port }: Endpoint): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** showPolicy writes the value of a policy. */
export function showPolicy(value: PolicyValue): string {
  if (value.kind === "int") return String(value.value);
  return value.kind === "fraction" ? `more than ${value.numerator}/${value.denominator}` : value.words.join(", ");
}

function describeMember(member: Member): string {
  const { hubId, incarnation, weight, life, fence, dampedUntil, accusations } = member;
  const words = [
    `${hubId}/${incarnation}`,
    member.voter ? "voter" : member.ready ? "learner" : "learner, not ready",
    `weight ${weight}`,
    `key ${keyInForce(member).serial}`,
    `at ${showEndpoint(endpointOf(member))} fence ${fence}`,
    `life ${life}`,
  ];
  if (member.failed) words.push("FAILED");
  if (dampedUntil > 0) words.push(`damped until ${dampedUntil}`);
  if (accusations.length > 0) words.push(`accused by ${accusations.map(({ by }) => by).join(", ")}`);
  return words.join("  ");
}

/** describeMembers draws a book of members. */
export function describeMembers(dump: MembersDump, leader: string | undefined): string {
  const founding = dump.founding?.founding;
  if (founding === undefined) return "no founding entry";
  const { federationId, name, engine, admission } = founding;
  return [
    `federation ${federationId} (${name})  ${engine}  admission by ${admission}  leader ${leader ?? "nobody"}`,
    ...dump.members.map(describeMember),
    ...dump.joins.map(
      ({ candidate, sponsor, expires }) => `${candidate.hubId}/${candidate.incarnation} asks to join, by ${sponsor}, until ${expires}`,
    ),
    ...dump.retired.map(({ hubId, incarnation }) => `${hubId} is gone, last incarnation ${incarnation}`),
    ...dump.roles.map(({ role, hubId, standbys, fence }) => `role ${role}: ${[hubId, ...standbys].join(", then ")}  fence ${fence}`),
    ...dump.policies.map(({ key, value, version }) => `policy ${key} v${version}: ${showPolicy(value)}`),
  ].join("\n");
}
