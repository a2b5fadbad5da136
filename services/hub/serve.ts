import { describeHoldings } from "#kernel/bounds/holdings.ts";
import { connectionsFor, descriptorLimit } from "#runtime/descriptors.ts";
import type { ServiceBinding } from "#runtime/rpc/call.ts";
import { createRpcServer, type RpcServer } from "#runtime/rpc/server/server.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import { judgeMaterial } from "#runtime/tls/judge.ts";
import type { JwtVerifier } from "#runtime/tokens/verify.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import type { ServiceEndpoint } from "../discovery/index.ts";
import type { Credentials } from "./credentials.ts";
import { type Ground, listenOf } from "./ground.ts";
import type { ViewAuthority } from "./peers/authority.ts";
import { SERVICES } from "./services.ts";

/** ServeParts are what the server of a process is made of. */
export interface ServeParts {
  readonly credentials: Credentials;
  readonly authority: () => ViewAuthority;
  readonly verifier: JwtVerifier;
  readonly tracer: Tracer | undefined;
  readonly bindings: () => readonly ServiceBinding[];
}

/** Serve is the port of a process: its server, what that shows and trusts, and what peers are told of it. */
export class Serve {
  readonly #ground: Ground;
  readonly #parts: ServeParts;
  #server: RpcServer | undefined;
  #port = 0;
  #httpPort = 0;
  #consolePort = 0;

  constructor(ground: Ground, parts: ServeParts) {
    this.#ground = ground;
    this.#parts = parts;
  }

  /** port on which gRPC is served; 0 before. */
  get port(): number {
    return this.#port;
  }

  /** server is there once it listens. */
  get server(): RpcServer | undefined {
    return this.#server;
  }

  /** module makes the server a module, so that it is started and stopped in its turn. */
  module(): ServiceModule {
    let serving = false;
    return {
      name: "rpc",
      bindings: [],
      start: async () => {
        const { host, port, setting } = listenOf(this.#ground);
        const server = this.#create();
        this.#port = await server.listen(host, port, setting);
        this.#server = server;
        await this.#serveHttp(server);
        await this.#serveConsole(server);
        this.#parts.credentials.onRenewed(() => {
          this.#parts.authority().bump();
          server.rotate(this.#material());
          server.recheck();
        });
        serving = true;
      },
      readiness: () => (serving ? { ready: true } : { ready: false, reason: "not listening" }),
      describe: () => this.#describe(),
      stop: async (graceMs) => {
        serving = false;
        await this.#server?.drain(graceMs);
      },
    };
  }

  /** serveHttp opens the port for HTTP, if there is to be one. A hub without loads nothing of it. */
  async #serveHttp(server: RpcServer): Promise<void> {
    const { config, runs, clock, entropy, log, metrics } = this.#ground;
    const { enabled, host, port } = config.http;
    if (!enabled) return;
    if (runs !== "hub") return log.warn({ setting: "http.enabled" }, "http is served by a hub in one process only; this process does not");
    const { serveConnect } = await import("#runtime/connect/serve.ts");
    const parts = { entrance: server.entrance, material: this.#material(), clock, ids: entropy, log, metrics };
    this.#httpPort = await serveConnect({ ...parts, host, port, setting: "http.port" });
    log.info({ host, port: this.#httpPort }, "http is served");
  }

  /** serveConsole opens the port for browsers, if there is to be one. */
  async #serveConsole(server: RpcServer): Promise<void> {
    const { config, runs, clock, entropy, log, metrics } = this.#ground;
    const { enabled, host, port } = config.console;
    if (!enabled) return;
    if (runs !== "hub")
      return log.warn({ setting: "console.enabled" }, "the console is served by a hub in one process only; this process does not");
    const { serveConsole } = await import("./console/serve.ts");
    const parts = { entrance: server.entrance, material: this.#material(), clock, entropy, log, metrics };
    this.#consolePort = await serveConsole({ ...parts, host, port });
    log.info({ host, port: this.#consolePort }, "the console is served");
  }

  /** casChanged offers the CA certificates of the peers as they are now to TLS. */
  casChanged(): void {
    this.#server?.rotate(this.#material());
    void this.#judge();
  }

  /** endpoints are what peers are told; none for a hub that only dials out. */
  endpoints(): ServiceEndpoint[] {
    const { config, runs } = this.#ground;
    const { id } = this.#parts.credentials.certificate;
    if (runs === "hub") {
      if (config.advertise_host === "") return [];
      const port = config.advertise_port === 0 ? this.#port : config.advertise_port;
      return SERVICES.map((service) => ({ service, host: config.advertise_host, port, spiffeId: id.uri }));
    }
    return SERVICES.flatMap((service) => {
      const at = config.services[service];
      const host = at.advertise_host === "" ? config.advertise_host : at.advertise_host;
      if (host === "") return [];
      const name = at.cert === "" ? id.name : service;
      const port = at.advertise_port === 0 ? at.port : at.advertise_port;
      return [{ service, host, port, spiffeId: `spiffe://${config.hub_id}/service/${name}` }];
    });
  }

  #create(): RpcServer {
    const { clock, entropy, log, events, metrics, live } = this.#ground;
    const { authority, verifier, tracer, bindings } = this.#parts;
    return createRpcServer({
      bindings: bindings(),
      credentials: createServerCredentials(this.#material(), { maxConcurrentStreams: 1_000 }),
      authority: authority(),
      tokens: verifier,
      metrics,
      log,
      events: events.sink("hub"),
      clock,
      ids: entropy,
      limits: { maxConnections: connectionsFor(descriptorLimit()) },
      rates: () => live.rates,
      tracer,
    });
  }

  #describe(): string {
    const server = this.#server;
    const http = (this.#httpPort === 0 ? "" : ` http=${this.#httpPort}`) + (this.#consolePort === 0 ? "" : ` console=${this.#consolePort}`);
    return `connections=${server?.connections ?? 0} calls=${server?.calls ?? 0}${http}\n${describeHoldings(server?.shared() ?? [])}`.trimEnd();
  }

  /** judge says when a peer's CA keeps TLS from taking our own certificate: two CAs of one name cannot always be told apart. */
  async #judge(): Promise<void> {
    const { clock, log, events } = this.#ground;
    const failure = await judgeMaterial(this.#material(), clock);
    if (failure === undefined) return;
    log.error({ failure }, "certificate is not taken beside the CAs of the peers");
    events.sink("hub").report({ kind: "CREDENTIAL", severity: "ERROR", text: `with the CAs of the peers: ${failure.message}` });
  }

  #material(): { cert: string; key: string; ca: readonly string[] } {
    const { credentials, authority } = this.#parts;
    const { cert, key } = credentials.certificate;
    return { cert, key, ca: [...credentials.caPems, ...authority().pems()] };
  }
}
