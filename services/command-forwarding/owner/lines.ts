import { isOwn } from "../principals.ts";

/** One part in so many of an executor's window is kept for this hub's own callers. */
const KEPT_FOR_OWN = 8;

/** One caller may have so many times as many tasks in flight as it leaves free. */
const TIMES_THE_REST = 3;

/** Lines of callers that have nothing here which are kept, so that who comes again and again does not make a new one each time. */
const IDLE_LINES = 16;

/** Standing is a task that stands in a line, or left it to be run. */
export interface Standing {
  readonly nodeId: string;
  /** Set by Lines from `enter` until it is over. */
  line: Line | undefined;
  /** Set by Lines while it stands behind others of its node, and its neighbours there. */
  queue: NodeQueue | undefined;
  ahead: Standing | undefined;
  behind: Standing | undefined;
}

/** NodeQueue is what one caller's tasks for one node wait in, in their order. */
export interface NodeQueue {
  readonly nodeId: string;
  first: Standing | undefined;
  last: Standing | undefined;
}

/** Line holds what one caller has at an executor. */
export interface Line {
  readonly principal: string;
  readonly own: boolean;
  running: number;
  /** Tasks that wait, also those that entered in this step. */
  waiting: number;
  /** Those of earlier steps by node, whose turn is next first. */
  readonly nodes: Map<string, NodeQueue>;
}

/**
 * Lines decide which task an executor gets next, so that nobody's commands wait for all that somebody else has asked for.
 *
 * LN1 callers take turns, and so do the nodes of one caller: another hub is one caller. Tasks of one caller for one node stay in order.
 * LN2 this hub's own callers and all others alternate: an own caller's next task is among the next 2n starts, where n own callers wait.
 * LN3 of the tasks in flight an eighth, and at least one of two, is kept for own callers; and one caller has at most three times as many
 *    as it leaves free. So also tasks that take long leave a place for whoever comes next.
 * LN4 no place stays empty that a waiting task may have.
 */
export class Lines<T extends Standing> {
  readonly #max: number;
  /** What all but own callers may have in flight together. */
  readonly #maxOthers: number;
  readonly #byPrincipal = new Map<string, Line>();
  /** Lines in which tasks of earlier steps wait, whose turn is next first. */
  readonly #own = new Set<Line>();
  readonly #others = new Set<Line>();
  #ownNext = true;
  /** What entered in this step. Most of it is run at once and never stands in a line. */
  #fresh: T[] = [];
  /** What of it was looked at. */
  #looked = 0;
  #running = 0;
  #othersRunning = 0;
  #waiting = 0;

  /** `max` is how many tasks may be in flight. */
  constructor(max: number) {
    this.#max = max;
    this.#maxOthers = max < 2 ? max : max - Math.max(1, Math.floor(max / KEPT_FOR_OWN));
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** enter lets a task wait that may be run in this very step. `peer` says that the caller is another hub. */
  enter(task: T, principal: string, peer: boolean): void {
    this.#count(task, principal, peer);
    this.#fresh.push(task);
  }

  /** stand lets a task wait behind those of its caller, for who takes only some of what may be run. */
  stand(task: T, principal: string, peer: boolean): void {
    this.#stand(task, this.#count(task, principal, peer));
  }

  #count(task: T, principal: string, peer: boolean): Line {
    let line = this.#byPrincipal.get(principal);
    if (line === undefined) {
      line = { principal, own: !peer && isOwn(principal), running: 0, waiting: 0, nodes: new Map() };
      this.#byPrincipal.set(principal, line);
    }
    line.waiting++;
    this.#waiting++;
    task.line = line;
    return line;
  }

  /** next takes the task out of its line that is to be run now; it counts as in flight until it is over. Undefined for none. */
  next(): T | undefined {
    const turn = this.#turn(this.#ownNext) ?? this.#turn(!this.#ownNext);
    if (turn !== undefined) return turn;
    while (this.#looked < this.#fresh.length) {
      const task = this.#fresh[this.#looked++] as T;
      const line = task.line;
      if (line === undefined) continue;
      if (line.nodes.size === 0 && line.running < this.#most(line.own)) {
        this.#start(line);
        return task;
      }
      this.#stand(task, line);
    }
    this.#fresh = [];
    this.#looked = 0;
    return undefined;
  }

  /** over says that a task has ended, whether it was run or not. */
  over(task: T, ran: boolean): void {
    const line = task.line;
    if (line === undefined) return;
    task.line = undefined;
    if (ran) {
      line.running--;
      this.#running--;
      if (!line.own) this.#othersRunning--;
    } else {
      line.waiting--;
      this.#waiting--;
      const { queue } = task;
      if (queue !== undefined) {
        unlink(task, queue);
        if (queue.first === undefined) line.nodes.delete(queue.nodeId);
        if (line.nodes.size === 0) this.#ring(line.own).delete(line);
      }
    }
    if (line.running + line.waiting === 0 && this.#byPrincipal.size > IDLE_LINES) this.#byPrincipal.delete(line.principal);
  }

  /** drain lets everything that waits go, each caller's tasks for a node in their order. */
  drain(): T[] {
    const tasks: T[] = [];
    for (const ring of [this.#own, this.#others])
      for (const { nodes } of ring)
        for (const { first } of nodes.values()) for (let task = first; task !== undefined; task = task.behind) tasks.push(task as T);
    for (const task of this.#fresh) if (task.line !== undefined) tasks.push(task);
    this.#fresh = [];
    this.#looked = 0;
    for (const task of tasks) this.over(task, false);
    return tasks;
  }

  #ring(own: boolean): Set<Line> {
    return own ? this.#own : this.#others;
  }

  /** most is how many tasks a caller must have fewer of in flight to get another (LN3). */
  #most(own: boolean): number {
    const free = this.#max - this.#running;
    return TIMES_THE_REST * (own ? free : Math.min(free, this.#maxOthers - this.#othersRunning));
  }

  /** turn takes the task whose turn it is among own callers, or among the others. */
  #turn(own: boolean): T | undefined {
    const ring = this.#ring(own);
    if (ring.size === 0) return undefined;
    const most = this.#most(own);
    if (most <= 0) return undefined;
    for (const line of ring) {
      if (line.running >= most) continue;
      const queue = line.nodes.values().next().value as NodeQueue;
      const task = queue.first as T;
      unlink(task, queue);
      // Whose turn it was goes to the end of its ring, if there is anybody else.
      if (queue.first === undefined || line.nodes.size > 1) line.nodes.delete(queue.nodeId);
      if (queue.first !== undefined) line.nodes.set(queue.nodeId, queue);
      if (line.nodes.size === 0 || ring.size > 1) ring.delete(line);
      if (line.nodes.size > 0) ring.add(line);
      this.#ownNext = !own;
      this.#start(line);
      return task;
    }
    return undefined;
  }

  #start(line: Line): void {
    line.waiting--;
    line.running++;
    this.#waiting--;
    this.#running++;
    if (!line.own) this.#othersRunning++;
  }

  #stand(task: T, line: Line): void {
    let queue = line.nodes.get(task.nodeId);
    if (queue === undefined) line.nodes.set(task.nodeId, (queue = { nodeId: task.nodeId, first: undefined, last: undefined }));
    task.queue = queue;
    task.ahead = queue.last;
    if (queue.last === undefined) queue.first = task;
    else queue.last.behind = task;
    queue.last = task;
    this.#ring(line.own).add(line);
  }
}

/** unlink takes a task out of its queue. */
function unlink(task: Standing, queue: NodeQueue): void {
  const { ahead, behind } = task;
  if (ahead === undefined) queue.first = behind;
  else ahead.behind = behind;
  if (behind === undefined) queue.last = ahead;
  else behind.ahead = ahead;
  task.queue = undefined;
  task.ahead = undefined;
  task.behind = undefined;
}
