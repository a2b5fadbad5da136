import { decode, encode } from "#kernel/wire/shape.ts";
import {
  ACTION,
  type Action,
  BALLOT_COMMAND,
  BALLOT_NEWS,
  BALLOTS_DUMP,
  type BallotCommand,
  type BallotNews,
  type BallotsDump,
  CERTIFICATE,
  type Certificate,
} from "../ballots/messages.ts";
import type { BytesCodec } from "./members-codec.ts";

/** ballotsCodec writes and reads what concerns ballots: foedus.coordination.v1alpha1, ballots.proto. */
export const ballotsCodec: {
  readonly command: BytesCodec<BallotCommand>;
  readonly news: BytesCodec<BallotNews>;
  readonly dump: BytesCodec<BallotsDump>;
  readonly certificate: BytesCodec<Certificate>;
  readonly action: BytesCodec<Action>;
} = {
  command: { encode: (value) => encode(BALLOT_COMMAND, value), decode: (bytes) => decode(BALLOT_COMMAND, bytes) },
  news: { encode: (value) => encode(BALLOT_NEWS, value), decode: (bytes) => decode(BALLOT_NEWS, bytes) },
  dump: { encode: (value) => encode(BALLOTS_DUMP, value), decode: (bytes) => decode(BALLOTS_DUMP, bytes) },
  certificate: { encode: (value) => encode(CERTIFICATE, value), decode: (bytes) => decode(CERTIFICATE, bytes) },
  action: { encode: (value) => encode(ACTION, value), decode: (bytes) => decode(ACTION, bytes) },
};
