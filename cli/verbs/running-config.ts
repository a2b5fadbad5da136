import { create } from "@bufbuild/protobuf";
import { GetConfigRequestSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import type { Io } from "../io.ts";
import { clean } from "../print/format.ts";
import type { Connection, Endpoint } from "../reach/connect.ts";

/** runningConfig asks a process of the hub for the configuration that it follows, as JSON, and warns if that is not what its file says now. */
export async function runningConfig(io: Io, connection: Connection, endpoint: Endpoint): Promise<string> {
  const { json, problem } = await connection.hub(endpoint).getConfig(create(GetConfigRequestSchema), { signal: io.stopped });
  if (problem !== "")
    io.note(
      "warning: the hub's changed configuration is not valid, so the hub still uses the one before, and this answer is by that: " +
        `${clean(problem)}. Correct it; the running hub then reads it by itself\n`,
    );
  return json;
}
