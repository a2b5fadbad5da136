import { type WatchEvent, WatchEventSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type FeedPosition, FeedPositionSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { RegistryChange } from "../../clients/typescript/change-stream.ts";
import { Hub } from "../../clients/typescript/hub.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseNode } from "../parse.ts";
import { follow, followOptions } from "../print/follow.ts";
import { clean, clockTime, nodeText, valueText } from "../print/format.ts";
import { connect } from "../reach/connect.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { type FilterFlags, filterOf } from "./nodes.ts";

export { clockTime } from "../print/format.ts";

/** WatchFlags are the options of `watch`. */
export type WatchFlags = OperatorFlags & FilterFlags & { readonly snapshot?: boolean; readonly nodesOnly?: boolean };

/** run prints changes of nodes as they happen, until it is stopped. With --snapshot it prints what there is first. */
export async function run(io: Io, [text]: readonly string[], options: WatchFlags): Promise<ExitCode | undefined> {
  const only = text === undefined ? undefined : parseNode(text);
  const filter = filterOf(options);
  if (only !== undefined) {
    filter.nodeIdPrefix = only.nodeId;
    if (only.hubId !== "") filter.hubIds = [only.hubId];
  }
  using connection = await connect(options, io);
  const printer = new Printer(io, options, only);
  const changes = Hub.over(connection).changes({ ...followOptions(io), filter, nodesOnly: options.nodesOnly ?? false });
  await follow(io, changes, (change) => printer.print(change));
  return EXIT.ok;
}

function feedText({ hubId, share }: FeedPosition): string {
  return `${hubId}/${share}`;
}

/** Printer prints changes; what there was before the first bookmark only if asked for. */
class Printer {
  readonly #io: Io;
  readonly #options: WatchFlags;
  readonly #only: string | undefined;
  /** What was asked for, as it was typed. */
  readonly #asked: string;
  /** False until everything that existed was sent. */
  #live: boolean;
  /** What the one node is like at the start: people look for it, since a command that ran before makes no change any more. */
  readonly #now = new Map<string, string>();

  constructor(io: Io, options: WatchFlags, only: ReturnType<typeof parseNode> | undefined) {
    this.#io = io;
    this.#options = options;
    this.#only = only?.nodeId;
    this.#asked = only === undefined ? "" : nodeText(only);
    this.#live = options.snapshot === true;
  }

  print(change: RegistryChange): Promise<void> {
    switch (change.kind) {
      case "event":
        return this.#event(change.event);
      case "current":
        return this.#complete();
      case "reset":
        return this.#feed("reset", change.position, "is sent anew");
      case "gone":
        return this.#feed("gone", change.position, "is no longer shared with this hub");
    }
  }

  async #event(event: WatchEvent): Promise<void> {
    if (!this.#live) return this.#note(event);
    // The hub filters by the beginning of the id; exactly this one is wanted.
    if (this.#only !== undefined && event.name?.nodeId !== this.#only) return;
    if (this.#options.json) await printJson(this.#io, messageJson(WatchEventSchema, event), "line");
    else await this.#line(clean(nodeText(event.name)), changeText(event));
  }

  /** note keeps what the one node is like, of what is sent first. */
  #note({ name, change }: WatchEvent): void {
    if (this.#only === undefined || name?.nodeId !== this.#only) return;
    const { case: kind, value } = change;
    const what = `${clean(nodeText(name))}  ${kind === "put" ? clean([value.type || "node", value.name].join(" ").trim()) : changeText({ change })}`;
    this.#now.set(`${name.hubId} ${kind === "state" ? `state ${value.key}` : kind}`, what);
  }

  #complete(): Promise<void> {
    if (!this.#live) this.#begin();
    this.#live = true;
    return Promise.resolve();
  }

  #begin(): void {
    const told = this.#only !== undefined && this.#options.json !== true;
    if (told && this.#now.size === 0) this.#io.note(`this hub does not know a node ${this.#asked} now\n`);
    if (told) this.#io.note([...this.#now.values()].map((what) => `now       ${what}\n`).join(""));
    this.#now.clear();
    this.#io.note("watching for changes; press Ctrl-C to end\n");
  }

  async #feed(what: "reset" | "gone", position: FeedPosition, text: string): Promise<void> {
    if (!this.#live) return;
    if (this.#options.json) await printJson(this.#io, { [what]: messageJson(FeedPositionSchema, position) }, "line");
    else await this.#line(clean(feedText(position)), text);
  }

  #line(name: string, text: string): Promise<void> {
    const time = this.#options.quiet ? "" : `${this.#io.style("dim", clockTime(this.#io.clock.wall()))}  `;
    return this.#io.out(`${time}${this.#io.style("bold", name)}  ${text}\n`);
  }
}

function changeText({ change }: Pick<WatchEvent, "change">): string {
  switch (change.case) {
    case "put":
      return clean(["registered", change.value.type, change.value.name].filter((part) => part !== "").join(" "));
    case "removed":
      return "removed";
    case "online":
      return change.value ? "online" : "offline";
    case "state":
      return clean(`${change.value.key} = ${valueText(change.value.value)}`);
    default:
      return "changed";
  }
}
