import type { Command } from "commander";
import type { Declare } from "../declare.ts";

/** adapterVerbs declares the programs that join devices and agents of another protocol to a hub. */
export function adapterVerbs(verb: Declare, program: Command): void {
  const adapter = program.command("adapter").description("join devices of another protocol to a hub, in a process of its own");
  verb(adapter, "a2a", "join agents of the Agent2Agent protocol, and offer them those of other hubs", async () => {
    return (await import("./a2a.ts")).run;
  })
    .option("--config <file>", "configuration file (default: a2a.json)")
    .option("--json", "print where it serves as one JSON line when ready")
    .option("-q, --quiet", "print nothing while all is well");
  verb(adapter, "mqtt", "join devices of an MQTT broker: Zigbee2MQTT, and what announces itself to Home Assistant", async () => {
    return (await import("./mqtt.ts")).run;
  })
    .option("--config <file>", "hub.json, or a file of the adapter's own (default: hub.json)")
    .option("--supervised", "take the configuration from the hub that runs it, on stdin")
    .option("--json", "print how it fares, one JSON document a line")
    .option("-q, --quiet", "print nothing while all is well");
}
