import { join } from "node:path";
import { type ConnectOptions, Hub } from "../../clients/typescript/index.ts";
import { loadHubConfig, type RunningHub, startHub } from "../../services/hub/index.ts";
import { Federation, type HubProcess } from "./federation.ts";

/** HubHere is the hub `home` in this process, over real mutual TLS, and the connections that the SDK has to it. */
export class HubHere {
  readonly federation: Federation;
  /** Its files and addresses; it is no process of its own. */
  readonly home: HubProcess;
  readonly #opened: Hub[] = [];
  #running: RunningHub | undefined;

  private constructor(federation: Federation) {
    this.federation = federation;
    this.home = federation.hub("home");
  }

  /** start starts it. Of the other hubs there are only the files, in `federation`. */
  static async start(...others: readonly string[]): Promise<HubHere> {
    const hubs = ["home", ...others].map((id) => ({ id, peers: [] }));
    const here = new HubHere(await Federation.prepare({ hubs, logLevel: "error" }));
    await here.begin();
    return here;
  }

  /** begin starts the hub again after `end`. */
  async begin(): Promise<void> {
    this.#running = await startHub({ ...loadHubConfig({ file: join(this.home.dir, "hub.json") }), runs: "hub" });
  }

  async end(): Promise<void> {
    await this.#running?.stop();
    this.#running = undefined;
  }

  /** connect connects with the certificate of that name, unless there is `more` to say. */
  async connect(name: string, more: ConnectOptions = {}): Promise<Hub> {
    const hub = await Hub.connect({ address: this.home.address("registry-sync"), ...this.home.pki(name), ...more });
    this.#opened.push(hub);
    return hub;
  }

  /** stop closes the connections, and stops all. */
  async stop(): Promise<void> {
    for (const hub of this.#opened) hub.close();
    await this.end();
    await this.federation.stop();
  }
}
