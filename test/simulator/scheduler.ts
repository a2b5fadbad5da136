/** Task is a pending call of the scheduler. */
export interface Task {
  readonly at: number;
  readonly order: number;
  /** Undefined once it ran or was cancelled. */
  run: (() => void) | undefined;
}

/**
 * Scheduler is the virtual time of a whole federation: a heap of calls, run in the order of their instants and, at the same
 * instant, in the order in which they were asked for. Nothing else in the simulator decides what comes next.
 */
export class Scheduler {
  /** Virtual ms since the start of the run. */
  now = 0;
  /** Calls that ran so far. */
  steps = 0;
  readonly #heap: Task[] = [];
  #order = 0;

  /** after runs `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Task {
    return this.at(this.now + Math.max(0, delayMs), run);
  }

  /** at runs `run` once, at an instant: two calls for the same one run in the order in which they were asked for, whatever `now` is. */
  at(at: number, run: () => void): Task {
    const task: Task = { at: Math.max(this.now, at), order: this.#order++, run };
    this.#push(task);
    return task;
  }

  cancel(task: Task): void {
    task.run = undefined;
  }

  /** next runs the next call that is due by `until`; false, with the time moved there, when there is none. */
  next(until: number): boolean {
    for (;;) {
      const task = this.#heap[0];
      if (task === undefined || task.at > until) {
        this.now = until;
        return false;
      }
      this.#pop();
      const { run } = task;
      if (run === undefined) continue;
      task.run = undefined;
      this.now = task.at;
      this.steps++;
      run();
      return true;
    }
  }

  #push(task: Task): void {
    const heap = this.#heap;
    let at = heap.push(task) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(task, heap[parent] as Task)) break;
      heap[at] = heap[parent] as Task;
      at = parent;
    }
    heap[at] = task;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Task;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Task, heap[child] as Task)) child++;
      if (!before(heap[child] as Task, last)) break;
      heap[at] = heap[child] as Task;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Task, b: Task): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
