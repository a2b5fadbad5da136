import { expect, test } from "vitest";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { Platform } from "./module.ts";
import { sessionGround } from "./session-ground.ts";

test("S0-4 a session is opened with the versions of its own service's package, whatever else the hub speaks", () => {
  const packages = ["foedus.discovery.v1alpha1", "foedus.command_forwarding.v1alpha1", "foedus.command_forwarding.v1", "foedus.command.v1"];
  const platform = { packages, entropy: { seed: () => 1 } } as unknown as Platform;
  const own = ["foedus.command_forwarding.v1alpha1", "foedus.command_forwarding.v1"];
  expect(sessionGround(platform, CommandForwardingService.method.session).packages).toEqual(own);
});
