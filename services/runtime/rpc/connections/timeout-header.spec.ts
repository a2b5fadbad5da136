import { expect, test } from "vitest";
import { capTimeout } from "./timeout-header.ts";

const cap = (timeout: string | undefined, unary = false): unknown => {
  const headers = { ":path": unary ? "/a/Unary" : "/a/Stream", ...(timeout === undefined ? {} : { "grpc-timeout": timeout }) };
  capTimeout(headers, (path) => path === "/a/Unary");
  return headers["grpc-timeout" as keyof typeof headers];
};

test("F-3 a timeout that 32 bits of milliseconds cannot hold is none for a stream, and the longest for a unary call", () => {
  for (const long of ["2147484S", "3000000S", "4294968S", "99999999H", "99999999M", "35792M", "597H"]) {
    expect([long, cap(long)]).toEqual([long, undefined]);
    expect([long, cap(long, true)]).toEqual([long, "2147483S"]);
  }
  // Longest that was right before, the units below a millisecond, and what grpc-js has its own answer for.
  for (const fine of [
    undefined,
    "2147483S",
    "596H",
    "99999999m",
    "99999999u",
    "99999999n",
    "0S",
    "10 S",
    "1",
    "abc",
    "-1S",
    "123456789S",
    "",
  ])
    expect([fine, cap(fine), cap(fine, true)]).toEqual([fine, fine, fine]);
});
