import { X509Certificate } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { certificateKeyProblem } from "#channel/tls/keys.ts";
import { issuedBy, parseSpiffeId, thumbprintOf, uriSans } from "#channel/tls/peer-identity.ts";
import { type Offer, OfferSchema } from "#gen/foedus/introduction/v1alpha1/introduction_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { digestOf } from "#runtime/tls/door.ts";
import { isHost } from "./invite.ts";

/** CA certificates that one hub may have: the one in use, its successor, and some to spare. */
const CAS_MAX = 8;
/** A CA certificate with an RSA key of 16,384 bits has some 5 KiB. */
const CA_BYTES = 8 * 1024;

/** OwnOffer is what this hub tells of itself. */
export interface OwnOffer {
  readonly hubId: string;
  readonly caPems: readonly string[];
  /** The certificate that it shows at the door. */
  readonly leaf: X509Certificate;
  /** Where peers reach its discovery; undefined if it only dials out. */
  readonly address: { readonly host: string; readonly port: number } | undefined;
}

/** Candidate is a hub that has proved the invite and the PIN: what is needed to make it a peer, and nothing more. */
export interface Candidate {
  readonly hubId: string;
  readonly cas: readonly { readonly pem: string /** SHA-256 of the DER, hex. */; readonly sha256: string }[];
  readonly address: { readonly host: string; readonly port: number } | undefined;
}

/** encodeOffer writes an offer; both sides digest exactly these bytes. */
export function encodeOffer({ hubId, caPems, address, leaf }: OwnOffer): Uint8Array {
  const cas = caPems.map((pem) => new X509Certificate(pem).raw);
  const { host = "", port = 0 } = address ?? {};
  return toBinary(OfferSchema, create(OfferSchema, { hubId, cas, host, port, certificate: leaf.raw }));
}

/**
 * judgeOffer reads an offer that was proven, and refuses one that cannot be true: it must be for the hub of the certificate that was
 * shown (`thumbprint`), with CAs of that very hub, one of which signed it. The proof says who sent it, not that it makes sense.
 * Throws FoedusError.
 */
export function judgeOffer(bytes: Uint8Array, thumbprint: string, nowWall: number): Candidate {
  const offer = decode(bytes);
  const { hubId } = offer;
  const leaf = readCertificate(offer.certificate, "offer.certificate");
  if (thumbprintOf(leaf) !== thumbprint) throw fail("IDENTITY_MISMATCH", "the offer holds another certificate than the one that was shown");
  const id = parseSpiffeId(uriSans(leaf)[0] ?? "");
  if (!isHubId(hubId) || id?.hubId !== hubId || id.kind !== "service")
    throw fail("IDENTITY_MISMATCH", `the offer is for "${printable(hubId)}" and the certificate for ${id?.uri ?? "nobody"}`);
  if (offer.cas.length === 0 || offer.cas.length > CAS_MAX || offer.cas.some((der) => der.length > CA_BYTES))
    throw fail("INVALID_FIELD", `an offer has 1 to ${CAS_MAX} CA certificates of at most ${CA_BYTES} bytes`, { field: "offer.cas" });
  const cas = offer.cas.map((der) => readCa(der, hubId, nowWall));
  if (!issuedBy(leaf, cas)) throw fail("FOREIGN_CA", `the certificate of ${hubId} is not signed by one of the CAs that it offers`);
  const { host, port } = offer;
  if (host !== "" && (!isHost(host) || port < 1 || port > 65_535))
    throw fail("INVALID_FIELD", `${hubId} offers an address that cannot be dialled`, { field: "offer.host" });
  return {
    hubId,
    cas: cas.map((ca) => ({ pem: String(ca), sha256: digestOf(ca).toString("hex") })),
    address: host === "" ? undefined : { host, port },
  };
}

function decode(bytes: Uint8Array): Offer {
  try {
    return fromBinary(OfferSchema, bytes);
  } catch (cause) {
    throw fail("INVALID_FIELD", "the offer cannot be read", { field: "offer", cause });
  }
}

function readCertificate(der: Uint8Array, field: string): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (cause) {
    throw fail("INVALID_FIELD", "a certificate of the offer cannot be read", { field, cause });
  }
}

function readCa(der: Uint8Array, hubId: string, nowWall: number): X509Certificate {
  const ca = readCertificate(der, "offer.cas");
  if (!ca.ca) throw fail("INVALID_FIELD", `${hubId} offers a certificate that is not a CA`, { field: "offer.cas" });
  const weak = certificateKeyProblem(ca);
  if (weak !== undefined) throw fail("INVALID_FIELD", `a CA that ${hubId} offers ${weak}`, { field: "offer.cas" });
  const other = uriSans(ca).find((uri) => uri.startsWith("spiffe://") && uri !== `spiffe://${hubId}`);
  if (other !== undefined) throw fail("FOREIGN_CA", `${hubId} offers the CA of another hub, ${printable(other)}`);
  if (ca.validToDate.getTime() <= nowWall)
    throw fail("CERTIFICATE_EXPIRED", `a CA that ${hubId} offers ended at ${ca.validTo}; renew it there`);
  return ca;
}

function printable(text: string): string {
  return text.slice(0, 80).replace(/[^\x21-\x7e]/g, "?");
}
