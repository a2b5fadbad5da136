import { expect, test } from "vitest";
import { coders } from "../../../test/lending/parts.ts";
import { AUDIT_KINDS, audit, FINDINGS_MAX, type Reports } from "./audit.ts";
import { DEFAULT_POLICY, type LeaseView } from "./commands.ts";
import type { ResourceDump } from "./lending/dump.ts";
import { REPORT_MAX } from "./rules.ts";

const VIEW: LeaseView = {
  ...{
    lease: 7,
    owner: "factory",
    name: "coders",
    borrower: "home",
    id: "r1",
    amounts: [2, 0, 0, 0, 0, 0],
    agents: ["coder-000", "coder-001"],
  },
  ...{ priority: "medium", state: "live", fence: 8, startedAt: 0, endsAt: 9, costMicro: 5, onDisconnect: "keep" },
};
const DUMP: ResourceDump = {
  serial: 8,
  hubs: [{ hub: "factory", policy: DEFAULT_POLICY, absent: false }],
  offers: [{ owner: "factory", offer: coders(5).offer, revision: 1, withdrawn: false, quotas: [] }],
  leases: [{ view: VIEW, paidMs: 9, nominal: false }],
  requests: [],
  balances: [{ hub: "home", micro: -5 }],
  escrow: 5,
  writtenOff: 0,
};
const RUNS = { lease: 7, fence: 8, ran: true, orphan: false };
const USES = { id: "r1", lease: 7, fence: 8, usable: true, inUse: true };
const lease = (more: Partial<LeaseView>): ResourceDump["leases"] => [{ view: { ...VIEW, ...more }, paidMs: 9, nominal: false }];

function found(dump: Partial<ResourceDump>, executor = [RUNS], borrower = [USES]): string[] {
  const reports: Reports = { executors: new Map([["factory", executor]]), borrowers: new Map([["home", borrower]]) };
  return audit({ ...DUMP, ...dump }, reports).map(({ kind }) => kind);
}

test("RB12 an audit finds nothing where nothing is wrong, also of hubs that could not be asked", () => {
  expect(found({})).toEqual([]);
  expect(audit(DUMP, { executors: new Map(), borrowers: new Map() })).toEqual([]);
});

test.each([
  ["overlent", found({ leases: lease({ amounts: [5, 0, 0, 0, 0, 0] }) })],
  ["overlent", found({ offers: [] })],
  [
    "shared_unit",
    found(
      {
        leases: [...DUMP.leases, ...lease({ lease: 9, state: "ended", costMicro: 0, amounts: [1, 0, 0, 0, 0, 0], agents: ["coder-000"] })],
      },
      [RUNS, { ...RUNS, lease: 9 }],
    ),
  ],
  ["accounts", found({ balances: [{ hub: "home", micro: -4 }] })],
  ["accounts", found({ escrow: 6, balances: [{ hub: "home", micro: -6 }] })],
  ["orphan", found({}, [RUNS, { ...RUNS, lease: 3 }])],
  ["stuck", found({}, [])],
  ["fence", found({}, [{ ...RUNS, fence: 7 }])],
  ["fence", found({}, [RUNS], [{ ...USES, fence: 7 }])],
  ["unheld", found({}, [RUNS], [])],
  ["used_after_end", found({ leases: lease({ state: "ended" }), escrow: 0, balances: [] })],
  ["used_after_end", found({}, [RUNS], [USES, { ...USES, id: "r2", lease: 9 }])],
])("RB12 an audit finds what is %s", (kind, kinds) => {
  expect(kinds).toEqual([kind]);
});

test("each kind of finding is shown here", () => {
  expect(AUDIT_KINDS).toHaveLength(8);
});

test("RB12 what one hub says of itself, however much, hides nothing that is found of another", () => {
  const lies = Array.from({ length: 4_000 }, (_, i) => ({ ...RUNS, lease: 1_000 + i }));
  const executors = new Map([
    ["aaa", lies],
    ["factory", []],
  ]);
  const findings = audit(DUMP, { executors, borrowers: new Map() });
  expect(findings.filter(({ hub }) => hub === "aaa")).toHaveLength(FINDINGS_MAX + 1);
  expect(findings[FINDINGS_MAX]).toMatchObject({
    kind: "orphan",
    lease: 0,
    message: expect.stringMatching(/^3936 further findings of aaa/),
  });
  expect(findings.at(-1)).toMatchObject({ hub: "factory", kind: "stuck" });
});

test("RB12 a report that is full has left leases out, and they are not missing", () => {
  const runs = Array.from({ length: REPORT_MAX }, (_, i) => ({ ...RUNS, lease: 1_000 + i, ran: false }));
  const uses = runs.map(({ lease: number }) => ({ ...USES, id: `x-${number}`, lease: number, usable: false }));
  expect(found({}, runs, uses)).toEqual([]);
  expect(found({}, runs.slice(1), uses.slice(1))).toEqual(["stuck", "unheld"]);
});
