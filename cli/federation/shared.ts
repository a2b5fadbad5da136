import { create } from "@bufbuild/protobuf";
import { SharedKind, SharedKindSchema } from "#gen/foedus/coordination/v1alpha1/shared_pb.ts";
import {
  ListSharedRequestSchema,
  type ListSharedResponse,
  ListSharedResponseSchema,
  type SharedFact,
} from "#gen/foedus/coordination/v1alpha1/sharing_pb.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseWord } from "../parse.ts";
import { clean, label, since } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { connect } from "../reach/connect.ts";
import { everyPage } from "../reach/pages.ts";
import { amountsText } from "../resources/text.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";

const KINDS: Readonly<Record<string, SharedKind>> = {
  swarms: SharedKind.SWARMS,
  resources: SharedKind.RESOURCES,
  allocations: SharedKind.ALLOCATIONS,
  policies: SharedKind.POLICIES,
  facts: SharedKind.FACTS,
};

/** shared lists what hubs tell each other beside the log. */
export async function shared(io: Io, [word = ""]: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const kind = word === "" ? SharedKind.UNSPECIFIED : parseWord(KINDS, word, "kind of shared state");
  const request = (after: string) => create(ListSharedRequestSchema, { kind, after });
  const pages = await everyPage("shared state", (after) => connection.coordination.listShared(request(after), { signal: io.stopped }));
  const answer = { ...(pages[0] as ListSharedResponse), facts: pages.flatMap(({ facts }) => facts), next: "" };
  if (options.json) await printJson(io, messageJson(ListSharedResponseSchema, answer));
  else if (options.quiet) await io.out(answer.facts.map(({ key }) => `${clean(key)}\n`).join(""));
  else if (answer.facts.length === 0) io.note("no hub has said anything yet\n");
  else {
    const rows = answer.facts.map((fact): Cell[] => [
      label(SharedKindSchema, fact.kind),
      fact.key,
      fact.hubId,
      since(fact.saidAt, io.clock.wall()),
      valueText(fact),
    ]);
    const columns = [{ title: "KIND" }, { title: "KEY" }, { title: "BY" }, { title: "SAID" }, { title: "VALUE", flexible: true }] as const;
    await io.out(table(io, columns, rows));
  }
  return EXIT.ok;
}

function valueText({ value }: SharedFact): string {
  switch (value.case) {
    case "swarm": {
      const { offers, lent, borrowed, load, inContact, agentsMax } = value.value;
      const room = agentsMax > 0n ? `, room for ${agentsMax} agents` : "";
      return `${offers} offers, ${lent} lent, ${borrowed} borrowed, load ${Number(load) / 10} %, ${inContact} in contact${room}`;
    }
    case "free":
      return `free: ${amountsText(value.value.free)}, load ${Number(value.value.load) / 10} %`;
    case "data":
      return clean(new TextDecoder().decode(value.value));
    default:
      return "";
  }
}
