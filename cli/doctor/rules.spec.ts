import { expect, test } from "vitest";
import type { HubConfig } from "../../services/hub/index.ts";
import { registrySyncConfig } from "../../services/registry-sync/config.ts";
import { Ledger } from "./ledger.ts";
import { lookAtRuleNodes, lookAtRules } from "./rules.ts";

const configOf = (registrySync: object): HubConfig =>
  ({ hub_id: "alice", registry_sync: registrySyncConfig.parse(registrySync) }) as HubConfig;

test("a rule that no node can match is named: ids stand in rules without the hub", () => {
  const ledger = new Ledger();
  const nodes = ["alice/my-lamp", "my-lamp", "press-*", "*", { ids: ["alice/*"] }, { ids: ["bob/lamp"], allow: false }, "the lamp"];
  lookAtRules(ledger, configOf({ shares: { limited: { nodes } }, imports: { nodes: ["bob/lamp", "lamp"] } }));
  expect(ledger.findings.map(({ severity, subject, message, fix }) => `${severity} ${subject}: ${message} | ${fix}`)).toEqual([
    "warning share limited: rule alice/my-lamp of share limited selects no node; ids in rules are without the hub: my-lamp | Write my-lamp in the configuration.",
    "warning share limited: rule alice/* of share limited selects no node; ids in rules are without the hub: * | Write * in the configuration.",
    "warning share limited: rule bob/lamp of share limited selects no node; ids in rules are without the hub: lamp | A share has nodes of this hub only: remove the rule, or name one of them.",
    "warning share limited: rule the lamp of share limited selects no node: no node has such an id | Write the id of a node, see `foedus nodes`.",
    "warning imports: rule bob/lamp of the imports selects no node; ids in rules are without the hub: lamp | Write lamp in the configuration.",
  ]);
  expect(ledger.looked).toBe(9);
});

test("an id that names no node of this hub is a warning where it looks like a slip, else a remark", () => {
  const ledger = new Ledger();
  const config = configOf({ shares: { limited: { nodes: ["my-lmap", "my-lamp", "press-2", "door", "gate-*", "alice/my-lamp"] } } });
  lookAtRuleNodes(ledger, config, ["my-lamp", "press-1"]);
  expect(ledger.findings.map(({ severity, message }) => `${severity} ${message}`)).toEqual([
    "warning rule my-lmap of share limited selects none of the 2 nodes of this hub; did you mean my-lamp?",
  ]);
  expect(ledger.notes).toEqual(["press-2", "door"].map((id) => `rule ${id} of share limited selects none of the 2 nodes of this hub`));
  expect(ledger.looked).toBe(4);
});

test("a hub with more nodes than are listed is not judged, and that is said", () => {
  const ledger = new Ledger();
  const many = Array.from({ length: 5_000 }, (_, i) => `n-${i}`);
  lookAtRuleNodes(ledger, configOf({ shares: { limited: { nodes: ["door"] } } }), many);
  expect([ledger.findings, ledger.notes, ledger.skipped.length]).toEqual([[], [], 1]);
});

test("of many ids that no node has, some are compared with those that are there, and that is said", () => {
  const ledger = new Ledger();
  const present = Array.from({ length: 400 }, (_, i) => `meter-${i}`);
  const absent = Array.from({ length: 1_000 }, (_, i) => `lamp-${i}`);
  lookAtRuleNodes(ledger, configOf({ shares: { limited: { nodes: [{ ids: absent }] } } }), present);
  expect([ledger.notes.length + ledger.findings.length, ledger.skipped.length]).toEqual([20, 1]);
});
