import { BoundedMap } from "#kernel/bounds/bounded-map.ts";

/**
 * What may come of one principal in bytes that carry nothing, a second, and that at once. An honest client stays below a hundredth of it. As
 * window updates of 13 bytes they cost 0.4 % of a processor.
 */
const BYTES_PER_SECOND = 512 * 1024;
const AHEAD_MS = 16_000;
/** Longest that one who sent more is kept out, ms. */
const WAIT_MS = 60_000;
/** What is under way when a stream ends, and window updates for what was written, come later than what they are for: so much later at most. */
const CREDIT_BYTES = 4 * 1024 * 1024;
/** A client may tell of every frame that it read in two window updates, each in a TLS record of its own: 70 bytes, of a frame of 36 or more. */
const BYTES_PER_WRITTEN = 2;

/** PIECE_OVERHEAD_BYTES come with a piece of DATA that is honestly sent: the head of its frame and a TLS record. */
export const PIECE_OVERHEAD_BYTES = 64;
/** STREAM_OVERHEAD_BYTES come with a stream: its headers, a token included, and its end. Larger headers are paid for. */
export const STREAM_OVERHEAD_BYTES = 2 * 1024;

/** What a byte of TLS records, beside their content, costs more than others: a record of 23 bytes takes as long as 600 bytes of frames. */
const RECORD_FACTOR = 28;
/** What a piece of DATA costs that is smaller than an honest sender has any reason to send, in bytes. */
const SMALL_PIECE_BYTES = 640;
/** A message may come in two pieces, the head of its frame and its body, and in one more for each so many bytes. */
const PIECES_PER_MESSAGE = 2;
const BYTES_PER_PIECE = 256;
/** Small pieces of a connection between two looks. More end it at once: they would be kept until the next one. */
const SMALL_PIECES_MAX = 1_024;
const SMALL_PIECES_AHEAD = 1_024;
/**
 * MESSAGES_PER_DROPPED makes a piece that is dropped cost a fifth of others, however many messages end in it: those of streams that end
 * early are many.
 */
export const MESSAGES_PER_DROPPED = 0.4;
/** Head, type and tag of a TLS record. The head of a frame may be in one of its own. */
const RECORDS_PER_PIECE_BYTES = 2 * 22;
/** Records that come with a stream beside its DATA: its headers, its end, window updates. */
const RECORDS_PER_STREAM_BYTES = 8 * 22;
/** Two window updates, each in a record of its own, for a frame of 36 bytes that was written. */
const RECORDS_PER_WRITTEN = 44 / 36;
/** Of DATA that HTTP/2 drops without a word nobody knows in how many records it came: for every 160 bytes one. */
const RECORDS_PER_DROPPED = 1 / 8;
const RECORDS_CREDIT_BYTES = 512 * 1024;
/** Bytes that were read of the network and are not decrypted yet: a record that is not whole, or a read while nobody takes the content. */
const UNDECRYPTED_BYTES = 80 * 1024;
/** FLOOD_BYTES cost whoever did what no honest program does so much that it stays out for as long as anybody does. */
export const FLOOD_BYTES = (BYTES_PER_SECOND * (AHEAD_MS + WAIT_MS)) / 1_000;

/** Counts are the bytes that went over a socket so far. */
export interface Counts {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/**
 * Chatter tells what of the bytes that come over a connection is for nothing. HTTP/2 windows bound only DATA, and only of streams that are
 * open; neither nghttp2 nor Node bounds window updates, padding, DATA of streams that are closed, or TLS records that carry little or
 * nothing, and no event tells of them. Whoever sends them as fast as this hub reads has it do nothing else. So what streams carry, and what
 * honest programs send about what was written to them, is taken from what was read, and the rest counts, whatever it is. By the time that it
 * takes: TLS records, as far as nothing explains that there are so many, and small pieces of messages count more than their bytes.
 */
export class Chatter {
  #read = 0;
  #written = 0;
  /** Bytes that have a reason and were not seen yet, or if negative, that have none yet. */
  #credit = 0;
  /** The most that was read so far beside the content of TLS records, and how much of such there is a reason for. */
  #records = 0;
  #recordsCredit = 0;
  #pieces = 0;
  /** Pieces that came, less those that there was a reason for. */
  #small = 0;

  /** stream tells of a stream that begins. */
  stream(): void {
    this.#credit += STREAM_OVERHEAD_BYTES;
    this.#recordsCredit += RECORDS_PER_STREAM_BYTES;
  }

  /** piece tells of DATA that came, and how many messages end in it; false if too many small ones have come. */
  piece(bytes: number, messages: number): boolean {
    this.#credit += bytes + PIECE_OVERHEAD_BYTES;
    this.#pieces++;
    this.#small += 1 - bytes / BYTES_PER_PIECE - messages * PIECES_PER_MESSAGE;
    return this.#small < SMALL_PIECES_MAX;
  }

  /** dropped tells of bytes that may still come and that nobody is told of. */
  dropped(bytes: number): void {
    this.#credit += bytes;
    this.#recordsCredit += bytes * RECORDS_PER_DROPPED;
  }

  /** excess is how much more came since it was asked last than there is a reason for. `content` is what was in the TLS records so far. */
  excess({ bytesRead, bytesWritten }: Counts, content?: number): number {
    const written = bytesWritten - this.#written;
    const credit = this.#credit + written * BYTES_PER_WRITTEN - (bytesRead - this.#read);
    this.#read = bytesRead;
    this.#written = bytesWritten;
    this.#credit = Math.min(Math.max(0, credit), CREDIT_BYTES);
    const records = content === undefined ? 0 : this.#excessOfRecords(bytesRead - content - UNDECRYPTED_BYTES, written);
    const small = Math.max(0, this.#small);
    this.#small = Math.max(Math.min(0, this.#small), -SMALL_PIECES_AHEAD);
    return Math.max(0, -credit) + records * RECORD_FACTOR + small * SMALL_PIECE_BYTES;
  }

  #excessOfRecords(records: number, written: number): number {
    const more = Math.max(0, records - this.#records);
    const credit = this.#recordsCredit + this.#pieces * RECORDS_PER_PIECE_BYTES + written * RECORDS_PER_WRITTEN - more;
    this.#records += more;
    this.#pieces = 0;
    this.#recordsCredit = Math.min(Math.max(0, credit), RECORDS_CREDIT_BYTES);
    return Math.max(0, -credit);
  }
}

/** ChatterCosts knows who sent how much for nothing. Pure but for its Map: time is an argument. */
export class ChatterCosts {
  /** Until when what came is paid for, mono ms. */
  readonly #paid = new BoundedMap<number>();

  /** spent charges a payer for bytes, and tells for how long it is to be kept out: 0 if it is not. */
  spent(payer: string, bytes: number, now: number): number {
    const paid = Math.max(this.#paid.get(payer) ?? now, now) + (bytes * 1_000) / BYTES_PER_SECOND;
    this.#paid.set(payer, Math.min(paid, now + AHEAD_MS + WAIT_MS));
    return this.waitMs(payer, now);
  }

  /** waitMs is for how long a payer is kept out; 0 if it is not. */
  waitMs(payer: string, now: number): number {
    return Math.max(0, (this.#paid.get(payer) ?? Number.NEGATIVE_INFINITY) - now - AHEAD_MS);
  }
}
