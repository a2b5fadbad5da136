import type { NodeInit } from "../../../clients/typescript/index.ts";
import { nodeIdOf, textOf } from "../../shared/node-id.ts";
import { CAPABILITIES_MAX, sourceCapabilities } from "../../shared/source.ts";
import { Standing } from "../../shared/standing.ts";
import type { CapabilityInit } from "../mapping.ts";
import type { Availability } from "./availability.ts";
import type { Announcement, Component } from "./discovery.ts";
import type { EntityKey } from "./entity.ts";

/** Entity is a component that was mapped. */
export interface Entity {
  readonly component: Component;
  readonly keys: readonly EntityKey[];
  readonly availability: Availability;
  /** How long a value says how things are, ms. */
  readonly expireMs: number;
}

/** Announced is what was last said on a discovery topic. */
export interface Announced {
  readonly topic: string;
  readonly text: string;
  readonly announcement: Announcement;
  entities: readonly Entity[];
  /** It is about to be said in the other form. */
  migrates: boolean;
  /** It was said since the broker was reached last. */
  seen: boolean;
}

/** Bound is a key of a node with where it belongs. */
export interface Bound {
  readonly name: string;
  readonly key: EntityKey;
  readonly entity: Entity;
  readonly group: Group;
}

/** Group is one device, whatever topics announce parts of it: a node. */
export class Group {
  readonly deviceKey: string;
  readonly nodeId: string;
  readonly announced = new Map<string, Announced>();
  readonly standing = new Standing();
  bounds: ReadonlyMap<string, Bound> = new Map();
  /** As it was told last. */
  said = "";

  constructor(prefix: string, deviceKey: string) {
    this.deviceKey = deviceKey;
    this.nodeId = nodeIdOf(prefix, deviceKey);
  }

  /** entities are those of all its topics, in an order that does not depend on which was announced first. */
  entities(): Entity[] {
    return [...this.announced.values()]
      .sort((a, b) => (a.topic < b.topic ? -1 : 1))
      .flatMap(({ entities }) => [...entities].sort((a, b) => (a.component.id < b.component.id ? -1 : 1)));
  }

  /** bind names the keys of all entities. How many found no place is the answer. */
  bind(): number {
    const bounds = new Map<string, Bound>();
    let left = 0;
    for (const entity of this.entities()) {
      const { id, platform } = entity.component;
      const stem = textOf(id.startsWith("source:") ? `_${id}` : id, 90) || platform;
      for (const key of entity.keys) {
        const plain = key.part === "" ? stem : `${stem}.${key.part}`;
        const name = bounds.has(plain) ? `${plain}.${platform}` : plain;
        if (bounds.size < CAPABILITIES_MAX && !bounds.has(name)) bounds.set(name, { name, key, entity, group: this });
        else left++;
      }
    }
    for (const name of this.bounds.keys()) if (!bounds.has(name)) this.standing.forget(name);
    this.bounds = bounds;
    return left;
  }

  /** boundOf finds the key of an entity's part. */
  boundOf(entity: Entity, part: string): Bound | undefined {
    for (const bound of this.bounds.values()) if (bound.entity === entity && bound.key.part === part) return bound;
    return undefined;
  }

  /** node is the node as it is now. */
  node(source: string): NodeInit {
    const device = [...this.announced.values()][0]?.announcement.device ?? {};
    const platforms = this.entities().map(({ component }) => component.platform);
    const type =
      ["light", "cover", "climate", "lock", "fan", "vacuum", "switch"].find((name) => platforms.includes(name)) ?? platforms[0] ?? "sensor";
    const first = this.entities()[0]?.component.options;
    const [model, serial] = [textOf(device["model"], 255), textOf(device["serial_number"], 255)];
    return {
      nodeId: this.nodeId,
      type,
      name: textOf(device["name"], 255) || textOf(first?.["name"], 255) || this.nodeId,
      vendor: textOf(device["manufacturer"], 255),
      description: [model, textOf(device["hw_version"], 63)].filter((text) => text !== "").join(", "),
      capabilities: [...sourceCapabilities(false), ...[...this.bounds.values()].map(capabilityOf)],
      labels: {
        source,
        ...(model === "" ? {} : { model }),
        ...(serial === "" ? {} : { serial }),
      },
    };
  }
}

function capabilityOf({ name, key, entity }: Bound): CapabilityInit {
  const named = textOf(entity.component.options["name"], 255);
  const { description = "" } = key.capability;
  return { ...key.capability, name, type: key.type, description: named === "" ? description : `${named}: ${description}` };
}
