import { until } from "../support/until.ts";
import { below, holds, type Line, type Play, type Scenario } from "./promises.ts";
import { Stand } from "./stand.ts";
import { Swarms } from "./swarms.ts";

const SWARMS = ["home", "factory", "lab"];
const AGENTS = 5;

/** simulated has three swarms borrow of each other, so often. */
async function simulated({ scale }: Play): Promise<Line[]> {
  const rounds = scale === "short" ? 2 : 25;
  const swarms = Swarms.found(3);
  swarms.offer(AGENTS);
  const times: number[] = [];
  let [loans, acted] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const leases = swarms.ids.flatMap((id) => swarms.ids.filter((owner) => owner !== id).map((owner) => swarms.borrow(id, owner)));
    for (const { lease, ms } of leases) {
      times.push(ms);
      loans++;
      const { lease: number, fence } = lease;
      if (swarms.lending(lease.owner, "admitted", { kind: "check", lease: number, fence, done: false }).validMs > 0) acted++;
      swarms.lending(lease.borrower, "done", { kind: "release", lease: number, fence });
    }
    swarms.come(() => swarms.lent(swarms.ids[0]!) === 0);
  }
  const { findings, asked } = swarms.audit();
  const wanted = 6 * rounds;
  return [
    holds(
      `${wanted} loans, each swarm of each other one, acted under and given back`,
      loans === wanted && acted === wanted,
      `${loans} lent, ${acted} acted under`,
    ),
    holds(
      "nothing contradicts itself by the word of each swarm",
      findings === 0 && asked === 3,
      `${findings} findings, ${asked} swarms asked`,
    ),
    below("S1-38 decision of a loan, at most, virtual time", 500, "ms", Math.max(...times), `${times.length} decisions`, 0),
  ];
}

async function processes(play: Play): Promise<Line[]> {
  const rounds = play.scale === "short" ? 1 : 10;
  const stand = await Stand.start(play, { ids: SWARMS });
  try {
    for (const id of SWARMS)
      await stand.offer(
        id,
        Array.from({ length: AGENTS }, (_, i) => `${id}-coder-${i}`),
      );
    const times: number[] = [];
    let [loans, acted, refused] = [0, 0, 0];
    for (let round = 0; round < rounds; round++)
      for (const id of SWARMS)
        for (const owner of SWARMS.filter((other) => other !== id)) {
          const { lease, ms } = await until(`${owner} lending to ${id}`, () => stand.borrow(id, owner), 30_000);
          times.push(ms);
          loans++;
          if (lease.owner === owner && (await until("the fence", () => stand.checks(lease)))) acted++;
          if (!(await stand.checks(lease, lease.fence - 1n))) refused++;
          await stand.giveBack(lease);
        }
    await until("all being back", async () => (await stand.lent("lab")).length === 0, 60_000);
    const { findings, asked } = await stand.audit();
    const wanted = 6 * rounds;
    return [
      holds(
        `${wanted} loans, each swarm of each other one, acted under and given back`,
        loans === wanted && acted === wanted,
        `${loans} lent, ${acted} acted under, all back`,
      ),
      holds("who acts by a fence that is not in force is refused", refused === wanted, `${refused} of ${wanted} refused`),
      holds(
        "nothing contradicts itself by the word of each swarm",
        findings === 0 && asked === 3,
        `${findings} findings, ${asked} swarms asked`,
      ),
      below("S1-38 decision of a loan, at most", 500, "ms", Math.max(...times), `${times.length} decisions`),
    ];
  } finally {
    await stand.stop();
  }
}

/** HAPPY is the scenario in which all goes well. */
export const HAPPY: Scenario = { id: "T1", shows: "S1-31", title: "three swarms exchange resources", ways: { simulated, processes } };
