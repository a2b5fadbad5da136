import { expect, test } from "vitest";
import { ParcelQueue } from "./parcel-queue.ts";

const MIB = 1024 * 1024;

/** Session is one that has room for so many frames. */
class Session {
  room = 1;
  readonly sent: number[] = [];
  readonly queue = new ParcelQueue<number>(() => this);

  send(_peer: string, frame: number): boolean {
    this.room--;
    this.sent.push(frame);
    return true;
  }

  writable(): boolean {
    return this.room > 0;
  }
}

test("parcels leave in order, only while nothing else waits on the session", () => {
  const session = new Session();
  for (const frame of [1, 2, 3]) session.queue.send("b", frame, 10);
  expect(session.sent).toEqual([1]);
  session.room = 1;
  session.queue.send("b", 4, 10);
  expect(session.sent).toEqual([1]);
  session.queue.room("b");
  expect(session.sent).toEqual([1, 2]);
  session.room = 5;
  session.queue.room("b");
  session.queue.send("b", 5, 10);
  expect(session.sent).toEqual([1, 2, 3, 4, 5]);
});

test("what is beyond the bound is lost, and so is what waits when the session ends", () => {
  const session = new Session();
  session.room = 0;
  for (let frame = 0; frame < 5; frame++) session.queue.send("b", frame, MIB);
  session.room = 9;
  session.queue.room("b");
  expect(session.sent).toEqual([0, 1, 2, 3]);
  session.room = 0;
  session.queue.send("b", 6, 1);
  session.queue.drop("b");
  session.room = 1;
  session.queue.room("b");
  session.queue.send("b", 7, 1);
  expect(session.sent).toEqual([0, 1, 2, 3, 7]);
});
