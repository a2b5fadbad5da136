/** VALUE_KEY is how keys of agreed values look: paths that people can type, of letters, digits and a few marks, without blanks. */
export const VALUE_KEY = /^[A-Za-z0-9][A-Za-z0-9._/:-]*$/;

/** TextForm is a pattern of the schema in words: they continue a sentence that begins with the field. */
export interface TextForm {
  readonly must: string;
  /** A text that has the form. */
  readonly example: string;
}

const NODE_ID: TextForm = { must: "must have letters, digits and . _ : - only, and begin with a letter or digit", example: "lamp-1" };

/** TEXT_FORMS are the patterns of ids, keys and names, by their source: nobody has to read a regular expression to correct one. */
export const TEXT_FORMS: ReadonlyMap<string, TextForm> = new Map<string, TextForm>([
  [
    "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
    { must: "must be 1 to 63 of a-z, 0-9 and hyphens, without a hyphen at either end", example: "home-1" },
  ],
  ["^[A-Za-z0-9][A-Za-z0-9._:-]*$", NODE_ID],
  ["^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$", { ...NODE_ID, must: `${NODE_ID.must}, and have at most 63 characters` }],
  [
    VALUE_KEY.source,
    { must: "must have letters, digits and . _ / : - only, and begin with a letter or digit", example: "street/speed-limit" },
  ],
  [
    "^[a-zA-Z0-9](?:[a-zA-Z0-9._:-]{0,62}[a-zA-Z0-9])?$",
    {
      must: "must be 1 to 64 letters, digits and . _ : -, and begin and end with a letter or digit",
      example: "ballot_ms",
    },
  ],
  [
    "^(?:[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,251}[a-zA-Z0-9])?|[0-9a-fA-F:.]{2,45})$",
    { must: "must be the name of a host or an IP address", example: "home.example.org" },
  ],
  ["^\\S(?:.*\\S)?$", { must: "must be one line that does not begin or end with a blank", example: "Our street" }],
]);

/** formOf says which form a pattern stands for, with an example, as the rest of a sentence that begins with the field. */
export function formOf(source: string): string {
  const form = TEXT_FORMS.get(source);
  return form === undefined ? `must match ${source}` : `${form.must}, for example ${form.example}`;
}
