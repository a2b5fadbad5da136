import { existsSync } from "node:fs";
import type { Timer } from "#channel/clock.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import { seatOf, type Seat as Verdict, type Word } from "../../coordination/index.ts";
import { type DialledMember, type Federation, NO_FEDERATION, type SeatPort } from "../../discovery/index.ts";
import type { Credentials } from "../credentials.ts";
import { readFederation } from "../files/federation-file.ts";
import { dataDirOf, type Ground } from "../ground.ts";
import { SERVICES, type ServiceName, type ServiceRow, TABLE } from "../services.ts";
import { ownAddress } from "./address.ts";
import { askOwn, askPeers, isRefusal } from "./ask.ts";
import { type Door, openDoor } from "./door.ts";
import { dataOf } from "./holding.ts";
import { readSeat, type SeatMemory, seatPath, writeSeat } from "./seat-file.ts";
import { type Data, dataProblem, type Report, Whole } from "./whole.ts";

/** What a process said of its data counts for so many times of asking. */
const FRESH_ASKS = 4;

/** Superseded ends a process whose installation does not act any more. It is no bug: started again, it stands by. */
export class Superseded extends Error {}

/** SEAT_STATES are what an installation may do. */
export const SEAT_STATES = ["acts", "stands_by", "waits"] as const;
/** SeatState is one of them. */
export type SeatState = (typeof SEAT_STATES)[number];

/**
 * Seat is this process's place among the installations of its hub. Of a hub with one installation it asks nobody and costs nothing.
 *
 * SI1 of a hub with standbys no store is opened, nothing is dialled but the question itself, and nobody is served, before this installation
 *    acts (LF1) and has the data (LF2).
 * SI2 an installation that hears that another one acts ends, whatever it was doing; started again, it waits until it acts.
 * SI3 who is cut off goes on: that it hears nothing is no reason to stop.
 * SI4 an installation that waits tells those of other hubs what it was told of them: after a power cut all wait, and go on by each other's word.
 * SI5 data that another installation may have gone on with since begins with a replica of its own, so that those who have the older data
 *    are known by that (LF2).
 * SI6 an installation acts as a whole or not at all: discovery, for which all its processes wait, does not act before those with the feed and
 *    the log have the data. A process that acts with another fence than the one that is dialled ends, so that it says so from its store.
 */
export class Seat implements SeatPort {
  readonly #ground: Ground;
  /** Where this installation is dialled, once it serves. */
  readonly #own: () => Word["endpoint"];
  readonly #path: string;
  #memory: SeatMemory | undefined;
  #word: Word | undefined;
  /** A peer said that another installation acts: more than half of all have to say so before that counts. */
  #isContested = false;
  #timer: Timer | undefined;
  #stopped = false;
  readonly #whole: Whole;
  /** What was heard last while this installation does not act. */
  #heard: Verdict | undefined;
  #standsBy = false;
  /** Fence with which it began to act; 0 for none. */
  #taken = 0;
  /** Why it does not act; empty once it does. */
  why = "this installation has just been started";

  constructor(ground: Ground, own: () => Word["endpoint"]) {
    this.#ground = ground;
    this.#own = own;
    this.#path = seatPath(dataDirOf(ground), ground.runs);
    this.#memory = readSeat(this.#path);
    const { hub_id: hub, standby } = ground.config;
    const needed = ground.runs === "discovery" ? SERVICES.filter((name) => (TABLE[name] as ServiceRow).data !== undefined) : [];
    this.#whole = new Whole({ hub, needed, freshMs: FRESH_ASKS * standby.ask_ms });
  }

  /** state is whether this installation acts, stands by for the one that does, or cannot act and should. */
  get state(): SeatState {
    if (this.why === "") return "acts";
    return this.#standsBy ? "stands_by" : "waits";
  }

  /** isOneOfSeveral tells whether the hub has further installations, as far as this one knows. */
  get isOneOfSeveral(): boolean {
    const { config } = this.#ground;
    if (config.standby.enabled || config.standby.hubs.length > 0 || this.#memory !== undefined || this.#isContested) return true;
    return !this.#asksPeers && existsSync(seatPath(dataDirOf(this.#ground), "discovery"));
  }

  /** alone begins to act without asking: the hub has no other installation. */
  alone(): void {
    this.why = "";
  }

  held(acting?: number): DialledMember | undefined {
    if (acting !== undefined && acting < this.#taken)
      throw fail("FENCE_STALE", `this process acts with fence ${acting}, and its installation with ${this.#taken} by now: start it again`);
    return this.#word === undefined ? undefined : { hubId: this.#ground.config.hub_id, standby: false, ...this.#word };
  }

  /** told takes what the federation decided. What is said there of another installation of this hub is asked again, of more than one. */
  told(own: DialledMember | undefined, hubs: readonly string[], members: readonly DialledMember[]): void {
    const acts = own !== undefined && isSame(own.endpoint, this.#own()) && own.fence >= (this.#word?.fence ?? 0);
    if (own === undefined) this.#word = undefined;
    else if (acts) this.#word = wordOf(own);
    this.#remember(own === undefined ? undefined : { hubs, members, fence: acts ? own.fence : (this.#memory?.fence ?? 0) });
  }

  refused(): void {
    this.#isContested = true;
  }

  /** doubt says why the data here may be older than what another installation of this hub has (SI5); undefined if it is not. */
  doubt(): string | undefined {
    const [fence, last] = [this.#word?.fence ?? 0, this.#memory?.fence ?? 0];
    if (fence <= last) return undefined;
    return `this installation acts with fence ${fence}, and what wrote the data here had ${last === 0 ? "none" : last}: another one may have gone on with a copy of it`;
  }

  /** take resolves when this installation acts and has the data, or when `signal` says that it is to stop. `waiting` is told why it does not. */
  async take(credentials: Credentials, signal: AbortSignal, waiting: (why: string) => void): Promise<void> {
    const { config, clock, log } = this.#ground;
    let door: Door | undefined;
    this.#say(`this installation of ${config.hub_id} has not asked yet whether it acts`, waiting);
    const known = (hubId: string) => this.#memory?.members.find((member) => member.hubId === hubId);
    try {
      const said = (service: ServiceName, report: Report) => this.#said(service, report);
      door = await openDoor(this.#ground, credentials, { federation: this.#federation(), why: () => this.why, known, said });
      const own = ownAddress(config.hub_id, door.serve.endpoints());
      while (!signal.aborted) {
        const why = await this.#mayAct(credentials, own);
        if (why === undefined) break;
        this.#say(why, waiting);
        await sleep(clock, config.standby.ask_ms, signal).catch(() => undefined);
      }
    } finally {
      await door?.close();
    }
    if (signal.aborted) return;
    log.info({ fence: this.#word?.fence }, "this installation acts for its hub");
    this.why = "";
  }

  /** follow asks on while the hub runs; `onSuperseded` is called once if another installation acts. */
  follow(credentials: Credentials, onSuperseded: (error: Superseded) => void): void {
    const { clock, config, log } = this.#ground;
    const look = async (): Promise<void> => {
      // Of several processes each tells discovery that it acts, which may have to wait for that when it is started again (SI6).
      const why = this.isOneOfSeveral || !this.#asksPeers ? await this.#superseded(credentials) : undefined;
      if (this.#stopped) return;
      if (why === undefined) return again();
      // Started again, it has to know that it is one of several.
      this.#remember({ hubs: this.#memory?.hubs ?? [], fence: this.#memory?.fence ?? 0, members: this.#memory?.members ?? [] });
      log.error({ why }, "another installation of this hub acts; this one ends, and stands by when it is started again");
      onSuperseded(new Superseded(why));
    };
    const again = (): void => {
      this.#timer = clock.setTimer(config.standby.ask_ms, () => void look());
    };
    again();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #remember(memory: SeatMemory | undefined): void {
    if (JSON.stringify(memory) !== JSON.stringify(this.#memory)) writeSeat(this.#path, memory);
    this.#memory = memory;
  }

  #say(why: string, waiting: (why: string) => void): void {
    if (why !== this.why) this.#ground.log.warn({ why }, "this installation does not act for its hub");
    this.why = why;
    waiting(why);
  }

  /** #said takes what another process of this installation found, and tells why it has to wait. FENCE_STALE if it acts, and may not. */
  #said(service: ServiceName, report: Report): string {
    this.#whole.told(service, report, this.#ground.clock.mono());
    const heard = this.#heard;
    const isOver =
      heard?.kind === "superseded" || (heard?.kind === "acts" && report.data === undefined && report.fence !== heard.word.fence);
    if (isOver) throw fail("FENCE_STALE", this.why);
    return this.why;
  }

  /** #mayAct asks whether this installation acts; undefined if it does and has the data. */
  async #mayAct(credentials: Credentials, own: Word["endpoint"]): Promise<string | undefined> {
    let word: Word | undefined;
    let data: Data;
    if (this.#asksPeers) {
      const seat = await this.#ask(credentials, own);
      this.#heard = seat;
      this.#standsBy = seat.kind === "superseded";
      if (seat.kind === "waits" || seat.kind === "superseded") return seat.why;
      word = seat.kind === "acts" ? seat.word : undefined;
      data = await dataOf(this.#ground);
    } else {
      data = await dataOf(this.#ground);
      try {
        word = await this.#askDiscovery(credentials, { data, fence: undefined });
        this.#standsBy = false;
      } catch (error) {
        this.#standsBy = isRefusal(error);
        return error instanceof FoedusError ? `discovery of this hub says: ${error.message}` : "discovery of this hub cannot be asked";
      }
    }
    if (word === undefined) return undefined;
    const { hub_id: hubId } = this.#ground.config;
    const missing = this.#memory?.fence === word.fence ? undefined : data.missing;
    const problem = dataProblem(hubId, data, word.incarnation) ?? missing ?? this.#whole.problem(word, this.#ground.clock.mono());
    if (problem !== undefined) return problem;
    this.#word = word;
    this.#taken = word.fence;
    return undefined;
  }

  async #superseded(credentials: Credentials): Promise<string | undefined> {
    if (this.#asksPeers) {
      const seat = await this.#ask(credentials, this.#own());
      // The hub may have another replica since, and coordination, started again, hears of that from here only.
      if (seat.kind === "acts" && seat.word.fence === this.#word?.fence) this.#word = seat.word;
      return seat.kind === "superseded" && seat.word.fence > (this.#word?.fence ?? 0) ? seat.why : undefined;
    }
    const fence = Math.max(this.#word?.fence ?? 0, this.#memory?.fence ?? 0);
    try {
      // With that fence its store is the hub's from now on.
      const word = await this.#askDiscovery(credentials, { data: undefined, fence: fence > 0 ? fence : undefined });
      if (word !== undefined) this.#remember({ hubs: [], fence: word.fence, members: [] });
      return undefined;
    } catch (error) {
      return isRefusal(error) ? error.message : undefined;
    }
  }

  #askDiscovery(credentials: Credentials, report: Report): Promise<Word | undefined> {
    const { runs, config } = this.#ground;
    return askOwn(credentials, { hubId: config.hub_id, at: config.services.discovery, service: runs, report });
  }

  async #ask(credentials: Credentials, own: Word["endpoint"]): Promise<Verdict> {
    const { config, log } = this.#ground;
    const federation = this.#federation();
    const hubs = this.#counted(federation);
    const words = await askPeers(credentials, federation, config.hub_id, new Set(hubs), log);
    return seatOf({ hub: config.hub_id, own, standby: config.standby.enabled, hubs, words });
  }

  #counted({ peers }: Federation): readonly string[] {
    const { hubs } = this.#ground.config.standby;
    if (hubs.length > 0) return hubs;
    const told = this.#memory?.hubs ?? [];
    return told.length > 0 ? told : peers.map(({ hubId }) => hubId);
  }

  /** #asksPeers: of a hub in several processes discovery knows the peers, and the others ask it. */
  get #asksPeers(): boolean {
    return this.#ground.runs === "hub" || this.#ground.runs === "discovery";
  }

  #federation(): Federation {
    return readFederation(this.#ground.config, this.#ground.folder) ?? NO_FEDERATION;
  }
}

function wordOf({ endpoint, fence, incarnation }: DialledMember): Word {
  return { endpoint, fence, incarnation };
}

function isSame(one: Word["endpoint"], other: Word["endpoint"]): boolean {
  return one.host.toLowerCase() === other.host.toLowerCase() && one.port === other.port;
}
