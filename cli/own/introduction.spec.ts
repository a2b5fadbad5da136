// Two hubs' folders in this process: an invite and a guest through a real door; no hub runs. The whole way is in test/e2e.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { until } from "../../test/support/until.ts";
import type { Io } from "../io.ts";
import { init } from "./hub-init.ts";
import { accept, invite } from "./introduction.ts";

let root: string;
const stop = new AbortController();

interface Told extends Io {
  readonly told: string[];
}

function ioAt(...folder: readonly string[]): Told & { readonly notes: string[] } {
  const told: string[] = [];
  const notes: string[] = [];
  return {
    told,
    notes,
    out: async (text) => void told.push(text),
    note: (text) => void notes.push(text),
    error: () => undefined,
    ask: async () => undefined,
    style: (_format, text) => text,
    columns: undefined,
    env: {},
    cwd: join(root, ...folder),
    clock: systemClock,
    stopped: stop.signal,
    onHangup: () => undefined,
  };
}

/** A port that is free now; the door itself has to say it in the invite. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port)),
  );
  await new Promise((resolve) => server.close(resolve));
  return port;
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "foedus-introduced-"));
  // Nothing listens on these ports of loopback.
  await init(ioAt(), ["a"], { port: "3", quiet: true });
  await init(ioAt(), ["b"], { port: "23", quiet: true });
}, 120_000);
afterAll(() => {
  stop.abort();
  rmSync(root, { recursive: true, force: true });
});

test("a second invite says that one is open, a share that does not exist is refused, and the PIN is taken as it is printed", async () => {
  const listen = `127.0.0.1:${await freePort()}`;
  const host = ioAt("a");
  const invited = invite(host, [], { json: true, listen });
  await until("the invite", () => host.told.length > 0, 60_000);
  const { invite: text, pin } = JSON.parse(host.told[0]!) as { invite: string; pin: string };

  await expect(invite(ioAt("a"), [], { json: true, listen })).rejects.toThrow(`this hub already has an open invite, at ${listen}`);
  await expect(invite(ioAt("b"), [], { json: true, listen })).rejects.toThrow("is already in use; stop the other program");

  const typo = 'there is no share "ful"; shares are full, limited';
  await expect(invite(ioAt("a"), [], { share: "ful", listen })).rejects.toThrow(typo);
  await expect(accept(ioAt("b"), [text], { pin, share: "ful" })).rejects.toThrow(typo);
  await expect(accept(ioAt("b"), [text], { pin: "12 34-5" })).rejects.toThrow("the PIN must have six digits");

  for (const [words, why] of [
    [[""], "the invite is empty"],
    [[pin], "this is a PIN, not the invite that it belongs to"],
    [["foedus-invite:..."], "this is not a whole invite"],
    [["foedus", "peer", "accept"], "this is not an invite"],
  ] as const)
    await expect(accept(ioAt("b"), words, { pin })).rejects.toThrow(why);
  // Each is the invite, as people paste it: an own one is refused before anybody is asked for a PIN.
  for (const words of [
    [text],
    [`foedus peer accept ${text}`],
    ["foedus", "peer", "accept", text],
    [` '${text}'\n`],
    [text.slice(0, 40), text.slice(40)],
  ])
    await expect(accept(ioAt("a"), words, { pin })).rejects.toThrow("this invite was created by a itself");

  const printed = `${pin.slice(0, 3)} ${pin.slice(3)}`;
  expect(await accept(ioAt("b"), [`foedus peer accept ${text}`], { pin: printed, json: true })).toBe(0);
  expect(await invited).toBe(0);
  for (const [id, other] of ["ab", "ba"])
    expect(JSON.parse(readFileSync(join(root, id!, "federation.json"), "utf8"))).toMatchObject({ peers: [{ hub_id: other }] });
}, 120_000);

test("ctrl-c at the inviter says what became of the invite and is no error; whoever comes later is told that it is over", async () => {
  const stopping = new AbortController();
  const listen = `127.0.0.1:${await freePort()}`;
  const host = { ...ioAt("a"), stopped: stopping.signal };
  const invited = invite(host, [], { listen });
  await until("the invite", () => host.told.length > 0, 60_000);
  stopping.abort();
  expect(await invited).toBe(1);
  expect(host.notes.at(-1)).toBe("the invite was withdrawn and cannot be used any more\n");
  const text = /foedus-invite:\S+/.exec(host.told.join(""))![0];
  await expect(accept(ioAt("b"), [text], { pin: "123456" })).rejects.toMatchObject({
    message: expect.stringContaining(`${listen} has no open invite: it was used or withdrawn`),
  });
}, 60_000);
