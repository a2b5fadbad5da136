import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { LinkState, PeerSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { GetStatusResponseSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { EventKind, EventSchema, Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { SECOND_CONNECTION } from "#runtime/sessions/second-streams.ts";
import type { Federation, HubConfig } from "../../services/hub/index.ts";
import { Ledger } from "./ledger.ts";
import { lookAtAnswers } from "./running.ts";

const HOUR_MS = 3_600_000n;
const NOW_MS = 1_800_000_000_000n;

/** found is what is said of a peer with a link that stands, after these events. */
function found(...events: readonly { readonly peer: string; readonly text: string; readonly agoMs: bigint }[]): readonly object[] {
  const ledger = new Ledger();
  const answers = {
    processes: [create(GetStatusResponseSchema, { wallMs: NOW_MS })],
    peers: [create(PeerSchema, { hubId: "factory", state: LinkState.OPERATIONAL })],
    feeds: [],
    warnings: events.map(({ peer, text, agoMs }) =>
      create(EventSchema, { kind: EventKind.SESSION, severity: Severity.WARNING, peer, text, wallMs: NOW_MS - agoMs }),
    ),
  };
  const config = { discovery: { clock_skew_warn_ms: 500 }, registry_sync: { clock_skew_ms: 60_000 } } as HubConfig;
  const federation = { peers: [{ hubId: "factory" }], syncIntervalMs: 0 } as unknown as Federation;
  lookAtAnswers(ledger, answers, config, federation);
  return ledger.findings;
}

test("F-0 a second connection that could not be opened is named, with the cause and what to do, for a day", () => {
  const text = `${SECOND_CONNECTION}factory cannot be opened (the connection was reset); sessions have one for ten minutes, which carries less`;
  expect(found({ peer: "factory", text, agoMs: 3n * HOUR_MS })).toEqual([
    {
      severity: "warning",
      check: "link",
      subject: "factory",
      message: `${text} (3 h ago)`,
      fix: expect.stringMatching(/^Have the firewall or NAT .*allow two connections per service/),
    },
  ]);
  expect(found({ peer: "factory", text, agoMs: 25n * HOUR_MS }, { peer: "lab", text, agoMs: 0n })).toEqual([]);
  expect(found({ peer: "factory", text: "peer sends too many frames", agoMs: 0n })).toEqual([]);
});
