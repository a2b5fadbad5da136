/**
 * BUILT are the files of the page in the installed command, each compressed with brotli, in base64: `cli/build.ts` puts them in its place. In a
 * checkout there are none here, and the hub reads what `make console` wrote.
 */
export const BUILT: Readonly<Record<string, string>> = {};
