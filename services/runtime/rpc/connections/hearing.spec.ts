import { describe, expect, test } from "vitest";
import { Hearing } from "./hearing.ts";

const LIMITS = { handshakeTimeoutMs: 10_000, keepaliveTimeMs: 20_000, keepaliveTimeoutMs: 10_000 };
const PERIOD_MS = 2_500;

/** Client is one that a server looks at regularly. */
class Client {
  readonly hearing = new Hearing(0);
  now = 0;
  bytesRead = 0;
  bytesWritten = 0;

  /** goneAfter looks until the server gives it up, or for two minutes; it answers with how long that took, and with the pings. */
  goneAfter(meanwhile: () => void = () => undefined): { readonly ms: number; readonly pings: number } {
    const from = this.now;
    for (let pings = 0; ; ) {
      this.now += PERIOD_MS;
      meanwhile();
      const verdict = this.hearing.look(this, this.now, 0, LIMITS);
      if (verdict === "ask") {
        pings++;
        this.hearing.asked();
      }
      if (verdict === "gone" || this.now - from >= 120_000) return { ms: this.now - from, pings };
    }
  }

  /** proven has said something, and its ping was answered. */
  static proven(): Client {
    const client = new Client();
    client.hearing.shook(0, 0);
    client.hearing.proved();
    client.bytesRead = 3_000;
    client.bytesWritten = 6_000;
    client.hearing.look(client, 0, 0, LIMITS);
    return client;
  }
}

describe("who is still there", () => {
  test("F-29 a proved client that falls silent is asked once, and is gone when nothing comes", () => {
    expect(Client.proven().goneAfter()).toEqual({ ms: 32_500, pings: 1 });
  });

  test("F-29 any byte of it is a sign of life", () => {
    const client = Client.proven();
    expect(client.goneAfter(() => (client.bytesRead += client.now % 25_000 === 0 ? 1 : 0)).ms).toBe(120_000);
  });

  test("F-29 one that only opened a connection, and one that shook hands and never answered, is gone sooner", () => {
    expect(new Client().goneAfter().ms).toBe(22_500);
    const client = new Client();
    client.hearing.shook(0, 0);
    expect(client.goneAfter(() => client.bytesRead++).ms).toBe(12_500);
  });

  test("F-7 with much under way to it, its answer is waited for as long as a pong, and no longer", () => {
    const client = Client.proven();
    client.bytesWritten += 245_000;
    expect(client.goneAfter()).toEqual({ ms: 82_500, pings: 1 });
  });

  test("F-7 what is sent between two looks counts, also when something was heard before it", () => {
    const client = Client.proven();
    client.bytesRead++;
    client.bytesWritten += 245_000;
    expect(client.goneAfter().ms).toBe(85_000);
  });

  test("F-7 what the handshake took is not under way any more", () => {
    const client = new Client();
    client.hearing.shook(0, 6_000);
    client.hearing.proved();
    client.bytesRead = 3_000;
    client.bytesWritten = 12_000;
    expect(client.goneAfter()).toEqual({ ms: 35_000, pings: 1 });
  });

  test("F-7 what it had before it was heard last does not count", () => {
    const client = Client.proven();
    client.bytesWritten += 245_000;
    client.hearing.look(client, (client.now += PERIOD_MS), 0, LIMITS);
    client.bytesRead++;
    expect(client.goneAfter().ms).toBe(35_000);
  });
});
