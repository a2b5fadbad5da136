import { ProtoReader } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";

/** EXECUTOR_SPACE and BORROWER_SPACE are where executor and borrower keep what they must not forget; FLOOR_KEY is the key of the floor. */
export const EXECUTOR_SPACE = "lease_executor";
export const BORROWER_SPACE = "lease_borrower";
export const FLOOR_KEY = "floor";

/** StoredAdmissions is what an executor kept: the highest fence that it saw, and under which leases something may run. */
export interface StoredAdmissions {
  readonly floor: number;
  readonly admissions: readonly { readonly lease: number; readonly fence: number }[];
}

/** StoredHolding is what a borrower kept of a reservation that it has confirmed, or was about to. */
export interface StoredHolding {
  readonly id: string;
  readonly durationMs: number;
}

type Rows = Iterable<{ readonly key: string; readonly bytes: Uint8Array }>;

/** floorBytes and admissionBytes write what an executor keeps (message KeptFence of resources.proto). */
export function floorBytes(floor: number): Uint8Array {
  return new ProtoWriter().uint(1, floor).finish();
}

export function admissionBytes(fence: number): Uint8Array {
  return floorBytes(fence);
}

/** holdingBytes writes what a borrower keeps (message KeptHolding). */
export function holdingBytes(durationMs: number): Uint8Array {
  return new ProtoWriter().uint(1, durationMs).finish();
}

/** readAdmissions reads what an executor kept; WireError if it is not that. */
export function readAdmissions(rows: Rows): StoredAdmissions {
  let floor = 0;
  const admissions: { lease: number; fence: number }[] = [];
  for (const { key, bytes } of rows) {
    if (key === FLOOR_KEY) floor = number(bytes);
    else admissions.push({ lease: Number(key), fence: number(bytes) });
  }
  return { floor, admissions: admissions.sort((a, b) => a.lease - b.lease) };
}

/** readHoldings reads what a borrower kept; WireError if it is not that. */
export function readHoldings(rows: Rows): StoredHolding[] {
  return [...rows].map(({ key, bytes }) => ({ id: key, durationMs: number(bytes) })).sort((a, b) => (a.id < b.id ? -1 : 1));
}

function number(bytes: Uint8Array): number {
  const reader = new ProtoReader(bytes);
  let value = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) value = reader.uint();
    else reader.unknown();
  }
  return value;
}
