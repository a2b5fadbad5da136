import { Command, Option } from "commander";
import { adapterVerbs } from "./adapter/program.ts";
import { agentVerbs } from "./agents/program.ts";
import type { Declare, Loaded } from "./declare.ts";
import { deviceVerbs, nodeAddVerb } from "./device/program.ts";
import { federationVerbs } from "./federation/program.ts";
import { resourceVerbs } from "./resources/program.ts";
import { VERSION } from "./version.ts";

/** Handle runs a verb; main.ts gives it. The code of a verb is loaded when it is run: `foedus version` does not load gRPC. */
export type Handle = (command: Command, load: () => Promise<Loaded>) => Promise<void>;

const many = (text: string, list: readonly string[] = []): string[] => [...list, text];

const HELP_FOOTER = `
Start with foedus hub init <hub-id>, which creates the folder of a new hub.
Connect with --hub <context>, or with --address, --ca, --cert and --key; without either, the current context is used.
Environment: FOEDUS_HUB, FOEDUS_ADDRESS, FOEDUS_CA, FOEDUS_CERT, FOEDUS_KEY, FOEDUS_CONTEXTS, NO_COLOR, FOEDUS_DEBUG=1.
Exit codes: 0 ok, 1 failed, 2 usage, 3 cannot connect, 4 refused, 5 not found, 6 timeout.`;

/** footerOf wraps the last lines of the help as commander wraps all others: at the width of the terminal, else at 80. */
function footerOf(program: Command): string {
  return program.createHelp().boxWrap(HELP_FOOTER, program.configureOutput().getOutHelpWidth?.() ?? 80);
}

function output(command: Command): Command {
  return command
    .option("--json", "machine output: one JSON document, or one per line for streams")
    .option("-q, --quiet", "names or values only, and no notes");
}

function operator(command: Command): Command {
  return output(command)
    .option("--hub <context>", "context from the contexts file")
    .option("--address <address>", "host:port, or service=host:port for each service in split mode (repeatable)", many)
    .option("--ca <file>", "CA certificate of the hub, PEM")
    .option("--cert <file>", "operator's certificate, PEM")
    .option("--key <file>", "operator's key, PEM")
    .option("--contexts <file>", "contexts file (default: the nearest .foedus/contexts.json, then the user's)")
    .option("--timeout <duration>", "how long to wait for an answer, e.g. 500ms, 10s, 2m (default: 10s)");
}

function nodeFilter(command: Command): Command {
  return command
    .option("--hub-id <hub>", "only nodes of this hub (repeatable)", many)
    .option("--type <type>", "only nodes of this type")
    .option("--kind <kind>", "device or agent")
    .option("--capability <name>", "only nodes that have this capability")
    .option("--online", "only nodes that are online")
    .option("--label <key=value>", "only nodes with this label (repeatable)", many)
    .option("--prefix <text>", "only nodes whose id begins with this");
}

/** buildProgram declares every verb. */
export function buildProgram(handle: Handle): Command {
  const program = new Command("foedus");
  program
    .description("Hubs of different owners work as one without giving up control.")
    .version(`foedus ${VERSION}`, "-V, --version", "print the version")
    // Descriptions are wrapped down to this width; commander alone leaves narrow ones to the terminal, which breaks words.
    .configureHelp({ minWidthToWrap: 10 })
    .addHelpText("after", () => footerOf(program))
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  const verb = (parent: Command, signature: string, description: string, load: () => Promise<Loaded>): Command => {
    const command = parent.command(signature).description(description);
    return command.action(() => handle(command, load));
  };
  hubVerbs(verb, program);
  ownHubVerbs(verb, program);
  adapterVerbs(verb, program);
  operatorVerbs(verb, program);
  nodeVerbs(verb, program);
  insightVerbs(verb, program);
  mcpVerbs(verb, program);
  pkiVerbs(verb, program);
  otherVerbs(verb, program, handle);
  return program;
}

function hubVerbs(verb: Declare, program: Command): void {
  const config = (command: Command): Command =>
    command
      .option("--config <file>", "configuration file (default: FOEDUS_CONFIG, then hub.json)")
      .option("--set <path=value>", "set a field of the configuration, e.g. listen.port=0 (repeatable)", many)
      .option("--json", "print the addresses as one JSON line when ready")
      .option("-q, --quiet", "print nothing when ready");
  const hub = config(verb(program, "hub", "run all services of a hub in this process", async () => (await import("./own/hub.ts")).run));
  output(
    verb(
      hub,
      "init <hub-id>",
      "create the folder of a new hub: configuration, certificates and a context",
      async () => (await import("./own/hub-init.ts")).init,
    ),
  )
    .option("--dir <folder>", "folder of the hub (default: its id)")
    .option("--port <n>", "port to listen on (default: 18800); split mode, health and metrics use the ports after it")
    .option("--advertise <host>", "host name or address to tell peers (default: 127.0.0.1, this machine only; empty: dial out only)");
  config(verb(program, "serve <service>", "run one service of a hub in this process", async () => (await import("./own/serve.ts")).run));
}

/** Verbs on a hub's own files, which also ask the hub if it runs. */
function ownHub(command: Command): Command {
  return output(command)
    .option("--config <file>", "configuration file of the hub (default: FOEDUS_CONFIG, then hub.json)")
    .option("--hub <context>", "context for reaching the running hub (default: the one for this hub)")
    .option("--contexts <file>", "contexts file (default: the nearest .foedus/contexts.json to the configuration)")
    .option("--timeout <duration>", "how long to wait for the running hub (default: 10s)");
}

function ownHubVerbs(verb: Declare, program: Command): void {
  const peer = program.command("peer").description("manage the peers of the hub in this folder; a running hub applies changes at once");
  const load = async (): Promise<typeof import("./own/peer.ts")> => import("./own/peer.ts");
  ownHub(
    verb(peer, "list", "list the peers in the federation file, with their links if the hub is running", async () => (await load()).list),
  );
  ownHub(verb(peer, "add <hub-id>", "pin a hub's CA and add the hub as a peer, or change its entry", async () => (await load()).add))
    .option("--ca <file>", "CA certificate of that hub, PEM; it is copied")
    .option("--fingerprint <sha256>", "SHA-256 that the CA must have, as its operator told you (repeatable)", many)
    .option("--host <host>", "host name or address to dial; without it the peer has to dial this hub")
    .option("--port <n>", "its port (default: 18800)")
    .addOption(new Option("--max-trust <level>", "ceiling of its trust level (default: limited)").choices(["full", "limited", "minimal"]))
    .option("--share <name>", "share for the peer (default: full or limited, like its ceiling)");
  const introduction = async (): Promise<typeof import("./own/introduction.ts")> => import("./own/introduction.ts");
  const grants = (command: Command): Command =>
    command
      .addOption(new Option("--max-trust <level>", "ceiling of its trust level (default: limited)").choices(["full", "limited", "minimal"]))
      .option("--share <name>", "share for the peer (default: full or limited, like its ceiling)");
  grants(
    ownHub(
      verb(
        peer,
        "invite",
        "invite one hub: print an invite and a PIN, wait for the hub, pin its CA",
        async () => (await introduction()).invite,
      ),
    ),
  )
    .option("--ttl <duration>", "how long the invite is valid, 10s to 1h (default: 300s)")
    .option("--listen <host:port>", "address to listen on for the other hub (default: the hub's address, fifth port after its own)")
    .option("--advertise <host:port>", "address to put into the invite, if the other hub has to dial a different one");
  grants(
    ownHub(
      verb(
        peer,
        "accept <invite...>",
        "accept an invite: pin the CA of the inviting hub, and let it pin ours",
        async () => (await introduction()).accept,
      ),
    ),
  ).option("--pin <digits>", "the PIN, instead of a prompt");
  ownHub(
    verb(peer, "remove <hub-id>", "remove a peer, and list what is deleted and what is kept", async () => (await load()).remove),
  ).option("--dry-run", "only print what would happen");
  ownHub(
    verb(peer, "trust <hub-id> <level>", "set the ceiling of a peer's trust: full, limited or minimal", async () => (await load()).trust),
  );
  ownHub(verb(peer, "revoke <hub-id>", "refuse a stolen certificate of one of a peer's services", async () => (await load()).revoke))
    .option("--certificate <file>", "file of the certificate")
    .option("--fingerprint <sha256>", "SHA-256 of the certificate instead of its file (repeatable)", many);
  ownHub(
    verb(
      program,
      "doctor",
      "check the hub in this folder, and say how to fix what is wrong",
      async () => (await import("./doctor/doctor.ts")).run,
    ),
  );
}

function operatorVerbs(verb: Declare, program: Command): void {
  operator(
    verb(
      program,
      "status",
      "show the state of the hub: modules, peers, nodes and how current they are",
      async () => (await import("./verbs/status.ts")).run,
    ),
  );
  const peers = operator(
    verb(
      program,
      "peers [hub]",
      "list peers, or show one with the evidence for its trust",
      async () => (await import("./verbs/peers.ts")).run,
    ),
  );
  operator(verb(peers, "enable <hub>", "enable the link to a peer again", async () => (await import("./verbs/peers.ts")).enable));
  operator(
    verb(
      peers,
      "disable <hub>",
      "end the link to a peer until it is enabled again",
      async () => (await import("./verbs/peers.ts")).disable,
    ),
  );
  operator(
    verb(
      program,
      "console",
      "print a link that logs a browser in at the hub's console, once",
      async () => (await import("./verbs/console.ts")).run,
    ),
  );
  shareVerbs(verb, program);
  federationVerbs(verb, program, operator);
  resourceVerbs(verb, program, operator);
  agentVerbs(verb, program, operator);
}

/** shareVerbs are those about what peers see. */
function shareVerbs(verb: Declare, program: Command): void {
  const share = program.command("share").description("what a peer sees of this hub, and why");
  operator(
    verb(
      share,
      "test <peer>",
      "show which nodes a peer sees and may invoke, and which rule decides",
      async () => (await import("./verbs/share/share-test.ts")).run,
    ),
  )
    .option("--node <node>", "explain one node of this hub, rule by rule, or the import of one of the peer's nodes")
    .option("--share <name>", "try this share instead of the one that the peer has")
    .addOption(new Option("--trust <level>", "try this trust level instead of the present one").choices(["full", "limited", "minimal"]))
    .option("--config <file>", "try the rules of this configuration file instead of those of the running hub");
}

/** nodeVerbs are those about nodes and what they do. */
function nodeVerbs(verb: Declare, program: Command): void {
  nodeFilter(
    operator(verb(program, "nodes", "list nodes of this hub and of its peers", async () => (await import("./verbs/nodes.ts")).run)),
  ).option("--limit <n>", "maximum number of results");
  const node = operator(
    verb(
      program,
      "node <node>",
      "show one node (hub/node, or a bare id): capabilities, state, freshness",
      async () => (await import("./verbs/node.ts")).run,
    ),
  ).option("--max-staleness <duration>", "fail if the answer would be older than this");
  nodeAddVerb(verb, node);
  deviceVerbs(verb, program);
  operator(
    verb(
      program,
      "send <node> <capability> [value]",
      "run a command on a node and wait for its outcome",
      async () => (await import("./verbs/send.ts")).run,
    ),
  )
    .option("--idempotency-key <key>", "repeating the command with this key within 24 h returns the stored outcome and runs nothing")
    .option("--type <type>", "type of the value (default: that of the capability, which the hub is asked for)")
    .option("--traceparent <context>", "W3C trace context that the command belongs to (default: TRACEPARENT and TRACESTATE)");
  nodeFilter(
    operator(verb(program, "watch [node]", "print changes of nodes as they happen", async () => (await import("./verbs/watch.ts")).run)),
  )
    .option("--snapshot", "print the current state first")
    .option("--nodes-only", "leave out state changes");
}

/** insightVerbs are those by which operators look into a hub. */
function insightVerbs(verb: Declare, program: Command): void {
  operator(verb(program, "events", "list what happened, oldest first", async () => (await import("./verbs/events.ts")).run))
    .option("-f, --follow", "continue with new events")
    .option("--kind <kind>", "only this kind, e.g. link-state (repeatable)", many)
    .option("--severity <severity>", "minimum severity: debug, info, warning or error (default: info)")
    .option("--peer <hub>", "only about this peer")
    .option("--node <hub/node>", "only about this node")
    .option("--caller <name>", "only commands of this caller, e.g. admin, operator/admin, or a peer's hub")
    .option("--outcome <outcome>", "only commands with this outcome: done, failed, rejected, expired or unknown (repeatable)", many)
    .option("--command <name>", "only the command with this name (hub/epoch/number) or idempotency key")
    .option("--since <duration>", "not older than, e.g. 1h")
    .option("--until <duration>", "older than, e.g. 10m")
    .option("--limit <n>", "maximum number of events (default: 50; 10 before following)");
  operator(verb(program, "links", "show counters of each link", async () => (await import("./verbs/links.ts")).run));
  operator(
    verb(
      program,
      "feeds",
      "show the feeds that the hub holds, their positions, and which peers have them",
      async () => (await import("./verbs/feeds.ts")).run,
    ),
  );
  operator(
    verb(program, "config", "show the effective configuration, secrets redacted", async () => (await import("./verbs/config.ts")).run),
  )
    .option("--file <file>", "read this file instead of asking the running hub")
    .option("--diff <file>", "show what another file would change, and what of it needs a restart");
}

/** mcpVerbs serve a hub to agents. */
function mcpVerbs(verb: Declare, program: Command): void {
  operator(
    verb(program, "mcp", "serve the tools of a hub to agents (Model Context Protocol)", async () => (await import("./mcp/mcp.ts")).run),
  )
    .option("--http [host:port]", "serve over HTTP instead of stdio (default: 127.0.0.1:18828)")
    .option("--token-file <file>", "HTTP: callers send the bearer token in this file, which is made if it is not there")
    .option("--tls-cert <file>", "HTTP: serve over TLS with this certificate, PEM")
    .option("--tls-key <file>", "HTTP: its key, PEM")
    .option("--mutual-tls", "HTTP: callers show the certificate of an operator of the hub")
    .option("--allow-origin <origin>", "HTTP: pages of this origin may call (repeatable)", many)
    .option("--allow-host <name>", "HTTP: another name of this server (repeatable)", many);
}

const dir = (command: Command): Command => output(command).option("--dir <folder>", "folder with ca.pem and ca.key (default: pki)");
const keys = (command: Command): Command =>
  command
    .option("--key-bits <n>", "size of new RSA keys (default: 2048)")
    .option("--force", "make new keys and certificates even if the present ones are valid");
const sans = (command: Command): Command =>
  command
    .option("--dns <name>", "service: additional host name (repeatable)", many)
    .option("--ip <address>", "service: additional address (repeatable)", many);
const rights = (command: Command): Command =>
  command
    .addOption(new Option("--role <role>", "operator: what it may do").choices(["metrics", "viewer", "admin"]))
    .option("--prefix <prefix>", "gateway: beginning of the node ids it may speak for (repeatable)", many)
    .option("--life <duration>", "shorter validity than the default for its kind, e.g. 7d");

function pkiVerbs(verb: Declare, program: Command): void {
  const pki = program.command("pki").description("manage certificates: the hub's CA and what it issues");
  keys(
    sans(
      dir(
        verb(
          pki,
          "init <hub-id>",
          "create a hub's CA, its service certificate and an admin certificate",
          async () => (await import("./pki/pki.ts")).init,
        ),
      ),
    ),
  )
    .option("--split", "also issue one certificate for each service")
    .option("--new-authority", "replace the CA; peers reject this hub until they have pinned the new one");
  keys(
    rights(
      sans(
        dir(
          verb(
            pki,
            "issue <kind> [name]",
            "issue a certificate: service, node, gateway or operator",
            async () => (await import("./pki/pki.ts")).issue,
          ),
        ),
      ),
    ),
  );
  output(verb(pki, "show <files...>", "show what is in certificates and requests", async () => (await import("./pki/pki.ts")).showFiles));
  ownHub(
    verb(pki, "list", "list the hub's certificates, and those that are revoked", async () => (await import("./pki/pki-revoke.ts")).list),
  );
  ownHub(
    verb(
      pki,
      "revoke [files...]",
      "refuse certificates of this hub (node, gateway, operator, service) that were stolen or are no longer wanted",
      async () => (await import("./pki/pki-revoke.ts")).revoke,
    ),
  )
    .option("--fingerprint <sha256>", "SHA-256 of a certificate instead of its file (repeatable)", many)
    .option("--reason <text>", "reason to record in the list and in the event")
    .option("--undo", "accept them again")
    .option("--force", "also revoke a certificate that the hub itself uses");
  requestVerbs(verb, pki);
}

/** requestVerbs are those of certificates that are made in more than one place, and again. */
function requestVerbs(verb: Declare, pki: Command): void {
  output(
    verb(
      pki,
      "secrets <plan>",
      "keep certificates in Secrets of the Kubernetes cluster that this runs in, as the chart's Job does",
      async () => (await import("./pki/pki-secrets.ts")).secrets,
    ),
  ).option("--service-account <folder>", "folder with token, ca.crt and namespace (default: where a pod has them)");
  keys(dir(verb(pki, "renew", "renew certificates that expire soon", async () => (await import("./pki/pki.ts")).renew)));
  keys(
    sans(
      output(verb(pki, "csr <kind> <name>", "create a key and a certificate request here", async () => (await import("./pki/pki.ts")).csr)),
    ),
  )
    .option("--hub-id <hub>", "hub whose CA will sign the request")
    .option("--out <path>", "path of the files without .key and .csr (default: <kind>-<name>)");
  rights(
    sans(dir(verb(pki, "sign <request> <kind> <name>", "sign a certificate request", async () => (await import("./pki/pki.ts")).sign))),
  )
    .option("--key-sha256 <digest>", "digest of the key, as its sender told you")
    .option("--out <file>", "certificate file (default: <kind>-<name>.pem beside the request)");
}

function otherVerbs(verb: Declare, program: Command, handle: Handle): void {
  const contexts = program.command("contexts").description("manage the hubs that this command knows by name");
  const file = (command: Command): Command => output(command).option("--contexts <file>", "contexts file");
  file(verb(contexts, "list", "list the contexts", async () => (await import("./verbs/contexts.ts")).list));
  file(verb(contexts, "use <context>", "select the current context", async () => (await import("./verbs/contexts.ts")).use));
  file(
    verb(
      contexts,
      "add <context>",
      "add a context, or change the given fields of one",
      async () => (await import("./verbs/contexts.ts")).add,
    ),
  )
    .option("--hub-id <hub>", "id of the hub (default: the name of the context)")
    .option("--address <address>", "host:port, or service=host:port for each service in split mode (repeatable)", many)
    .option("--ca <file>", "CA certificate of the hub")
    .option("--cert <file>", "operator's certificate")
    .option("--key <file>", "operator's key");
  const completion = program.command("completion <shell>").description("print a completion script for bash, zsh or fish");
  completion.action(() =>
    handle(completion, async () => {
      const { completion: print } = await import("./completion.ts");
      return (io, [shell = ""]) => print(io, program, shell);
    }),
  );
  output(verb(program, "version", "print the version", async () => (await import("./version.ts")).run));
}
