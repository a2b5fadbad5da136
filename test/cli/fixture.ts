import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { fail } from "#kernel/error.ts";
import type { Handlers, ServiceBinding } from "#runtime/rpc/call.ts";
import { type Fixture, serve } from "../rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../testca/index.ts";

const MAIN = join(import.meta.dirname, "../../cli/main.ts");

/** FixedHandlers answer the RPCs that a test needs; all others are refused with NOT_CONFIGURED. */
export interface FixedHandlers {
  readonly hub?: Partial<Handlers<typeof HubService>>;
  readonly discovery?: Partial<Handlers<typeof DiscoveryService>>;
  readonly registry?: Partial<Handlers<typeof RegistrySyncService>>;
  readonly commands?: Partial<Handlers<typeof CommandForwardingService>>;
  readonly telemetry?: Partial<Handlers<typeof TelemetryService>>;
  readonly coordination?: Partial<Handlers<typeof CoordinationService>>;
}

function binding<S extends GenService<GenServiceMethods>>(service: S, handlers: Partial<Handlers<S>> = {}): ServiceBinding {
  const refuse = (): never => {
    throw fail("NOT_CONFIGURED", "this test has no answer for that");
  };
  const all = Object.fromEntries((service as DescService).methods.map(({ localName }) => [localName, refuse]));
  return { service, handlers: { ...all, ...handlers } };
}

/** Finished is a command that has ended. */
export interface Finished {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Running is a command that was started: its output so far, and ways to wait for more. */
export class Running {
  readonly child: ChildProcess;
  readonly done: Promise<Finished>;
  out = "";
  err = "";
  readonly #waiting = new Set<() => void>();

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#add("out", text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#add("err", text));
    this.done = new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => resolve({ code, out: this.out, err: this.err }));
    });
  }

  #add(stream: "out" | "err", text: string): void {
    this[stream] += text;
    for (const look of this.#waiting) look();
  }

  /** printed resolves when the output contains a text, and rejects if the command ends without it. */
  printed(text: string, stream: "out" | "err" = "out"): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!this[stream].includes(text)) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      void this.done.then(() => reject(new Error(`ended without printing ${text}: ${this.out} ${this.err}`)));
      look();
    });
  }
}

/** start runs the command as people do: a process of its own, without a terminal. */
export function start(
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: Readonly<Record<string, string>>;
    readonly main?: string;
    /** What it reads from stdin; nothing by default. */
    readonly input?: string;
  } = {},
): Running {
  const { PATH = "", HOME = "" } = process.env;
  const env = { PATH, HOME, XDG_CONFIG_HOME: "/nonexistent", ...options.env };
  const stdin = options.input === undefined ? "ignore" : "pipe";
  const child = spawn(process.execPath, [options.main ?? MAIN, ...args], {
    cwd: options.cwd ?? tmpdir(),
    env,
    stdio: [stdin, "pipe", "pipe"],
  });
  child.stdin?.on("error", () => undefined).end(options.input);
  return new Running(child);
}

/** FixedHub is a server with real mutual TLS that answers from handlers, and a folder with a contexts file for it. */
export interface FixedHub {
  readonly hub: TestHub;
  readonly fixture: Fixture;
  readonly folder: string;
  /** foedus runs a command with the contexts file of this hub. */
  foedus(...args: readonly string[]): Promise<Finished>;
  start(...args: readonly string[]): Running;
  /** write puts a credential into the folder and gives the flags that use it. */
  flags(name: string, credential: Credential): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** fixedHub starts a hub named home on a free port. */
export async function fixedHub(handlers: FixedHandlers): Promise<FixedHub> {
  const hub = await testHub("home");
  const bindings = [
    binding(HubService, handlers.hub),
    binding(DiscoveryService, handlers.discovery),
    binding(RegistrySyncService, handlers.registry),
    binding(CommandForwardingService, handlers.commands),
    binding(TelemetryService, handlers.telemetry),
    binding(CoordinationService, handlers.coordination),
  ];
  const fixture = await serve(hub, [], { bindings });
  const folder = await mkdtemp(join(tmpdir(), "foedus-cli-"));
  const address = `127.0.0.1:${fixture.port}`;
  const write = async (name: string, credential: Credential): Promise<void> => {
    await Promise.all([
      writeFile(join(folder, `${name}-ca.pem`), credential.caPem),
      writeFile(join(folder, `${name}.pem`), credential.certificatePem),
      writeFile(join(folder, `${name}.key`), credential.keyPem, { mode: 0o600 }),
    ]);
  };
  await write("admin", hub.operator("admin", "admin"));
  const contexts = {
    current: "home",
    contexts: { home: { hub_id: "home", address, ca: "admin-ca.pem", cert: "admin.pem", key: "admin.key" } },
  };
  const file = join(folder, "contexts.json");
  await writeFile(file, JSON.stringify(contexts));
  const env = { FOEDUS_CONTEXTS: file };
  return {
    hub,
    fixture,
    folder,
    foedus: (...args) => start(args, { cwd: folder, env }).done,
    start: (...args) => start(args, { cwd: folder, env }),
    flags: async (name, credential) => {
      await write(name, credential);
      return [
        "--address",
        address,
        "--ca",
        join(folder, `${name}-ca.pem`),
        "--cert",
        join(folder, `${name}.pem`),
        "--key",
        join(folder, `${name}.key`),
      ];
    },
    close: async () => {
      await fixture.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
