import manifest from "../../package.json" with { type: "json" };

/** SOFTWARE is the version of this software, as peers and people are told. */
export const SOFTWARE: string = manifest.version;
