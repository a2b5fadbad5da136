import type { Registry } from "prom-client";
import type { RoomUse } from "#kernel/bounds/room.ts";
import { sampledGauge } from "./declare.ts";

/**
 * sampleRooms shows how full the rooms of a service are. What it reads must name the same rooms each time. The returned function
 * takes the series away.
 */
export function sampleRooms(registry: Registry, service: string, read: () => readonly RoomUse[]): () => void {
  const labels = ["service", "room"] as const;
  const used = sampledGauge(registry, {
    name: "foedus_room_used",
    help: "What callers use up of something that is bounded: entries, or bytes where the name says so.",
    labels,
  });
  const limit = sampledGauge(registry, { name: "foedus_room_limit", help: "How much of it there is.", labels });
  const of = (room: string): RoomUse | undefined => read().find((use) => use.limit === room);
  const remove = read().flatMap(({ limit: room }) => [
    used({ service, room }, () => of(room)?.used ?? 0),
    limit({ service, room }, () => of(room)?.max ?? 0),
  ]);
  return () => {
    for (const each of remove) each();
  };
}
