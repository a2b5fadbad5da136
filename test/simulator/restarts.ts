import { fromBinary } from "@bufbuild/protobuf";
import { SessionRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { frameFromProto } from "../../services/registry-sync/frame-codec.ts";
import type { FeedStatus } from "../../services/registry-sync/messages.ts";
import type { Oracle } from "./oracle.ts";

/** What a hub has told an owner that it holds of its feed, durably; a share that it has told to have forgotten. */
interface Told {
  readonly share: string;
  readonly epoch: number;
  readonly seq: number;
  readonly forgotten: string;
}

/** Tags of SessionFrame.ack, .forget and .forget_done; that of the envelope and the length are before it. */
const TOLD_TAGS: ReadonlySet<number> = new Set([0x2a, 0x4a, 0x52]);

/**
 * Restarts remembers what each hub told the others that it holds, and looks after a restart whether that is so (F-14, F-15): what was
 * acknowledged is there, and a share that was replaced or forgotten is not.
 */
export class Restarts {
  readonly #oracle: Oracle;
  readonly #hubIds: readonly string[];
  readonly #told = new Map<string, Told>();

  constructor(oracle: Oracle, hubIds: readonly string[]) {
    this.#oracle = oracle;
    this.#hubIds = hubIds;
  }

  /** sent takes a frame that a hub's registry sent, as it meant it. */
  sent(from: number, to: number, bytes: Uint8Array): void {
    const tag = bytes[1] !== undefined && bytes[1] < 0x80 ? bytes[2] : bytes[3];
    if (!TOLD_TAGS.has(tag ?? 0)) return;
    const { frame } = fromBinary(SessionRequestSchema, bytes);
    const told = frame === undefined ? undefined : frameFromProto(frame);
    if (told?.type === "ack") this.#told.set(`${from}/${to}`, { ...told.position, forgotten: "" });
    // Who was told to forget need not have it any more, whether that was answered or not.
    else if (told?.type === "forget") {
      if (this.#told.get(`${to}/${from}`)?.forgotten === "") this.#told.delete(`${to}/${from}`);
    } else if (told?.type === "forget_done") {
      const before = this.#told.get(`${from}/${to}`);
      if (before === undefined || before.share === "" || before.share === told.share)
        this.#told.set(`${from}/${to}`, { share: "", epoch: 0, seq: 0, forgotten: told.share });
    }
  }

  /** restarted compares with what a new process of the hub found in its store. */
  restarted(hub: number, feeds: readonly FeedStatus[]): void {
    if (this.#oracle.rewound[hub]) return;
    for (const [owner, hubId] of this.#hubIds.entries()) {
      const told = this.#told.get(`${hub}/${owner}`);
      if (told === undefined || owner === hub) continue;
      const held = feeds.find(({ head, own }) => !own && head.hubId === hubId)?.head;
      const what = held === undefined ? "nothing" : `${held.share} ${held.epoch}/${held.seq}`;
      const where = `hub-${hub} came back with ${what} of ${hubId}`;
      if (told.forgotten !== "") {
        if (held?.share === told.forgotten && held.epoch > 0) this.#violate(`${where}, which it had told to be forgotten`);
      } else if (held === undefined || held.epoch < told.epoch || (held.epoch === told.epoch && held.seq < told.seq))
        this.#violate(`${where} after it had acknowledged ${told.share} ${told.epoch}/${told.seq}`);
      else if (held.share !== told.share && held.epoch === told.epoch) this.#violate(`${where}, and its share was ${told.share}`);
    }
  }

  #violate(text: string): void {
    this.#oracle.violate("restart", "correctness", text);
  }
}
