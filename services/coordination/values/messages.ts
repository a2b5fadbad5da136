import { bytes, choice, flag, message, type Of, text, uint } from "#kernel/wire/shape.ts";
import { VALUE_KEY } from "#kernel/wire/text-forms.ts";

/** VALUES bounds agreed values: they are for what hubs must not disagree on, not for data. */
export const VALUES = { keyBytes: 255, valueBytes: 4 * 1024, count: 10_000, bytes: 8 * 1024 * 1024 } as const;

const LOG_MAX = 2 ** 48;
const CONDITION = { key: text(1, VALUES.keyBytes, VALUE_KEY), conditional: flag(4), expect: uint(5, LOG_MAX) };

/**
 * VALUE_COMMAND changes an agreed value. If it is `conditional`, this happens only to the version `expect`, 0 for a value that is not
 * there.
 */
export const VALUE_COMMAND = choice({
  put: message({ key: CONDITION.key, value: bytes(3, VALUES.valueBytes), conditional: CONDITION.conditional, expect: CONDITION.expect }),
  delete: message(CONDITION),
});
/** ValueCommand changes an agreed value. */
export type ValueCommand = Of<typeof VALUE_COMMAND>;

/** AGREED_VALUE is a value that all hubs of a federation agree on. */
export const AGREED_VALUE = message({
  key: text(1, VALUES.keyBytes, VALUE_KEY),
  value: bytes(2, VALUES.valueBytes),
  /** Rises with each change of any value. */
  version: uint(3, LOG_MAX),
  /** Hub that changed it last. */
  author: text(4, 63),
});
/** AgreedValue is a value that all hubs of a federation agree on. */
export type AgreedValue = Of<typeof AGREED_VALUE>;

/** ValuesDump is all agreed values, by key, and the newest version that any of them had. */
export interface ValuesDump {
  readonly revision: number;
  readonly values: readonly AgreedValue[];
}

/** ValueChanged is news of a value; `value` is undefined when it is gone. */
export interface ValueChanged {
  readonly kind: "value";
  readonly key: string;
  readonly value: AgreedValue | undefined;
}
