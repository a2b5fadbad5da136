import type { ComponentChildren } from "preact";
import { own } from "#kernel/own.ts";
import { ageText, shown, wordOf } from "./text.ts";

/** Name shows a text that others chose: isolated, so that its direction stays its own, with nothing hidden in it. */
export function Name({ text }: { readonly text: string | undefined }) {
  return <bdi class="name">{shown(text)}</bdi>;
}

const FRESHNESS: Readonly<Record<string, string>> = { fresh: "good", stale: "warn", unknown: "bad" };

/** Fresh shows how far what is shown may be trusted to be current. */
export function Fresh({ freshness, ageMs }: { readonly freshness: string | undefined; readonly ageMs?: string | undefined }) {
  const word = wordOf("FRESHNESS_", freshness);
  const age = Number(ageMs ?? 0);
  return (
    <span class={`badge ${own(FRESHNESS, word) ?? "bad"}`}>
      {word}
      {age > 0 ? ` ${ageText(age)}` : ""}
    </span>
  );
}

/** Badge is a word with a colour; the word alone says it too. */
export function Badge({ tone, children }: { readonly tone: "good" | "warn" | "bad" | "plain"; readonly children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** Problem says what went wrong. */
export function Problem({ error }: { readonly error: { readonly message: string } | undefined }) {
  return error === undefined ? null : (
    <p class="problem" role="alert">
      {shown(error.message)}
    </p>
  );
}

/** Table is a table with a caption and scrolls in itself. */
export function Table({
  caption,
  heads,
  children,
}: {
  readonly caption: string;
  readonly heads: readonly string[];
  readonly children: ComponentChildren;
}) {
  return (
    // A region that scrolls has to be reached with the keyboard.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: see above
    <section class="scroll" aria-label={caption} tabIndex={0}>
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </section>
  );
}
