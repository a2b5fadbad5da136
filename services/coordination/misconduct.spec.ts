import { expect, test } from "vitest";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";
import type { Vote } from "./bft/frames.ts";
import { voteBytes } from "./bft/proof/signed.ts";
import type { EngineFrame, Frame, Request } from "./messages.ts";

const HUBS = ["a", "b", "c", "d"];
const put = (key: string): Request => ({
  kind: "change",
  command: { book: "values", command: { kind: "put", key, value: new TextEncoder().encode(key), conditional: false, expect: 0 } },
});

function founded(): CoordinationHubs {
  return new CoordinationHubs(...HUBS).found(HUBS, { engine: "bft" });
}

/** Adds to each vote of d in a frame another one of the same step. */
function doubled(frame: Frame, other: (vote: Vote) => Vote): Frame {
  if (frame.kind !== "log" || frame.frame.kind !== "engine") return frame;
  const inner = frame.frame.frame as EngineFrame & { readonly kind?: string };
  if (inner.kind !== "votes" || !("votes" in inner)) return frame;
  // Voters are sorted: d is the last of four.
  const votes = inner.votes.flatMap((vote) => (vote.voter === 3 ? [vote, other(vote)] : [vote]));
  return { ...frame, frame: { ...frame.frame, frame: { ...inner, votes } } };
}

test("S1-33 BE2 of a hub that votes twice before one of them all have proof, and discovery is told; the rest decide", () => {
  const hubs = founded();
  const { sign } = hubs.crypto("d");
  const federation = Buffer.from(federationOf(hubs)).toString("hex");
  hubs.forge("d", (frame, to) =>
    to === "a"
      ? doubled(frame, (vote) => {
          const other = { ...vote, value: "f".repeat(64) };
          return { ...other, signature: sign(voteBytes(federation, "d/1", other)) };
        })
      : frame,
  );
  for (let i = 0; i < 5; i++) hubs.ask("b", "changed", put(`k${i}`));
  hubs.until(() => ["a", "b", "c"].every((id) => hubs.reported(id).length > 0));
  for (const id of ["a", "b", "c"]) {
    expect(new Set(hubs.reported(id))).toEqual(new Set(["d"]));
    expect(hubs.events(id).join("; ")).toContain("d broke the protocol");
  }
  hubs.ask("a", "changed", put("after"));
});

test("S1-33 BE1 of hubs that keep to the protocol nothing is told, also when one is restarted", () => {
  const hubs = founded();
  for (let i = 0; i < 5; i++) hubs.ask("b", "changed", put(`k${i}`));
  hubs.restart("c");
  hubs.ask("b", "changed", put("after"));
  hubs.advance(2_000);
  for (const id of HUBS) expect(hubs.reported(id)).toEqual([]);
});

/** Short id of the federation, as frames of the log carry it. */
function federationOf(hubs: CoordinationHubs): Uint8Array {
  let found: Uint8Array | undefined;
  hubs.watch((_from, _to, frame) => {
    if (frame.kind === "log") found = frame.federation;
  });
  hubs.until(() => found !== undefined);
  return found!;
}
