import type { Tool } from "../tool.ts";
import { EXECUTE, GET_COMMAND } from "./execute.ts";
import { EXPLAIN_REFUSAL } from "./explain.ts";
import { LIST_EVENTS, LIST_PEERS, LIST_RESOURCES } from "./federation.ts";
import { FIND_NODES, READ_NODE } from "./nodes.ts";
import { WATCH_NODES } from "./watch.ts";

/** TOOLS are all tools. A model chooses badly among many: there are never more than twelve. */
export const TOOLS: readonly Tool[] = [
  FIND_NODES,
  READ_NODE,
  WATCH_NODES,
  EXECUTE,
  GET_COMMAND,
  EXPLAIN_REFUSAL,
  LIST_PEERS,
  LIST_RESOURCES,
  LIST_EVENTS,
];
