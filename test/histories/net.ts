// A network for several hubs: each in a namespace of its own, joined in this process's namespace, which parts them. Nothing of the machine's
// network is touched.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { hold, inside, run } from "../hostile-network/net.ts";

const addressOf = (index: number): string => `10.78.0.${index + 1}`;
const HOME = "10.78.255.1";

/** Star is so many namespaces around that of this process, which must have a network of its own (`startInside`). */
export class Star {
  readonly #holders: readonly ChildProcess[];

  private constructor(holders: readonly ChildProcess[]) {
    this.#holders = holders;
  }

  static async make(hubs: number): Promise<Star> {
    if (!inside()) throw new Error("this process shares its network with others; it must not change it");
    const star = new Star(await Promise.all(Array.from({ length: hubs }, () => hold())));
    try {
      run("ip", "link", "set", "lo", "up");
      run("ip", "address", "replace", `${HOME}/32`, "dev", "lo");
      run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward");
      star.#holders.forEach((_, index) => {
        star.#join(index);
      });
    } catch (error) {
      await star.close();
      throw error;
    }
    return star;
  }

  /** launch is the command that starts a program in a hub's namespace. */
  launch(index: number): string[] {
    return ["nsenter", `--net=/proc/${this.#holders[index]!.pid}/ns/net`];
  }

  address(index: number): string {
    return addressOf(index);
  }

  /** part drops all packets between hubs of different groups. This process still reaches each. */
  part(groups: readonly (readonly number[])[]): void {
    this.heal();
    for (const [at, group] of groups.entries())
      for (const other of groups.filter((_, i) => i !== at).flat())
        for (const hub of group) run("iptables", "-A", "FORWARD", "-s", addressOf(hub), "-d", addressOf(other), "-j", "DROP");
  }

  /** deafen drops what a hub would hear of the others; they hear it. */
  deafen(index: number): void {
    this.heal();
    const others = this.#holders.map((_, i) => i).filter((i) => i !== index);
    for (const other of others) run("iptables", "-A", "FORWARD", "-s", addressOf(other), "-d", addressOf(index), "-j", "DROP");
  }

  heal(): void {
    run("iptables", "-F", "FORWARD");
  }

  /** close ends the namespaces; the processes in them must have ended. */
  async close(): Promise<void> {
    for (const holder of this.#holders) {
      const gone = once(holder, "exit");
      holder.kill("SIGKILL");
      await gone;
    }
  }

  #join(index: number): void {
    const [own, pid] = [addressOf(index), `${this.#holders[index]!.pid}`];
    const there = (...command: readonly string[]): void => run(...this.launch(index), ...command);
    run("ip", "link", "add", "name", `hub-${index}`, "type", "veth", "peer", "name", "home", "netns", pid);
    run("ip", "link", "set", `hub-${index}`, "up");
    run("ip", "route", "add", `${own}/32`, "dev", `hub-${index}`, "src", HOME);
    there("ip", "link", "set", "lo", "up");
    there("ip", "address", "add", `${own}/32`, "dev", "lo");
    there("ip", "link", "set", "home", "up");
    there("ip", "route", "add", `${HOME}/32`, "dev", "home", "src", own);
    there("ip", "route", "add", "default", "via", HOME, "dev", "home", "src", own);
  }
}
