import { expect, test } from "vitest";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import type { Request } from "../messages.ts";

const put = (key: string): Request => ({
  kind: "change",
  command: { book: "values", command: { kind: "put", key, value: new Uint8Array(1), conditional: false, expect: 0 } },
});
const HOUR = 3_600_000;

test("PO2 a hub whose clock went back does not take for its own what it sent before it started again", () => {
  const hubs = new CoordinationHubs("a", "b", "c").found(["a", "b", "c"]);
  const decides = (): boolean => ["a", "b", "c"].every((id) => hubs.status(id).canDecide);
  if (hubs.status("a").leader !== "a") hubs.ask("a", "done", { kind: "transfer", hubId: "a" });
  hubs.step("b", HOUR);
  hubs.restart("b");
  hubs.until(decides);
  hubs.ask("b", "changed", put("ahead"));
  hubs.step("b", -HOUR);
  hubs.restart("b");
  hubs.until(decides);
  // Its command is at the leader, and not decided, when it stops.
  hubs.cut("a", "c");
  hubs.call("b", put("before"));
  hubs.advance(3);
  hubs.stop("b");
  hubs.start("b");
  const call = hubs.call("b", put("after"));
  hubs.heal();
  expect(hubs.wait("b", call)).toMatchObject({ kind: "changed" });
  const { answer } = hubs.ask("a", "queried", { kind: "query", query: { kind: "values", prefix: "", after: "" }, local: false });
  expect(answer.kind === "values" && answer.values.map(({ key }) => key)).toEqual(["after", "ahead", "before"]);
});
