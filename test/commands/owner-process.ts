// The owner's hub as a process of its own, to be killed: `node owner-process.ts <json>`. It says its port on stdout.
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import { CommandHub, capability, type Pem } from "./hub.ts";

/** OwnerArguments is the one argument. */
export interface OwnerArguments {
  readonly hubId: string;
  readonly credential: Pem;
  readonly caller: string;
  readonly callerCaPem: string;
  readonly callerPort: number;
  readonly dataDir: string;
  /** True: a handler in the process echoes the argument; else executors must attach. */
  readonly handler?: boolean;
}

const { hubId, credential, caller, callerCaPem, callerPort, dataDir, handler } = JSON.parse(process.argv[2] ?? "{}") as OwnerArguments;
const hub = await new CommandHub({ hubId, credential, peerCaPems: { [caller]: callerCaPem }, dataDir }).start();
hub.directory({ kind: "put", hubId, nodeId: "lamp", online: true, capabilities: [capability("say", VALUE_TYPE.STRING)] });
hub.policy(() => "invoke");
if (handler === true) hub.service.setLocalCommandHandler(({ value }) => value);
hub.peer(caller, { port: callerPort });
process.stdout.write(`port ${hub.port}\n`);
process.stdin.resume().on("end", () => void hub.stop().then(() => process.exit(0)));
