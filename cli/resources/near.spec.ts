import { expect, test } from "vitest";
import { nearOffer } from "./near.ts";

const OFFERS = [
  { owner: "factory", name: "planners", kind: "agents:planner" },
  { owner: "home", name: "gpus", kind: "compute:inference" },
];

test.each([
  [{ owner: "factry", kind: "agents:planner" }, "nobody offers agents:planner at factry. Did you mean factory?"],
  [{ owner: "lab", kind: "agents:planner" }, "nobody offers agents:planner at lab. It is offered by factory."],
  [{ owner: "factory", kind: "agents:planer" }, "nobody offers agents:planer at factory. Did you mean agents:planner?"],
  [{ kind: "agents:planer" }, "nobody offers agents:planer. Did you mean agents:planner?"],
  [{ kind: "storage:data" }, "nobody offers storage:data. List what is offered with `foedus resources offers`."],
  [{ owner: "factory", name: "planers", kind: "agents:planner" }, "there is no offer factory/planers. Did you mean factory/planners?"],
  [{ owner: "home", name: "x" }, "there is no offer home/x. List what is offered with `foedus resources offers`."],
])("who finds no offer is told what was probably meant: %j", (looked, text) => {
  const { message, remedy } = nearOffer(looked, OFFERS)!;
  expect(`${message}. ${remedy}`).toBe(text);
});

test("what is offered as it was typed is left to the hub's own words", () => {
  expect(nearOffer({ owner: "factory", name: "planners", kind: "agents:planner" }, OFFERS)).toBeUndefined();
  expect(nearOffer({ owner: "factory", kind: "agents:planner" }, OFFERS)).toBeUndefined();
  expect(nearOffer({ kind: "agents:planner" }, OFFERS)).toBeUndefined();
});
