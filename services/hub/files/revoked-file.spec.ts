import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { encodeRevoked, keptRevoked, RevokedFile, refusedNow } from "./revoked-file.ts";

const STOLEN = "a".repeat(64);
const thumbprint = (sha256: string): string => Buffer.from(sha256, "hex").toString("base64url");

describe("A6 a list of revoked certificates that is gone takes no revocation back", () => {
  let folder: string;
  let path: string;
  let kept: string;
  let events: string[];
  let refused: string[] | undefined;

  let clock: ManualClock;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "foedus-revoked-"));
    path = join(folder, "revoked.json");
    kept = keptRevoked(join(folder, "data"), "hub");
    events = [];
    clock = new ManualClock();
    refused = undefined;
    writeFileSync(path, encodeRevoked([{ sha256: STOLEN, reason: "stolen" }]));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** hub is a process that starts: it follows the list until the test ends. */
  function hub(): RevokedFile {
    const file = new RevokedFile({
      path,
      kept,
      clock,
      log: memoryLogger(),
      events: { report: ({ severity, text }) => events.push(`${severity} ${text}`) },
      apply: (thumbprints) => {
        refused = [...thumbprints];
      },
    });
    file.start();
    return file;
  }

  const ways: readonly (readonly [string, () => void])[] = [
    ["removed", () => rmSync(path)],
    [
      "a link that leads nowhere",
      () => {
        rmSync(path);
        symlinkSync(join(folder, "nowhere"), path);
      },
    ],
  ];

  test.each(ways)("%s while the hub runs: the last good one stays, and an error says what to do", async (_way, lose) => {
    const file = hub();
    lose();
    await clock.advance(60_000);
    expect(refused).toEqual([thumbprint(STOLEN)]);
    const errors = events.filter((line) => line.startsWith("ERROR"));
    expect(errors).toEqual([expect.stringContaining("is missing")]);
    expect(errors[0]).toContain('write {"revoked":[]}');
    // To accept all of them again takes a list that says so.
    rmSync(path, { force: true });
    writeFileSync(path, encodeRevoked([]));
    file.reread();
    expect(refused).toEqual([]);
    rmSync(path);
    await clock.advance(60_000);
    expect(events.filter((line) => line.startsWith("ERROR"))).toEqual(errors);
  });

  test.each(ways)("%s while the hub is down: it goes on with the list that it had, and says so", (_way, lose) => {
    hub().stop();
    lose();
    refused = undefined;
    events = [];
    const file = hub();
    expect(refused).toEqual([thumbprint(STOLEN)]);
    expect(events).toContainEqual(expect.stringMatching(/^ERROR .*is missing/));
    expect(statSync(kept).mode & 0o777).toBe(0o600);
    rmSync(path, { force: true });
    writeFileSync(path, encodeRevoked([]));
    file.reread();
    expect(refused).toEqual([]);
    rmSync(path);
    hub();
    expect(refused).toEqual([]);
  });

  test("a command that adds to a list that is gone begins with what the hub kept, so that it takes none back", () => {
    const data = join(folder, "data");
    const seen = () => refusedNow(path, data).map(({ sha256 }) => sha256);
    expect(seen()).toEqual([STOLEN]);
    hub().stop();
    writeFileSync(keptRevoked(data, "discovery"), encodeRevoked([{ sha256: STOLEN }, { sha256: "b".repeat(64) }]));
    rmSync(path);
    expect(seen()).toEqual([STOLEN, "b".repeat(64)]);
    writeFileSync(path, encodeRevoked([]));
    expect(seen()).toEqual([]);
    rmSync(path);
    rmSync(data, { recursive: true });
    expect(seen()).toEqual([]);
  });

  test("a copy that is damaged as well keeps the hub from starting", () => {
    hub().stop();
    rmSync(path);
    writeFileSync(kept, "{");
    expect(hub).toThrow(`the list of revoked certificates ${kept} is not valid`);
    writeFileSync(path, encodeRevoked([]));
    hub();
    expect(refused).toEqual([]);
    expect(JSON.parse(readFileSync(kept, "utf8"))).toEqual({ revoked: [] });
  });

  test("a hub that never had a list has no copy of one, and one that cannot be kept is told while the list counts", () => {
    rmSync(path);
    hub();
    expect([refused, events, statSync(kept, { throwIfNoEntry: false })]).toEqual([[], [], undefined]);
    mkdirSync(kept, { recursive: true });
    writeFileSync(path, encodeRevoked([{ sha256: STOLEN }]));
    hub();
    expect(refused).toEqual([thumbprint(STOLEN)]);
    expect(events).toContainEqual(expect.stringMatching(/^ERROR .*cannot be kept/));
  });
});
