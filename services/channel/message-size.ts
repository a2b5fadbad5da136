import { type DescMessage, type Message, toBinary } from "@bufbuild/protobuf";

const tracked = new Set<DescMessage>();
const sizes = new WeakMap<Message, number>();

/** trackSize asks for the encoded size of received messages of a type to be remembered: byte credit counts what was sent. */
export function trackSize(schema: DescMessage): void {
  tracked.add(schema);
}

/** noteSize is called by whoever decodes a message. */
export function noteSize(schema: DescMessage, message: Message, bytes: number): void {
  if (tracked.has(schema)) sizes.set(message, bytes);
}

/** encodedSize is how many bytes a message had when it arrived; one that was never encoded is measured now. */
export function encodedSize(schema: DescMessage, message: Message): number {
  return sizes.get(message) ?? toBinary(schema, message).length;
}
