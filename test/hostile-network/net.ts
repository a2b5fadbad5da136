// A network of its own for two hubs, in namespaces that end with the processes that hold them: nothing of the machine's network is touched.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { tool } from "../support/tools.ts";

/** HUBS are the two ends. */
export const HUBS = ["a", "b"] as const;
export type Hub = (typeof HUBS)[number];

/** NetOptions shape the link between the hubs. */
export interface NetOptions {
  /** Most that the kernel keeps per socket and direction, in bytes. */
  readonly bufferBytes: number;
}

const NEEDED = ["ip", "iptables", "tc", "unshare", "nsenter"] as const;
/** A packet on this link has this many bytes at most, as on an Ethernet. */
const MTU = 1_500;
/** Packets that a slow link keeps at least. */
const QUEUE_PACKETS = 8;
const HOME = "10.77.0.1";
const ADDRESS: Readonly<Record<Hub, string>> = { a: "10.77.1.1", b: "10.77.1.2" };
/** Variable that says: this process is in a network namespace of its own. */
const INSIDE = "NETWORK_OF_ITS_OWN";

/** whyNot tells why no network can be made here; undefined if it can. */
export function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return "networks are made by root only";
  const missing = NEEDED.map(tool).find(({ reason }) => reason !== undefined);
  if (missing !== undefined) return missing.reason;
  const tried = spawnSync("unshare", ["--net", "ip", "link", "set", "lo", "up"], { encoding: "utf8" });
  return tried.status === 0 ? undefined : `a network namespace cannot be made: ${tried.stderr.trim()}`;
}

/** inside tells whether this process has a network of its own already. */
export function inside(): boolean {
  return process.env[INSIDE] === "1";
}

/** startInside starts a program of this project in a network namespace of its own. */
export function startInside(args: readonly string[], stdio: "inherit" | "pipe"): ChildProcess {
  return spawn("unshare", ["--net", process.execPath, ...args], {
    stdio: ["ignore", stdio, "inherit"],
    env: { ...process.env, [INSIDE]: "1" },
  });
}

/** kernelHasNetem tells whether the kernel can delay, lose and reorder by itself. */
export function kernelHasNetem(): boolean {
  return spawnSync("unshare", ["--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]).status === 0;
}

/** Net is two namespaces, joined by the link that is tested and each by a line of its own to this process. */
export class Net {
  readonly #holders: Readonly<Record<Hub, ChildProcess>>;

  private constructor(holders: Readonly<Record<Hub, ChildProcess>>) {
    this.#holders = holders;
  }

  static async make({ bufferBytes }: NetOptions): Promise<Net> {
    if (!inside()) throw new Error("this process shares its network with others; it must not change it");
    const net = new Net({ a: await hold(), b: await hold() });
    try {
      net.#build(bufferBytes);
    } catch (error) {
      await net.close();
      throw error;
    }
    return net;
  }

  #build(bufferBytes: number): void {
    run("ip", "link", "set", "lo", "up");
    run("ip", "address", "replace", `${HOME}/32`, "dev", "lo");
    const end = (hub: Hub): string[] => ["name", `link-${hub}`, "mtu", `${MTU}`, "netns", this.#pid(hub)];
    run("ip", "link", "add", ...end("a"), "type", "veth", "peer", ...end("b"));
    for (const hub of HUBS) this.#join(hub);
    this.#route();
    this.buffers(bufferBytes);
  }

  #pid(hub: Hub): string {
    return String(this.#holders[hub].pid);
  }

  #join(hub: Hub): void {
    const own = ADDRESS[hub];
    run("ip", "link", "add", "name", `home-${hub}`, "type", "veth", "peer", "name", "home", "netns", this.#pid(hub));
    run("ip", "link", "set", `home-${hub}`, "up");
    run("ip", "route", "add", `${own}/32`, "dev", `home-${hub}`, "src", HOME);
    this.#in(hub, "ip", "link", "set", "lo", "up");
    this.#in(hub, "ip", "address", "add", `${own}/32`, "dev", "lo");
    this.#in(hub, "ip", "link", "set", "home", "up");
    this.#in(hub, "ip", "route", "add", `${HOME}/32`, "dev", "home", "src", own);
    this.#in(hub, "ip", "link", "set", `link-${hub}`, "up");
    // What leaves has the size of a packet: with offloading, 64 KiB would go through as one, and no link does that.
    this.#in(hub, "ip", "link", "set", `link-${hub}`, "gso_max_segs", "1");
  }

  #route(): void {
    for (const [hub, other] of [["a", "b"] as const, ["b", "a"] as const])
      this.#in(hub, "ip", "route", "replace", `${ADDRESS[other]}/32`, "dev", `link-${hub}`, "src", ADDRESS[hub]);
  }

  #in(hub: Hub, ...command: readonly string[]): void {
    run(...this.launch(hub), ...command);
  }

  /** launch is the command that starts a program in a hub's namespace. */
  launch(hub: Hub): string[] {
    return ["nsenter", `--net=/proc/${this.#pid(hub)}/ns/net`];
  }

  address(hub: Hub): string {
    return ADDRESS[hub];
  }

  /** buffers caps what the kernel keeps of connections that are made from now on. */
  buffers(bytes: number): void {
    for (const hub of HUBS)
      for (const name of ["tcp_wmem", "tcp_rmem"])
        this.#in(hub, "sh", "-c", `echo 4096 ${Math.min(bytes, 65_536)} ${bytes} >/proc/sys/net/ipv4/${name}`);
  }

  /** lose drops a part of the packets that arrive at a hub over the link. */
  lose(hub: Hub, part: number): void {
    this.#in(
      hub,
      "iptables",
      "-A",
      "INPUT",
      "-i",
      `link-${hub}`,
      "-m",
      "statistic",
      "--mode",
      "random",
      "--probability",
      `${part}`,
      "-j",
      "DROP",
    );
  }

  /** deafen drops everything that arrives at a hub over the link: the other direction goes on. */
  deafen(hub: Hub): void {
    this.#in(hub, "iptables", "-A", "INPUT", "-i", `link-${hub}`, "-j", "DROP");
  }

  /** slow limits what a hub sends over the link. Some packets wait, as in any router: with none, who sends little would lose all of it. */
  slow(hub: Hub, kilobitsPerSecond: number): void {
    const queueMs = Math.max(100, Math.ceil((QUEUE_PACKETS * MTU * 8) / kilobitsPerSecond));
    this.#in(
      hub,
      "tc",
      "qdisc",
      "replace",
      "dev",
      `link-${hub}`,
      "root",
      "tbf",
      "rate",
      `${kilobitsPerSecond}kbit`,
      "burst",
      "16kb",
      "latency",
      `${queueMs}ms`,
    );
  }

  /** disorder delays, loses and reorders what a hub sends over the link; the answer says how, as not every kernel has netem. */
  disorder(hub: Hub): string {
    const dev = `link-${hub}`;
    if (kernelHasNetem()) {
      this.#in(hub, "tc", "qdisc", "add", "dev", dev, ..."root netem delay 15ms 10ms 25% loss 1% reorder 90% 50%".split(" "));
      return "netem: 5 to 25 ms of delay, 1 % lost, 10 % reordered";
    }
    const tc = (...words: string[]): void => this.#in(hub, "tc", ...words.flatMap((text) => text.split(" ")));
    tc("qdisc add dev", dev, "root handle 1: htb default 10");
    tc("class add dev", dev, "parent 1: classid 1:10 htb rate 1gbit quantum 1600");
    tc("class add dev", dev, "parent 1: classid 1:20 htb rate 8mbit burst 2kb quantum 1600");
    tc("qdisc add dev", dev, "parent 1:20 handle 20: pfifo limit 20");
    const some = "-t mangle -A POSTROUTING -m statistic --mode nth --every 20 --packet 0 -j CLASSIFY --set-class 1:20";
    this.#in(hub, "iptables", ...some.split(" "), "-o", dev);
    this.lose(hub, 0.01);
    return "no netem in this kernel: 1 % lost, one packet in twenty delayed by up to 30 ms and so reordered, no delay for all";
  }

  /** heal takes back what was done to the link. */
  heal(): void {
    for (const hub of HUBS) {
      this.#in(hub, "iptables", "-F");
      this.#in(hub, "iptables", "-t", "mangle", "-F");
      spawnSync("nsenter", [...this.launch(hub).slice(1), "tc", "qdisc", "del", "dev", `link-${hub}`, "root"], { stdio: "ignore" });
    }
  }

  /** close ends the namespaces; the processes in them must have ended. */
  async close(): Promise<void> {
    for (const hub of HUBS) {
      spawnSync("ip", ["link", "del", `home-${hub}`], { stdio: "ignore" });
      const gone = once(this.#holders[hub], "exit");
      this.#holders[hub].kill("SIGKILL");
      await gone;
    }
  }
}

/** run runs a program and throws if it fails. */
export function run(...[program = "", ...args]: readonly string[]): void {
  execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
}

/** hold starts a process that does nothing but keep a namespace alive until its input ends, with this process at the latest. */
export async function hold(): Promise<ChildProcess> {
  const holder = spawn("unshare", ["--net", "sh", "-c", "echo here; exec cat"], { stdio: ["pipe", "pipe", "inherit"] });
  await once(holder.stdout, "data");
  return holder;
}
