import { complaintText } from "./complaints.ts";
import { DATA_LABEL } from "./text.ts";
import { type Answer, type Complaint, ToolError } from "./tool.ts";

/** RESULT_MAX_BYTES is how long the data of one result is at most, as JSON. */
export const RESULT_MAX_BYTES = 65_536;

/** Result is the result of a tool call, as the protocol has it. */
export interface Result {
  readonly [key: string]: unknown;
  readonly content: { readonly type: "text"; readonly text: string }[];
  readonly structuredContent?: Record<string, unknown>;
  readonly isError?: true;
  readonly _meta?: Record<string, unknown>;
}

/** resultOf writes an answer: a short text, and the data as text and in its structure. Throws ToolError for more than a result may have. */
export function resultOf({ text, data }: Answer): Result {
  const json = JSON.stringify(data);
  if (Buffer.byteLength(json) > RESULT_MAX_BYTES)
    throw new ToolError(
      "LIMIT_EXCEEDED",
      `the answer has more than ${RESULT_MAX_BYTES} bytes`,
      "Ask for less: a smaller limit, or a narrower filter.",
    );
  return {
    content: [
      { type: "text", text },
      { type: "text", text: `${DATA_LABEL}\n${json}` },
    ],
    structuredContent: data,
  };
}

/** errorResult writes a complaint. What a program needs of it is in `_meta`: structured content has to fit the tool's output schema. */
export function errorResult(complaint: Complaint): Result {
  const { reason, retryable, outcome, command } = complaint;
  const facts = { reason, retryable, ...(outcome ? { outcome } : {}), ...(command ? { command } : {}) };
  return { content: [{ type: "text", text: complaintText(complaint) }], isError: true, _meta: { "foedus/error": facts } };
}
