import { printable, printableJson } from "#kernel/printable.ts";

/** framesOf are the lines of a stack that say where: a message of several lines is before them, and it is in the fields already. */
function framesOf(stack: string): string {
  const frames = stack.split("\n").filter((line) => /^\s+at /.test(line));
  return frames.map(printable).join("\n").trim();
}

/** prettyLine turns one JSON line of the log into a line for people: time, level, message, then fields as name=value. */
export function prettyLine(line: string): string {
  const { level, time, message, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const stacks: string[] = [];
  const parts = Object.entries(fields).map(([name, value]) => {
    if (typeof value === "object" && value !== null && "stack" in value) {
      const { stack, ...rest } = value;
      if (typeof stack === "string") stacks.push(`\n    ${framesOf(stack)}`);
      return `${name}=${printableJson(JSON.stringify(rest))}`;
    }
    const bare = typeof value === "string" && /^[^\s"=]+$/.test(value) && printable(value) === value;
    return `${name}=${bare ? value : printableJson(JSON.stringify(value))}`;
  });
  const clock = String(time).slice(11, 23);
  return `${clock} ${String(level).toUpperCase().padEnd(5)} ${printable(String(message))}${parts.length ? `  ${parts.join(" ")}` : ""}${stacks.join("")}\n`;
}
