import { create } from "@bufbuild/protobuf";
import { type LinkReport, LinkReportSchema, ListLinkCountersRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { ago, bytes, clean } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { connect } from "../reach/connect.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** run shows the counters of each link since its service started (S3-22). */
export async function run(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const { links } = await connection.telemetry.listLinkCounters(create(ListLinkCountersRequestSchema), { signal: io.stopped });
  if (options.json) await printJson(io, { links: links.map((link) => messageJson(LinkReportSchema, link)) });
  else if (options.quiet) await io.out(links.map(({ peer, mount }) => `${clean(peer)} ${mount}\n`).join(""));
  else if (links.length === 0) io.note("no links: there was no session with a peer yet\n");
  else await io.out(linksText(io, links));
  return EXIT.ok;
}

function linksText(io: Io, links: readonly LinkReport[]): string {
  const right = "right" as const;
  const columns = [
    { title: "PEER" },
    { title: "MOUNT" },
    { title: "IN", align: right },
    { title: "OUT", align: right },
    { title: "FRAMES IN", align: right },
    { title: "FRAMES OUT", align: right },
    { title: "READY", align: right },
    { title: "FAILED", align: right },
    { title: "WAITED", align: right },
    { title: "LAST FRAME", align: right },
    { title: "LAST EVENT", flexible: true, prose: true },
  ];
  const rows = links.map((link): Cell[] => [
    link.peer,
    link.mount,
    bytes(link.bytesIn),
    bytes(link.bytesOut),
    link.framesIn.toLocaleString("en-US"),
    link.framesOut.toLocaleString("en-US"),
    link.ready.toLocaleString("en-US"),
    { text: link.fatal.toLocaleString("en-US"), style: link.fatal > 0n ? "yellow" : undefined },
    { text: `${link.backpressure.toLocaleString("en-US")}${link.waiting ? " (now)" : ""}`, style: link.waiting ? "yellow" : undefined },
    link.framesIn === 0n ? "-" : ago(link.lastFrameAgeMs),
    link.lastEvent,
  ]);
  return table(io, columns, rows);
}
