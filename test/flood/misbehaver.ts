// One process that calls a hub in the name of one of its own gateways and misbehaves; started by `own.ts`.

import { readFileSync } from "node:fs";
import type { ClientHttp2Session } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { methodPath } from "#channel/messages.ts";
import { ListNodesRequestSchema, RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { grpcMessage, grpcStream, rawH2 } from "../support/raw-h2.ts";
import type { Misbehaviour } from "./own.ts";

const { what, host, port, files, ms } = JSON.parse(process.argv[2] ?? "") as Misbehaviour;
const CONNECTIONS = 16;
const UNREAD_PER_CONNECTION = 200;
const LIST = methodPath(RegistrySyncService.method.listNodes);
const [ca, certificatePem, keyPem] = [files.ca, files.cert, files.key].map((file) => readFileSync(file, "utf8")) as [
  string,
  string,
  string,
];

const connect = (windowBytes?: number): Promise<ClientHttp2Session> =>
  rawH2({ host, port, ca, credential: { certificatePem, keyPem }, ...(windowBytes === undefined ? {} : { windowBytes }) });

/** unread asks for listings on many connections, and reads nothing. */
async function unread(): Promise<number> {
  const body = grpcMessage(toBinary(ListNodesRequestSchema, create(ListNodesRequestSchema, { pageSize: 1_000 })));
  const until = systemClock.mono() + ms;
  for (let i = 0; i < CONNECTIONS; i++) {
    const session = await connect(0);
    for (let n = 0; n < UNREAD_PER_CONNECTION; n++) grpcStream(session, LIST, { "grpc-timeout": "1H" }).end(body);
  }
  await sleep(systemClock, Math.max(0, until - systemClock.mono()));
  return CONNECTIONS * UNREAD_PER_CONNECTION;
}

/** flicker opens streams and closes them a moment later, as fast as it can, and connects again when it is thrown out. */
async function flicker(): Promise<number> {
  const until = systemClock.mono() + ms;
  let streams = 0;
  const one = async (): Promise<void> => {
    while (systemClock.mono() < until) {
      const session = await connect().catch(() => undefined);
      while (session !== undefined && !session.destroyed && systemClock.mono() < until) {
        const opened = Array.from({ length: 200 }, () => grpcStream(session, LIST));
        streams += opened.length;
        await sleep(systemClock, 1);
        for (const stream of opened) stream.close(8);
      }
      session?.destroy();
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, one));
  return streams;
}

// A connection that the hub ends in the middle of anything is part of what is tried.
process.on("uncaughtException", () => undefined);
process.stdout.write(String(await (what === "unread" ? unread() : flicker())));
process.exit(0);
