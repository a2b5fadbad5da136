import { type Decoded, decode, encode } from "#kernel/wire/shape.ts";
import {
  KEY_HISTORY,
  type KeyHistory,
  MEMBER_COMMAND,
  MEMBER_NEWS,
  MEMBERS_DUMP,
  type MemberCommand,
  type MemberNews,
  type MembersDump,
  SIGNED_FOUNDING,
  type SignedFounding,
  TRUSTED_KEYS,
  type TrustedKeys,
} from "../members/messages.ts";

/** BytesCodec writes a value as bytes, in the one way that counts, and reads nothing else back. */
export interface BytesCodec<T> {
  encode(value: T): Uint8Array;
  /** decode gives a value with all its bounds checked, or the sentence that says why there is none. */
  decode(bytes: Uint8Array): Decoded<T>;
}

/** membersCodec writes and reads what concerns members: foedus.coordination.v1alpha1, members.proto. */
export const membersCodec: {
  readonly command: BytesCodec<MemberCommand>;
  readonly news: BytesCodec<MemberNews>;
  readonly dump: BytesCodec<MembersDump>;
  readonly founding: BytesCodec<SignedFounding>;
  readonly trustedKeys: BytesCodec<TrustedKeys>;
  readonly keyHistory: BytesCodec<KeyHistory>;
} = {
  command: { encode: (value) => encode(MEMBER_COMMAND, value), decode: (bytes) => decode(MEMBER_COMMAND, bytes) },
  news: { encode: (value) => encode(MEMBER_NEWS, value), decode: (bytes) => decode(MEMBER_NEWS, bytes) },
  dump: { encode: (value) => encode(MEMBERS_DUMP, value), decode: (bytes) => decode(MEMBERS_DUMP, bytes) },
  founding: { encode: (value) => encode(SIGNED_FOUNDING, value), decode: (bytes) => decode(SIGNED_FOUNDING, bytes) },
  trustedKeys: { encode: (value) => encode(TRUSTED_KEYS, value), decode: (bytes) => decode(TRUSTED_KEYS, bytes) },
  keyHistory: { encode: (value) => encode(KEY_HISTORY, value), decode: (bytes) => decode(KEY_HISTORY, bytes) },
};
