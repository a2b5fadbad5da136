import { create } from "@bufbuild/protobuf";
import { type Feed, FeedSchema, ListFeedsRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { FeedPosition } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { ago, clean } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { connect } from "../reach/connect.ts";
import { freshnessCell, messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** run lists the feeds that the hub holds, own and imported, and how far each peer has the own ones. */
export async function run(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const { feeds } = await connection.registry.listFeeds(create(ListFeedsRequestSchema), { signal: io.stopped });
  if (options.json) await printJson(io, { feeds: feeds.map((feed) => messageJson(FeedSchema, feed)) });
  else if (options.quiet) await io.out(feeds.map(({ head }) => `${clean(nameOf(head))}\n`).join(""));
  else if (feeds.length === 0) io.note("no feeds: nothing is shared in either direction yet\n");
  else await io.out(feedsText(io, feeds));
  return EXIT.ok;
}

function nameOf(position: FeedPosition | undefined): string {
  return position === undefined ? "-" : `${position.hubId}/${position.share}`;
}

/** A position is written epoch:seq; an epoch of 0 holds nothing. */
function positionText(position: FeedPosition | undefined): string {
  return position === undefined || position.epoch === 0n ? "-" : `${position.epoch}:${position.seq}`;
}

function feedsText(io: Io, feeds: readonly Feed[]): string {
  const right = "right" as const;
  const columns = [
    { title: "FEED" },
    { title: "OWNER" },
    { title: "POSITION", align: right },
    { title: "NODES", align: right },
    { title: "ENTRIES", align: right },
    { title: "DROPPED", align: right },
    { title: "FRESHNESS" },
    { title: "CONFIRMED" },
  ];
  const rows = feeds.map((feed): Cell[] => [
    nameOf(feed.head),
    feed.own ? "this hub" : "peer",
    positionText(feed.head),
    feed.nodes.toLocaleString("en-US"),
    feed.entries.toLocaleString("en-US"),
    { text: feed.dropped.toLocaleString("en-US"), style: feed.dropped > 0n ? "yellow" : undefined },
    freshnessCell(feed.freshness),
    ago(feed.ageMs),
  ]);
  const cursors = feeds.flatMap((feed) =>
    feed.cursors.map((cursor): Cell[] => [
      nameOf(feed.head),
      cursor.hubId,
      positionText(cursor.acked),
      cursor.snapshot
        ? { text: "snapshot", style: "yellow" }
        : cursor.lag === 0n
          ? { text: "none", style: "green" }
          : cursor.lag.toLocaleString("en-US"),
    ]),
  );
  const cursorColumns = [{ title: "FEED" }, { title: "PEER" }, { title: "HAS", align: right }, { title: "LAG", align: right }];
  return [table(io, columns, rows), ...(cursors.length === 0 ? [] : [table(io, cursorColumns, cursors)])].join("\n");
}
