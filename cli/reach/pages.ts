import { CliError, EXIT } from "../exit.ts";

/** More pages than any hub has. */
const PAGES_MAX = 1_000;

/** everyPage reads page after page. What is not behind the page before, or has no end, is no answer of a hub that can be believed. */
export async function everyPage<P extends { readonly next: string }>(what: string, read: (after: string) => Promise<P>): Promise<P[]> {
  const pages: P[] = [];
  for (let after = ""; ; ) {
    const page = await read(after);
    pages.push(page);
    if (page.next === "") return pages;
    if (page.next <= after || pages.length === PAGES_MAX)
      throw new CliError(EXIT.failed, `the hub lists ${what} without an end`, "See whether it runs the software that it should.");
    after = page.next;
  }
}
