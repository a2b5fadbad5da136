// Loaded before a hub (`node --import`), it makes the hub one that lies: in the way that the file `lie` in its folder names, which is read
// again and again. The hub has its true keys and sessions; only what its core wants to say to others is changed.
import { readFileSync } from "node:fs";
import { createCrypto } from "#runtime/crypto.ts";
import { commandCodec } from "../../services/coordination/codec/commands.ts";
import { CoordinationCore } from "../../services/coordination/core.ts";
import type { Effect } from "../../services/coordination/messages.ts";
import { loadKeys } from "../../services/coordination/shell/keys.ts";
import { FORGED_KEY, isLie, Liar } from "./lies.ts";

const LOOK_MS = 20;

let liar: Liar | undefined;

/** The hub has its keys by the time that it says something. */
function liarOf(): Liar {
  if (liar !== undefined) return liar;
  const { signing } = loadKeys("data");
  const value = new TextEncoder().encode(FORGED_KEY);
  const command = commandCodec.write({ book: "values", command: { kind: "put", key: FORGED_KEY, value, conditional: false, expect: 0 } });
  const told = (peer: string): boolean => peer === "home";
  const made = new Liar({ crypto: createCrypto(signing), publicKey: signing.publicKey, victim: "home", command, told });
  liar = made;
  setInterval(() => {
    try {
      const lie = readFileSync("lie", "utf8").trim();
      if (!isLie(lie)) throw new Error(`the file "lie" names no way to lie: ${lie}`);
      made.lie = lie;
    } catch (error) {
      // Not yet: it lies as before.
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }, LOOK_MS).unref();
  return made;
}

function lying(out: Effect[], from: number): void {
  const said = out.splice(from);
  for (const effect of said)
    if (effect.kind !== "send") out.push(effect);
    else for (const frame of liarOf().tell(effect.peer, effect.frame)) out.push({ ...effect, frame });
}

const { step, tick } = CoordinationCore.prototype;
CoordinationCore.prototype.step = function (now, input, out) {
  const from = out.length;
  step.call(this, now, input, out);
  lying(out, from);
};
CoordinationCore.prototype.tick = function (now, out) {
  const from = out.length;
  tick.call(this, now, out);
  lying(out, from);
};
