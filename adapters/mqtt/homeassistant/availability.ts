import { isTree } from "../../shared/values.ts";
import { longNames } from "./abbreviations.ts";
import type { Options } from "./discovery.ts";
import { topicIn } from "./entity.ts";
import { type Read, reader, spoken } from "./templates.ts";

/** Source is one topic that says whether an entity is there. */
interface Source {
  readonly topic: string;
  readonly read: Read;
  readonly on: string;
  readonly off: string;
}

/** Availability is what an entity's topics together say: it is there if any, all or the latest of them say so. */
export class Availability {
  readonly #sources: readonly Source[];
  readonly #mode: string;
  readonly #said = new Map<Source, boolean>();
  #latest: boolean | undefined;
  /** Why some of it is not read. */
  readonly problem: string = "";

  /** Throws Unmapped for a topic that is none. */
  constructor(options: Options) {
    const { availability_mode: mode, availability } = options;
    this.#mode = mode === "all" || mode === "any" ? mode : "latest";
    const listed = Array.isArray(availability) ? availability : isTree(availability) ? [availability] : [];
    const alone =
      options["availability_topic"] === undefined
        ? []
        : [
            {
              topic: options["availability_topic"],
              value_template: options["availability_template"],
              payload_available: options["payload_available"],
              payload_not_available: options["payload_not_available"],
            },
          ];
    const items = listed.length > 0 ? listed.flatMap((item) => (isTree(item) ? [longNames(item, "options")] : [])) : alone;
    const sources: Source[] = [];
    for (const item of items.slice(0, 16)) {
      const read = reader(item["value_template"]);
      if (read === undefined) this.problem = "one of its availability templates is more than a path, and is not evaluated";
      else {
        const [on, off] = [item["payload_available"] ?? "online", item["payload_not_available"] ?? "offline"].map(spoken);
        sources.push({ topic: topicIn(item, "topic"), read, on: on as string, off: off as string });
      }
    }
    this.#sources = sources;
  }

  /** topics are where it is said. */
  get topics(): readonly string[] {
    return this.#sources.map(({ topic }) => topic);
  }

  /** take reads a message. */
  take(topic: string, payload: string): void {
    for (const source of this.#sources) {
      if (source.topic !== topic) continue;
      const value = source.read(payload);
      const said = value === undefined ? undefined : spoken(value);
      if (said !== source.on && said !== source.off) continue;
      this.#latest = said === source.on;
      this.#said.set(source, this.#latest);
    }
  }

  /** lost: nothing that was said counts any more. */
  lost(): void {
    this.#said.clear();
    this.#latest = undefined;
  }

  /** available tells whether the entity is there; one that has no topics is. */
  get available(): boolean {
    if (this.#sources.length === 0) return true;
    if (this.#mode === "latest") return this.#latest === true;
    const says = this.#sources.map((source) => this.#said.get(source) === true);
    return this.#mode === "all" ? says.every(Boolean) : says.some(Boolean);
  }
}
