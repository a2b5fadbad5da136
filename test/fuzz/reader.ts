import { LIMITS } from "#kernel/bounds/limits.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import { Applier } from "../../services/registry-sync/import/apply.ts";
import { FeedTable } from "../../services/registry-sync/table/table.ts";
import { ANY_NODE, type TestHub } from "../fakes/registry-hub.ts";
import { PEER } from "./registry-messages.ts";
import { must } from "./target.ts";

/** Reader follows a peer's nodes as mirrors do, and must be able to take all that the hub hands on of what it took. */
export class Reader {
  readonly #applier = new Applier(segmentCodec, undefined, LIMITS);
  #table = new FeedTable();
  #watch = 0;

  open(hub: TestHub): void {
    this.#table = new FeedTable();
    const watch = (this.#watch = ++hub.call);
    const filter = { ...ANY_NODE, hubIds: [PEER] };
    hub.post({ kind: "watch_open", watch, options: { filter, encoding: "blocks", nodesOnly: false, latestOnly: false, resume: [] } });
    hub.settle();
    this.take(hub);
  }

  take(hub: TestHub): void {
    const pushes = hub.pushes.get(this.#watch) ?? [];
    hub.pushes.delete(this.#watch);
    for (const push of pushes) {
      if (push.kind === "reset" || push.kind === "gone") this.#table = new FeedTable();
      if (push.kind !== "blocks") continue;
      const blocks = segmentCodec.decodePayload(push.payload);
      must(blocks !== undefined, "what was handed on is no payload");
      const wrong = this.#applier.check(this.#table, new Map(), blocks, undefined, true);
      must(wrong === undefined, `a reader cannot take what was handed on: ${wrong?.message}`);
      this.#applier.apply(this.#table, new Map(), blocks, 0);
    }
  }
}
