// One hub of `test/liveness/main.ts`: both detectors in one event loop, over UDP on loopback.
import { createSocket } from "node:dgram";
import { Prng } from "#kernel/prng.ts";
import { Detector } from "../../services/coordination/liveness/detector.ts";
import type { LivenessFrame } from "../../services/coordination/liveness/frames.ts";
import type { LivenessEffect, LivenessInput } from "../../services/coordination/liveness/messages.ts";
import { DEFAULT_LIVENESS } from "../../services/coordination/liveness/settings.ts";
import { Plain } from "../simulator/liveness/plain.ts";
import { monoMs, type ToChild, type ToParent } from "./messages.ts";

const [hubId = "", boot = "1", members = "", interval = "1000"] = process.argv.slice(2);
const others = members.split(",").filter((name) => name !== hubId);
const intervalMs = Number(interval);

const tell = (message: ToParent): void => void process.send?.(message);
const socket = createSocket("udp4");
const ports = new Map<string, number>();
const core = new Detector({ ...DEFAULT_LIVENESS, intervalMs, hubId, boot: Number(boot) }, new Prng(Number(boot) * 1_000 + process.pid));
const plain = new Plain(others, intervalMs, monoMs());
let timer: NodeJS.Timeout | undefined;

function send(to: string, frame: LivenessFrame | "heartbeat"): void {
  const port = ports.get(to);
  // Nobody listens at the port of a dead hub; that says nothing here.
  if (port !== undefined) socket.send(JSON.stringify({ from: hubId, frame }), port, "127.0.0.1", () => {});
}

function effects(out: readonly LivenessEffect[]): void {
  for (const effect of out)
    if (effect.kind === "send") send(effect.to, effect.frame);
    else if (effect.kind === "suspected") tell({ kind: "found", found: "suspected", hub: effect.hub, at: monoMs() });
    else if (effect.kind === "accuse") tell({ kind: "found", found: "accused", hub: effect.hub, at: monoMs() });
}

function step(input: LivenessInput): void {
  const out: LivenessEffect[] = [];
  const mono = monoMs();
  core.step({ mono, wall: mono }, input, out);
  effects(out);
}

function timers(): void {
  const mono = monoMs();
  if ((core.deadline() ?? mono + 1) <= mono) {
    const out: LivenessEffect[] = [];
    core.tick({ mono, wall: mono }, out);
    effects(out);
  }
  if (plain.deadline() <= mono) {
    const { beat, suspects } = plain.tick(mono);
    for (const hub of suspects) tell({ kind: "found", found: "plain", hub, at: mono });
    if (beat) for (const hub of others) send(hub, "heartbeat");
  }
  arm();
}

function arm(): void {
  clearTimeout(timer);
  const due = Math.min(core.deadline() ?? Number.POSITIVE_INFINITY, plain.deadline());
  timer = setTimeout(timers, Math.max(0, Math.ceil(due - monoMs())));
}

socket.on("message", (bytes) => {
  const { from, frame } = JSON.parse(bytes.toString()) as { from: string; frame: LivenessFrame | "heartbeat" };
  if (frame === "heartbeat") plain.heard(from, monoMs());
  else step({ kind: "frame", from, frame });
  // What is due is done before the next one is taken, as a driver does (DR10).
  if ((core.deadline() ?? Number.POSITIVE_INFINITY) <= monoMs()) timers();
  else arm();
});

process.on("message", (message: ToChild) => {
  if (message.kind === "ports") for (const [hub, port] of message.ports) ports.set(hub, port);
  else for (const until = monoMs() + message.ms; monoMs() < until; );
});
process.on("disconnect", () => process.exit(0));

socket.bind(0, "127.0.0.1", () => {
  tell({ kind: "ready", port: socket.address().port });
  step({ kind: "members", members: [hubId, ...others].map((hub) => ({ hub, failed: false })) });
  timers();
});
