import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { ConfigError } from "#runtime/config/load.ts";
import { LISTS_MAX_BYTES, readText } from "#runtime/files.ts";
import { checkFederation, type Federation, resolveFrom } from "../../services/hub/index.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { configFileOf, connectOwn, type OwnHub, type OwnHubFlags, ownContext, readOwnHub, withConfig } from "../own/own-hub.ts";
import { clean, count } from "../print/format.ts";
import { prose } from "../print/text.ts";
import { contextsOption } from "../reach/advice.ts";
import { connect } from "../reach/connect.ts";
import { credentialsOf, driftOf } from "../reach/context-drift.ts";
import { nearPath } from "../reach/near-path.ts";
import { type ConnectionFlags, printJson } from "../verb.ts";
import { lookAtCertificates, lookAtPeerCas, lookAtRevoked, lookAtTls } from "./certificates.ts";
import { lookAtOwnDoors, lookAtPeerDoors } from "./doors.ts";
import { hereOf, reachable } from "./here.ts";
import { type Check, type Finding, Ledger } from "./ledger.ts";
import { lookAtClock, lookAtDisk, readDisk } from "./machine.ts";
import { askRuleNodes } from "./rules.ts";
import { askHub, lookAtAnswers } from "./running.ts";
import { lookAtSettings } from "./settings.ts";

/** run looks at everything that can be wrong with the hub of a configuration. Fails (1) if something keeps it from working. */
export async function run(io: Io, _args: readonly string[], given: OwnHubFlags): Promise<ExitCode | undefined> {
  const flags = await withConfig(io, given);
  const ledger = new Ledger();
  const hub = readHub(io, flags, ledger);
  if (hub !== undefined) await examine(io, hub, flags, ledger);
  const here = hub === undefined ? { own: "", ask: "" } : await hereOf(io, hub, given, flags);
  const findings = ledger.findings.map((finding) => ({ ...finding, fix: reachable(finding.fix, here) }));
  await tell(io, hub, findings, ledger, flags);
  return findings.some(({ severity }) => severity === "error") ? EXIT.failed : EXIT.ok;
}

/** readHub reads the configuration; what is wrong with it is found, not thrown, so that all of it is told at once. */
function readHub(io: Io, flags: OwnHubFlags, ledger: Ledger): OwnHub | undefined {
  const file = configFileOf(io, flags);
  try {
    const hub = readOwnHub(io, flags);
    ledger.look(undefined);
    return hub;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems(ledger, error, "configuration", nearPath(io.cwd, file), "Correct it; docs/CONFIG.md lists every field.");
    return undefined;
  }
}

function problems(ledger: Ledger, error: ConfigError, check: Check, file: string, fix: string): void {
  for (const { path, source, message } of error.problems) {
    // Not all of a configuration stands in its file: an environment variable is mended elsewhere.
    const where = source.startsWith("env ") || source.startsWith("flag ") ? source : file;
    const ca = check === "federation-file" && path.endsWith(".ca");
    ledger.look({
      severity: "error",
      check,
      subject: path === "" ? where : path,
      message: path === "" && where !== file ? message : `${message} (${where})`,
      fix: ca ? "Pin the CA that its operator sent: `foedus peer add <hub-id> --ca <file>`." : fix,
    });
  }
}

const NO_PEERS: Federation = { peers: [], syncIntervalMs: 0 };

function readPeers(hub: OwnHub, ledger: Ledger, shown: (path: string) => string): Federation {
  const { federation_config_path: name } = hub.config;
  if (name === "") return NO_PEERS;
  const path = resolveFrom(hub.folder, name);
  const fix = "Correct it; a running hub goes on with the last good one.";
  let text: string;
  try {
    text = readText(path, LISTS_MAX_BYTES);
  } catch {
    ledger.look({
      severity: "error",
      check: "federation-file",
      subject: shown(path),
      message: "it cannot be read",
      fix: 'Write {"peers": []} into it, or correct federation_config_path.',
    });
    return NO_PEERS;
  }
  try {
    const federation = checkFederation(hub.config, hub.folder, text);
    ledger.look(undefined);
    return federation;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems(ledger, error, "federation-file", shown(path), fix);
    return NO_PEERS;
  }
}

async function examine(io: Io, hub: OwnHub, flags: OwnHubFlags, ledger: Ledger): Promise<void> {
  const { config, folder } = hub;
  const nowWall = io.clock.wall();
  const shown = (path: string): string => nearPath(io.cwd, path);
  const view = { ledger, hub, nowWall, shown };
  lookAtClock(ledger, nowWall);
  const own = lookAtCertificates(view);
  lookAtRevoked(view);
  const federation = readPeers(hub, ledger, shown);
  lookAtPeerCas(view, federation);
  if (own !== undefined && own.ca.length > 0) await lookAtTls(view, own, federation);
  lookAtSettings(ledger, config, federation);
  const data = resolveFrom(folder, config.data_dir);
  lookAtDisk(ledger, shown(data), readDisk(data));
  if (own === undefined || own.ca.length === 0) {
    ledger.skip(`the hub itself and its peers: its ${own === undefined ? "certificate" : "CA"} has to be fixed first`);
    return;
  }
  const visit = { ledger, config, own, clock: io.clock, caFile: shown(resolveFrom(folder, config.tls.ca)), configFile: shown(hub.file) };
  const runs = await lookAtOwnDoors(visit);
  const drift = await lookAtContext(io, ledger, hub, flags, runs);
  using connection = runs ? await (drift === undefined ? connectOwn(io, hub, flags) : connect(drift, io)) : undefined;
  const answers = connection === undefined ? undefined : await askHub(ledger, connection, io.stopped);
  const linked = (hubId: string): boolean =>
    answers?.peers.some((peer) => peer.hubId === hubId && peer.state === LinkState.OPERATIONAL) === true;
  await lookAtPeerDoors(visit, federation, linked);
  if (answers !== undefined && connection !== undefined) {
    lookAtAnswers(ledger, answers, config, federation);
    await askRuleNodes(ledger, connection, config, io.stopped);
  } else if (!runs) ledger.skip("links, clocks of peers and unacknowledged segments: only the running hub knows them");
  else if (connection === undefined)
    ledger.skip("links, clocks of peers and unacknowledged segments: there is no operator's certificate for asking the hub");
}

/**
 * lookAtContext compares the context of this hub with its configuration. If its ports are those of before, what comes back connects all the
 * same, so that the rest can be looked at.
 */
async function lookAtContext(io: Io, ledger: Ledger, hub: OwnHub, flags: OwnHubFlags, runs: boolean): Promise<ConnectionFlags | undefined> {
  const named = await ownContext(io, hub, flags);
  const drift = named === undefined ? undefined : driftOf(named, hub.config, contextsOption(named, io));
  ledger.look(
    drift !== undefined && {
      severity: runs ? "error" : "warning",
      check: "context",
      subject: nearPath(io.cwd, named!.file),
      message: drift.message,
      fix: `Update it: \`${drift.command}\`.`,
    },
  );
  if (named === undefined || drift === undefined) return undefined;
  return { address: drift.addresses, ...credentialsOf(named), ...(flags.timeout === undefined ? {} : { timeout: flags.timeout }) };
}

async function tell(
  io: Io,
  hub: OwnHub | undefined,
  findings: readonly Finding[],
  { looked, skipped, notes }: Ledger,
  flags: OwnHubFlags,
): Promise<void> {
  if (flags.json)
    return printJson(io, {
      hub_id: hub?.config.hub_id ?? null,
      config_file: hub?.file ?? null,
      looked_at: looked,
      findings,
      notes,
      not_looked_at: skipped,
    });
  if (flags.quiet)
    return io.out(findings.map(({ severity, subject, message }) => `${severity} ${clean(subject)}: ${clean(message)}\n`).join(""));
  await io.out(findings.map((finding) => findingText(io, finding)).join(""));
  for (const note of notes) io.note(`${clean(note)}\n`);
  for (const what of skipped) io.note(`not looked at: ${what}\n`);
  const of = (severity: Finding["severity"]): number => findings.filter((finding) => finding.severity === severity).length;
  const sum = findings.length === 0 ? "nothing found" : `${count(of("error"), "error")}, ${count(of("warning"), "warning")}`;
  const file = nearPath(io.cwd, configFileOf(io, flags));
  const end = `${hub?.config.hub_id ?? "the hub"} (${file}): ${sum}; ${count(looked, "thing")} looked at`;
  await io.out(`${prose(end, io.columns).join("\n")}\n`);
}

const INDENT = " ".repeat(9);

function findingText(io: Io, { severity, subject, message, fix }: Finding): string {
  const head = io.style(severity === "error" ? "red" : "yellow", severity.padEnd(7));
  const about = clean(subject);
  const [first = "", ...more] = prose(`${about}: ${clean(message)}`, io.columns, INDENT.length);
  // A subject that is longer than the line stands as it is.
  const bold = first.startsWith(`${about}:`) ? `${io.style("bold", about)}${first.slice(about.length)}` : first;
  return `${head}  ${[bold, ...more, ...prose(clean(fix), io.columns, INDENT.length)].join(`\n${INDENT}`)}\n`;
}
