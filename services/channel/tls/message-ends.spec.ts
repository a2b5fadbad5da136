import { expect, test } from "vitest";
import { grpcMessage } from "../../../test/support/raw-h2.ts";
import { MessageEnds } from "./message-ends.ts";

test("S-1 gRPC messages are counted however they are cut", () => {
  const bytes = Buffer.concat([0, 1, 300, 0, 70_000].map((length) => grpcMessage(Buffer.alloc(length))));
  for (const size of [1, 3, 5, 7, 300, 16_384, bytes.length]) {
    const messages = new MessageEnds();
    let ended = 0;
    for (let at = 0; at < bytes.length; at += size) ended += messages.take(bytes.subarray(at, at + size));
    expect(ended).toBe(5);
  }
});
