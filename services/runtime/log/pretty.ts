/** prettyLine turns one JSON line of the log into a line for people: time, level, message, then fields as name=value. */
export function prettyLine(line: string): string {
  const { level, time, message, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const stacks: string[] = [];
  const parts = Object.entries(fields).map(([name, value]) => {
    if (typeof value === "object" && value !== null && "stack" in value) {
      const { stack, ...rest } = value;
      if (typeof stack === "string") stacks.push(`\n    ${stack.split("\n").slice(1).join("\n").trim()}`);
      return `${name}=${JSON.stringify(rest)}`;
    }
    return `${name}=${typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)}`;
  });
  const clock = String(time).slice(11, 23);
  return `${clock} ${String(level).toUpperCase().padEnd(5)} ${String(message)}${parts.length ? `  ${parts.join(" ")}` : ""}${stacks.join("")}\n`;
}
