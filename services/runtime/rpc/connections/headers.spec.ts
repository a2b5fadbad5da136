import type { IncomingHttpHeaders } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { expect, test, vi } from "vitest";
import { methodPath } from "#channel/messages.ts";
import { HEADER_LIST_BYTES } from "#runtime/tls/credentials.ts";
import { EchoService } from "../../../../test/proto/echo-service.gen.ts";
import { serve } from "../../../../test/rpc/fixture.ts";
import { endOf, grpcStream, rawH2 } from "../../../../test/support/raw-h2.ts";
import { testHub } from "../../../../test/testca/index.ts";
import { keepRead } from "./headers.ts";

test("of the headers of a request what is read stays, and nothing else", () => {
  const read: IncomingHttpHeaders = { ":path": "/a/B", ":method": "POST", authorization: "Bearer x", "grpc-timeout": "1S", te: "trailers" };
  const headers = { ...read, "x-bin": ",".repeat(60_000), "x-foedus-role": "operator", cookie: "a=b" };
  keepRead(headers);
  expect(headers).toEqual(read);
});

test("a hub says how large headers may be, and makes nothing of those that nobody reads", async () => {
  const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  const fixture = await serve(alpha, [beta]);
  const made = vi.spyOn(grpc.Metadata, "fromHttp2Headers");
  const session = await rawH2({ port: fixture.port, credential: beta.service(), ca: alpha.caPem });
  expect(session.remoteSettings.maxHeaderListSize).toBe(HEADER_LIST_BYTES);
  const call = (commas: number) => endOf(grpcStream(session, methodPath(EchoService.method.echo), { "x-bin": ",".repeat(commas) }));
  expect((await call(12_000)).status).toBe("16");
  expect(made).toHaveBeenCalled();
  for (const [headers] of made.mock.calls) expect(Object.keys(headers)).not.toContain("x-bin");
  expect((await call(20_000)).status).toBeUndefined();
  made.mockRestore();
  session.destroy();
  await fixture.close();
});
