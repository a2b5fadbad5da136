/** MessageEnds counts the messages of gRPC that are complete: each has five bytes before it, of which the last four are its length. */
export class MessageEnds {
  #headBytes = 0;
  #length = 0;
  #left = 0;

  /** take answers how many end in a piece. */
  take(piece: Uint8Array): number {
    let ended = 0;
    for (let at = 0; at < piece.length; ) {
      if (this.#left > 0) {
        const part = Math.min(this.#left, piece.length - at);
        this.#left -= part;
        at += part;
      } else {
        // The byte before the length is shifted out.
        this.#length = ((this.#length << 8) | (piece[at++] as number)) >>> 0;
        if (++this.#headBytes < 5) continue;
        this.#headBytes = 0;
        this.#left = this.#length;
        this.#length = 0;
      }
      if (this.#left === 0) ended++;
    }
    return ended;
  }
}
