import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, brotliDecompress, constants } from "node:zlib";
import { own } from "#kernel/own.ts";
import { BUILT } from "./built.ts";

/** PageFile is a file that is served to anybody: there is nothing of the hub in it. */
export interface PageFile {
  readonly type: string;
  readonly plain: Buffer;
  readonly brotli: Buffer;
}

/** Files of the page, as they are called where they are built, and the types that they are served with. */
const TYPES: Readonly<Record<string, string>> = {
  "index.html": "text/html; charset=utf-8",
  "app.js": "text/javascript; charset=utf-8",
  "style.css": "text/css; charset=utf-8",
  "icon.svg": "image/svg+xml",
};

/** PAGE_DIR is where `make console` puts the page in a checkout. */
const PAGE_DIR = join(import.meta.dirname, "..", "..", "..", "dist", "console");

const NOT_BUILT = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Foedus</title></head>
<body>
<h1>Foedus</h1>
<p>The page of the console is not built in this checkout. Run <code>make console</code>, then restart the hub and print another link with
<code>foedus console</code>.</p>
</body>
</html>
`;

const compressed = promisify(brotliCompress);
const decompressed = promisify(brotliDecompress);

/** pageFiles are the files of the page by path: those in the installed command, else those of a checkout, else one that says that they are missing. */
export async function pageFiles(dir = PAGE_DIR): Promise<ReadonlyMap<string, PageFile>> {
  const names = Object.keys(TYPES);
  const built = names.map((name) => own(BUILT, name));
  if (built.every((text) => text !== undefined))
    return served(await Promise.all(names.map(async (name, index) => fromBrotli(name, Buffer.from(built[index] ?? "", "base64")))));
  try {
    return served(await Promise.all(names.map(async (name) => fromPlain(name, await readFile(join(dir, name))))));
  } catch {
    return served([await fromPlain("index.html", Buffer.from(NOT_BUILT))]);
  }
}

type Named = readonly [string, PageFile];

async function fromBrotli(name: string, brotli: Buffer): Promise<Named> {
  return [name, { type: own(TYPES, name) ?? "", plain: await decompressed(brotli), brotli }];
}

async function fromPlain(name: string, plain: Buffer): Promise<Named> {
  return [
    name,
    { type: own(TYPES, name) ?? "", plain, brotli: await compressed(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }) },
  ];
}

function served(files: readonly Named[]): ReadonlyMap<string, PageFile> {
  return new Map(files.map(([name, file]) => [name === "index.html" ? "/" : `/${name}`, file]));
}

/** PAGE_HEADERS keep a browser from doing more than the page needs: nothing from elsewhere, nothing inline, in no frame, told to nobody. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "cache-control": "no-store",
};
