import type { ListTasksRequest, ListTasksResponse, Task } from "@a2a-js/sdk";
import { InMemoryTaskStore, type ServerCallContext, type TaskStore } from "@a2a-js/sdk/server";

/** Tasks that are kept, of all callers. */
const TASKS_MAX = 500;

/** BoundedTaskStore keeps so many tasks; for one more it forgets the one that changed longest ago. */
export class BoundedTaskStore implements TaskStore {
  readonly #most: number;
  readonly #tasks = new Map<string, { readonly tenant: string; readonly task: Task }>();

  constructor(most = TASKS_MAX) {
    this.#most = most;
  }

  /** size is how many tasks are kept. */
  get size(): number {
    return this.#tasks.size;
  }

  save(task: Task, { tenant = "" }: ServerCallContext): Promise<void> {
    const key = `${tenant}\n${task.id}`;
    this.#tasks.delete(key);
    this.#tasks.set(key, { tenant, task: structuredClone(task) });
    for (const oldest of this.#tasks.keys()) {
      if (this.#tasks.size <= this.#most) break;
      this.#tasks.delete(oldest);
    }
    return Promise.resolve();
  }

  load(taskId: string, { tenant = "" }: ServerCallContext): Promise<Task | undefined> {
    const found = this.#tasks.get(`${tenant}\n${taskId}`);
    return Promise.resolve(found && structuredClone(found.task));
  }

  async list(params: ListTasksRequest, context: ServerCallContext): Promise<ListTasksResponse> {
    // The SDK's own store knows how a list is filtered and paged.
    const store = new InMemoryTaskStore();
    for (const { tenant, task } of this.#tasks.values()) if (tenant === (context.tenant ?? "")) await store.save(task, context);
    return store.list(params, context);
  }
}
