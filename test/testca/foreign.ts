// PKIs as other software makes them (OpenSSL here): other kinds of keys, intermediates, CAs without SPIFFE names or key identifiers.
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SERVICES } from "../../services/hub/services.ts";

/** hasOpenssl tells whether there is a program to make them with. */
export const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

/** KeyKind names a kind of key. */
export type KeyKind = "rsa" | "p256" | "p384" | "ed25519";

/** ForeignOptions say what kind of PKI is made. */
export interface ForeignOptions {
  readonly ca?: KeyKind;
  readonly leaf?: KeyKind;
  /** An intermediate between the CA and the leaves; the leaf's file has it behind the leaf. */
  readonly intermediate?: boolean;
  /** Without subject and authority key identifiers, as old software makes them. */
  readonly keyIds?: boolean;
  /** Subject of the CA. */
  readonly name?: string;
  /** Extended key usages of the service's certificate. */
  readonly usage?: string;
  /** Addresses of the service beside 127.0.0.1. */
  readonly ip?: string;
  readonly days?: number;
  /** Services that get a certificate, and then nobody else does; all, with operators and gateways, by default. */
  readonly services?: readonly string[];
}

const ALGORITHM: Readonly<Record<KeyKind, readonly string[]>> = {
  rsa: ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
  p256: ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
  p384: ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
  ed25519: ["-algorithm", "ED25519"],
};

const PROCESSES = ["hub", ...SERVICES];

/** foreignPki writes ca.pem, service-*, operator-admin, operator-viewer and gateway-* of a hub into a folder, over what is there. */
export function foreignPki(dir: string, hubId: string, options: ForeignOptions = {}): void {
  const { ca = "p256", leaf = "p256", intermediate = false, keyIds = true, name = `/CN=${hubId} root`, days = 60 } = options;
  mkdirSync(dir, { recursive: true });
  const at = (file: string): string => join(dir, file);
  const openssl = (...args: readonly string[]): void => {
    const { status, stderr } = spawnSync("openssl", args, { cwd: dir, encoding: "utf8" });
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
  };
  const key = (file: string, kind: KeyKind): void => {
    openssl("genpkey", ...ALGORITHM[kind], "-out", file);
    chmodSync(at(file), 0o600);
  };
  const config = (text: string): string => {
    writeFileSync(at("x.cnf"), text);
    return "x.cnf";
  };
  const ids = keyIds
    ? "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    : "subjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n";
  const caExtensions = `basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n`;
  const sign = (file: string, subject: string, issuer: string, extensions: string): void => {
    openssl(
      "req",
      "-new",
      "-key",
      `${file}.key`,
      "-subj",
      subject,
      "-out",
      "x.csr",
      "-config",
      config("[req]\ndistinguished_name=dn\n[dn]\n"),
    );
    const extfile = config(`${extensions}${ids}`);
    const by = ["-CA", `${issuer}.pem`, "-CAkey", `${issuer}.key`, "-CAcreateserial", "-days", String(days)];
    openssl("x509", "-req", "-in", "x.csr", ...by, "-out", `${file}.pem`, "-extfile", extfile);
  };
  key("ca.key", ca);
  const rootIds = keyIds ? "subjectKeyIdentifier=hash\n" : "subjectKeyIdentifier=none\n";
  const rootConfig = config(`[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\n${caExtensions}${rootIds}`);
  openssl("req", "-new", "-x509", "-key", "ca.key", "-subj", name, "-days", "3650", "-out", "ca.pem", "-config", rootConfig);
  const issuer = intermediate ? "middle" : "ca";
  if (intermediate) {
    key("middle.key", ca);
    sign("middle", `/CN=${hubId} middle`, "ca", caExtensions);
  }
  // What others pin when an intermediate signs.
  if (intermediate) writeFileSync(at("chain.pem"), readFileSync(at("ca.pem"), "utf8") + readFileSync(at("middle.pem"), "utf8"));
  const one = (stem: string, kind: string, who: string, unit: string, usage: string): void => {
    key(`${stem}.key`, leaf);
    const hosts = kind === "service" ? `,DNS:localhost,IP:127.0.0.1${options.ip === undefined ? "" : `,IP:${options.ip}`}` : "";
    const san = `subjectAltName=URI:spiffe://${hubId}/${kind}/${who}${hosts}\n`;
    const basic = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";
    sign(stem, `/O=${hubId}${unit}/CN=${who}`, issuer, `${basic}extendedKeyUsage=${usage}\n${san}`);
    if (intermediate) writeFileSync(at(`${stem}.pem`), readFileSync(at(`${stem}.pem`), "utf8") + readFileSync(at("middle.pem"), "utf8"));
  };
  for (const service of options.services ?? PROCESSES)
    one(`service-${service}`, "service", service, "", options.usage ?? "serverAuth,clientAuth");
  if (options.services !== undefined) return;
  one("operator-admin", "operator", "admin", "/OU=role:admin", "clientAuth");
  one("operator-viewer", "operator", "viewer", "/OU=role:viewer", "clientAuth");
  for (const gateway of ["zigbee", "agents"]) one(`gateway-${gateway}`, "gateway", gateway, "", "clientAuth");
}
