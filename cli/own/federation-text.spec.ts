import { describe, expect, test } from "vitest";
import { EMPTY, peerEntry, withoutPeer, withPeer } from "./federation-text.ts";

const FILE = '{\n\t"sync_interval": 60,\n\t"peers": [\n\t\t{ "share": "guests", "hub_id": "b", "ca": "b.pem" }\n\t]\n}\n';

describe("changes to a federation file", () => {
  test("a new peer comes last, with its fields in the order of the documentation", () => {
    const text = withPeer(EMPTY, "b", { share: "full", ca: "peers/b.pem", port: 7, host: "h" });
    expect(text).toBe(
      '{\n  "peers": [\n    {\n      "hub_id": "b",\n      "host": "h",\n      "port": 7,\n      "ca": "peers/b.pem",\n      "share": "full"\n    }\n  ]\n}\n',
    );
    expect(JSON.parse(withPeer(text, "c", { ca: "c" })).peers.map((peer: { hub_id: string }) => peer.hub_id)).toEqual(["b", "c"]);
  });

  test("what a change is not about stays: other fields, their order, indentation, a missing line end", () => {
    const text = withPeer(FILE, "b", { max_trust: "full" });
    expect(text).toContain('\n\t"sync_interval": 60,\n');
    expect(Object.entries(peerEntry(text, "b")!)).toEqual([
      ["share", "guests"],
      ["hub_id", "b"],
      ["ca", "b.pem"],
      ["max_trust", "full"],
    ]);
    expect(withPeer(FILE.trimEnd(), "b", { share: "full" }).endsWith("}")).toBe(true);
  });

  test("doing it twice is doing it once, to the byte", () => {
    expect(withPeer(FILE, "b", { ca: "b.pem" })).toBe(FILE);
    const once = withPeer(FILE, "c", { ca: "c.pem" });
    expect(withPeer(once, "c", { ca: "c.pem" })).toBe(once);
    expect(withoutPeer(FILE, "c")).toBe(FILE);
    const gone = withoutPeer(once, "c");
    expect(withoutPeer(gone, "c")).toBe(gone);
    expect(JSON.parse(gone)).toEqual(JSON.parse(FILE));
  });

  test.each(["", "[]", "null", "{", '{"peers": 3}', '{"peers": {"b": 1}}'])("%j is no federation file and comes back as it is", (text) => {
    expect(withPeer(text, "b", { ca: "x" })).toBe(text);
    expect(withoutPeer(text, "b")).toBe(text);
    expect(peerEntry(text, "b")).toBeUndefined();
  });
});
