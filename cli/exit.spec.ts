import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { reasonRule, serviceErrorToFoedus } from "#channel/status.ts";
import { type FoedusError, fail } from "#kernel/error.ts";
import { EXIT, errorJson, errorText, exitCodeOf, neverConnected, toCliError, usage } from "./exit.ts";

const remedyOf = (reason: Parameters<typeof reasonRule>[0]): string => reasonRule(reason).remedy;

/** What grpc-js gives for a call that ended without an answer of ours. */
function transport(code: grpc.status, details: string): FoedusError {
  return serviceErrorToFoedus(Object.assign(new Error(details), { code, details, metadata: new grpc.Metadata() }));
}

describe("exit codes", () => {
  test("are the ones that the README lists", () => {
    const readme = readFileSync(join(import.meta.dirname, "README.md"), "utf8");
    const listed = [...readme.matchAll(/^\| (\d) +\| `(\w+)`/gm)].map(([, code, name]) => [name, Number(code)]);
    expect(Object.fromEntries(listed)).toEqual(EXIT);
  });

  test("a hub's own answers", () => {
    const codes = (
      [
        "NODE_NOT_FOUND",
        "ACCESS_DENIED",
        "DEADLINE_EXPIRED",
        "OUTCOME_UNKNOWN",
        "PEER_UNREACHABLE",
        "INVALID_FIELD",
        "NODE_AMBIGUOUS",
        "EXECUTOR_FAILED",
        "CAPABILITY_ACCESS",
        "NOT_SHARED",
      ] as const
    ).map((reason) => exitCodeOf(fail(reason, "x")));
    expect(codes).toEqual([5, 4, 6, 1, 1, 2, 2, 1, 4, 4]);
  });

  test("no connection is not the same as a peer of the hub that is away, nor a timeout the same as never having connected", () => {
    expect(exitCodeOf(transport(grpc.status.UNAVAILABLE, "No connection established. Last error: connect ECONNREFUSED"))).toBe(
      EXIT.connect,
    );
    expect(exitCodeOf(transport(grpc.status.UNAVAILABLE, "Connection dropped"))).toBe(EXIT.connect);
    expect(exitCodeOf(transport(grpc.status.DEADLINE_EXCEEDED, "Deadline exceeded after 1s,Waiting for LB pick"))).toBe(EXIT.connect);
    expect(exitCodeOf(transport(grpc.status.DEADLINE_EXCEEDED, "Deadline exceeded after 1s,LB pick: 0.1s,remote_addr=127.0.0.1:1"))).toBe(
      EXIT.timeout,
    );
    expect(exitCodeOf(transport(grpc.status.UNAVAILABLE, "No connection established. Last error: self-signed certificate"))).toBe(
      EXIT.refused,
    );
  });

  test("neverConnected is only true when the call cannot have had an effect", () => {
    expect(neverConnected(transport(grpc.status.UNAVAILABLE, "Connection dropped"))).toBe(false);
    expect(neverConnected(transport(grpc.status.UNAVAILABLE, "No connection established. Last error: x"))).toBe(true);
    expect(neverConnected(fail("DEADLINE_EXPIRED", "x"))).toBe(false);
  });
});

describe("error text", () => {
  test("is one sentence with what to do; programs get the same as JSON", () => {
    const error = toCliError(fail("NODE_NOT_FOUND", "no node home/x", { facts: { node: "x" } }), remedyOf);
    expect(errorText(error)).toBe("foedus: no node home/x. List the nodes and use an existing (hub_id, node_id).\n");
    expect(JSON.parse(errorJson(error))).toEqual({
      error: {
        reason: "NODE_NOT_FOUND",
        message: "no node home/x",
        remedy: "List the nodes and use an existing (hub_id, node_id).",
        exit_code: 5,
        facts: { node: "x" },
      },
    });
  });

  test("the schema's remedy for an expired deadline is not given when nobody answered: it would claim that nothing was started", () => {
    const error = toCliError(transport(grpc.status.DEADLINE_EXCEEDED, "Deadline exceeded after 1s,remote_addr=127.0.0.1:1"), remedyOf);
    expect(error.remedy).toBe("Try again, or allow more time with --timeout.");
  });

  test("what the operating system says is a sentence, with what to do", () => {
    const thrown = (act: () => void): string => {
      try {
        act();
      } catch (error) {
        return errorText(toCliError(error, remedyOf));
      }
      return "";
    };
    expect(thrown(() => readFileSync("/nowhere/it's.pem"))).toBe(
      "foedus: cannot open /nowhere/it's.pem: no such file or directory (ENOENT). Check the path.\n",
    );
    expect(thrown(() => mkdirSync("/proc/self/status/x"))).toMatch(
      /^foedus: cannot create the folder \/proc\/self\/status\/x: .*\. Check the path\.\n$/,
    );
    expect(thrown(() => renameSync("/nowhere/a", "/nowhere/b"))).toMatch(/^foedus: cannot replace \/nowhere\/b: no such file/);
    const other = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED", syscall: "connect" });
    expect(errorText(toCliError(other, remedyOf))).toBe("foedus: connect ECONNREFUSED 127.0.0.1:1\n");
  });

  test("text of other hubs cannot rewrite the terminal, and a bug says how to report it", () => {
    expect(errorText(toCliError(fail("INTERNAL", "\u001b[2Jboo"), () => ""))).toBe("foedus: \\u{1b}[2Jboo\n");
    expect(errorText(toCliError(new TypeError("x is undefined"), remedyOf))).toContain(
      "unexpected error: x is undefined. Run it again with FOEDUS_DEBUG=1",
    );
    expect(errorText(usage("that is wrong", "Do this."))).toBe("foedus: that is wrong. Do this.\n");
  });
});
