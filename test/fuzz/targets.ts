import { CommandsTarget } from "./commands-target.ts";
import { JsonTarget } from "./json-target.ts";
import { RegistryTarget } from "./registry-target.ts";
import { SchemaTarget } from "./schema-target.ts";
import { ServicesTarget } from "./services-target.ts";
import type { Target } from "./target.ts";

/** createTargets makes one of each kind. */
export function createTargets(): Target[] {
  return [new SchemaTarget(), new JsonTarget(), new RegistryTarget(), new CommandsTarget(), new ServicesTarget()];
}
