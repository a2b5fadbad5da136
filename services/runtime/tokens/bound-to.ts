/**
 * boundTo reads which certificate a token is bound to (`cnf.x5t#S256`, RFC 8705), without checking it: for the holder, who wants to
 * know for which of its own certificates it got the token. Undefined for a token that does not say.
 */
export function boundTo(jwt: string): string | undefined {
  try {
    const payload = Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString("utf8");
    const claims = JSON.parse(payload) as { readonly cnf?: Readonly<Record<string, unknown>> };
    const thumbprint = claims.cnf?.["x5t#S256"];
    return typeof thumbprint === "string" ? thumbprint : undefined;
  } catch {
    return undefined;
  }
}
