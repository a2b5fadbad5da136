import { X509Certificate } from "node:crypto";
import { request as httpsRequest } from "node:https";
import { MIN_VERSION, parseCertificates } from "#channel/tls/material.ts";
import { checkServer } from "#channel/tls/peer-identity.ts";
import { FoedusError } from "#kernel/error.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean } from "../print/format.ts";
import { type Connection, connect, endpointsOf } from "../reach/connect.ts";
import { type OperatorFlags, printJson } from "../verb.ts";
import { runningConfig } from "./running-config.ts";

/** What a hub answers to a request for a link is short. */
const ANSWER_BYTES = 16 * 1024;

/** run prints a link that logs a browser in at the hub's console, once, as the operator of this command. */
export async function run(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const [endpoint] = endpointsOf(connection.target);
  if (endpoint === undefined) throw new CliError(EXIT.usage, "the hub has no address", "Give one with --address.");
  const { console } = JSON.parse(await runningConfig(io, connection, endpoint)) as {
    readonly console?: { enabled: boolean; port: number };
  };
  if (console?.enabled !== true)
    throw new CliError(EXIT.failed, "the hub serves no console", 'Add "console": { "enabled": true } to its hub.json, and restart it.');
  const host = endpoint.address.replace(/:\d+$/, "");
  const origin = `https://${host}:${console.port}`;
  const url = `${origin}/#login=${await linkOf(connection, origin, io)}`;
  if (options.json === true) await printJson(io, { url });
  else await io.out(`${url}\n`);
  io.note("Open this link within a minute; it can be used once.\n");
  return EXIT.ok;
}

/** linkOf shows the operator's certificate to the console, which only there and then gives a link. */
function linkOf({ target, timeoutMs }: Connection, origin: string, io: Io): Promise<string> {
  const { ca, cert, key, hubId } = target;
  const bundle = parseCertificates(ca);
  const failed = (why: string, cause?: unknown): CliError =>
    new CliError(EXIT.connect, `the console at ${origin} gives no link: ${why}`, "Check console.host and console.port in its hub.json.", {
      cause,
    });
  return new Promise((resolve, reject) => {
    const request = httpsRequest(`${origin}/link`, {
      method: "POST",
      agent: false,
      ca: [...ca],
      cert,
      key,
      minVersion: MIN_VERSION,
      rejectUnauthorized: true,
      // By its SPIFFE id, as everywhere: the hub may be reached by any address.
      checkServerIdentity: (_host, { raw }) => {
        const failure = checkServer(new X509Certificate(raw), { hubId }, bundle, io.clock.wall());
        return failure === undefined ? undefined : new FoedusError(failure);
      },
      headers: { "x-foedus-console": "1", "content-length": "0" },
    });
    const timer = io.clock.setTimer(timeoutMs, () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    request.on("error", (error) => {
      timer.cancel();
      reject(failed(clean(error.message), error));
    });
    request.once("response", (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        body += piece;
        if (body.length > ANSWER_BYTES) request.destroy(new Error("the answer is too long"));
      });
      response.once("end", () => {
        timer.cancel();
        const { link, message } = answerIn(body);
        if (link !== undefined) resolve(link);
        else reject(failed(clean(message ?? `it answers ${response.statusCode}`)));
      });
    });
    request.end();
  });
}

function answerIn(body: string): { readonly link?: string | undefined; readonly message?: string | undefined } {
  try {
    const { link, message } = JSON.parse(body) as Record<string, unknown>;
    const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
    return { link: text(link), message: text(message) };
  } catch {
    return {};
  }
}
