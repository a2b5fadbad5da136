/** A DNS label (RFC 1123) in lower case: hub ids are host names, certificate names and folder names. */
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** isHubId tells whether a text can be the id of a hub: 1 to 63 of a-z, 0-9 and `-`, no `-` at either end, no dot. */
export function isHubId(text: string): boolean {
  return LABEL.test(text);
}

/** hubIdProblem says what is wrong with a hub id and what to do, or undefined if nothing is. */
export function hubIdProblem(text: string): string | undefined {
  if (isHubId(text)) return undefined;
  if (text === "") return "hub id is empty; give this hub a name of 1 to 63 characters";
  if (text.length > 63) return `hub id has ${text.length} characters; use at most 63`;
  if (text.includes(".")) return "hub id has a dot; it is one DNS label, not a domain name";
  if (text !== text.toLowerCase()) return "hub id has upper case letters; use lower case only";
  if (text.startsWith("-") || text.endsWith("-")) return "hub id starts or ends with '-'; use a letter or digit there";
  return "hub id has other characters than a-z, 0-9 and '-'";
}
