import type { ListTasksRequest, ListTasksResponse, Task } from "@a2a-js/sdk";
import { InMemoryTaskStore, type ServerCallContext, type TaskStore } from "@a2a-js/sdk/server";

/** Tasks that are kept, of all callers, and the characters of all of them. */
const TASKS_MAX = 500;
const CHARACTERS_MAX = 16_777_216;

interface Kept {
  readonly tenant: string;
  readonly task: Task;
  readonly characters: number;
}

/** BoundedTaskStore keeps so many tasks, and so much of them; for one more it forgets those that changed longest ago. */
export class BoundedTaskStore implements TaskStore {
  readonly #most: number;
  readonly #mostCharacters: number;
  readonly #tasks = new Map<string, Kept>();
  #characters = 0;

  constructor(most = TASKS_MAX, mostCharacters = CHARACTERS_MAX) {
    this.#most = most;
    this.#mostCharacters = mostCharacters;
  }

  /** size is how many tasks are kept. */
  get size(): number {
    return this.#tasks.size;
  }

  save(task: Task, { tenant = "" }: ServerCallContext): Promise<void> {
    const key = `${tenant}\n${task.id}`;
    this.#forget(key);
    const kept: Kept = { tenant, task: structuredClone(task), characters: JSON.stringify(task).length };
    this.#tasks.set(key, kept);
    this.#characters += kept.characters;
    for (const oldest of this.#tasks.keys()) {
      if (oldest === key || (this.#tasks.size <= this.#most && this.#characters <= this.#mostCharacters)) break;
      this.#forget(oldest);
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

  #forget(key: string): void {
    this.#characters -= this.#tasks.get(key)?.characters ?? 0;
    this.#tasks.delete(key);
  }
}
