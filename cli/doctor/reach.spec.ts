import { createServer as createTcp, type Server } from "node:net";
import { createServer as createTls, type TlsOptions } from "node:tls";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { parseCertificates } from "#channel/tls/material.ts";
import { type Credential, type TestHub, testHub } from "../../test/testca/index.ts";
import { knock, type Verdict } from "./reach.ts";

let home: TestHub;
let factory: TestHub;
let impostor: TestHub;
const servers: Server[] = [];

beforeAll(async () => {
  [home, factory] = await Promise.all([testHub("home"), testHub("factory")]);
  impostor = await factory.otherAuthority();
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

/** A server that speaks first, as HTTP/2 servers do, and demands a certificate of `trusts`. */
function serving({ certificatePem: cert, keyPem: key }: Credential, trusts: TestHub, more: TlsOptions = {}): Promise<number> {
  const options = { cert, key, ca: trusts.caPem, requestCert: true, rejectUnauthorized: true, ALPNProtocols: ["h2"], ...more };
  const server = createTls(options, (socket) => socket.on("error", () => undefined).end("settings"));
  return listen(server.on("tlsClientError", () => undefined));
}

function knockAt(port: number, host = "127.0.0.1"): Promise<Verdict> {
  const { certificatePem: cert, keyPem: key } = home.service();
  return knock({ host, port, expected: { hubId: "factory" }, bundle: parseCertificates([factory.caPem]) }, { cert, key }, systemClock);
}

describe("knocking at a peer's door", () => {
  test("the right hub that takes our certificate", async () => {
    expect(await knockAt(await serving(factory.service(), home))).toEqual({ kind: "ok", service: "hub" });
    expect(await knockAt(await serving(factory.service("discovery"), home), "localhost")).toEqual({ kind: "ok", service: "discovery" });
  });

  test("nothing listens, and a host that does not exist", async () => {
    const port = await listen(createTcp());
    await new Promise((resolve) => servers.pop()!.close(resolve));
    expect(await knockAt(port)).toEqual({ kind: "nothing" });
    expect(await knockAt(port, "no-such-host.invalid")).toEqual({ kind: "unknown-host" });
  });

  test("another hub, another kind, the right name by a foreign CA, and a certificate that has ended", async () => {
    const reasonOf = async (credential: Credential): Promise<string> => {
      const verdict = await knockAt(await serving(credential, home));
      return verdict.kind === "wrong" ? verdict.failure.reason : verdict.kind;
    };
    expect(await reasonOf(home.service())).toBe("UNKNOWN_IDENTITY");
    expect(await reasonOf(factory.gateway())).toBe("UNKNOWN_IDENTITY");
    expect(await reasonOf(impostor.service())).toBe("FOREIGN_CA");
    expect(await reasonOf(factory.expired())).toBe("CERTIFICATE_EXPIRED");
  });

  test("the right hub that does not know our CA", async () => {
    expect(await knockAt(await serving(factory.service(), factory))).toEqual({ kind: "refused" });
  });

  test("something that does not speak TLS, or an older one", async () => {
    const plain = await listen(
      createTcp((socket) =>
        socket
          .on("error", () => undefined)
          .resume()
          .end("220 mail.example ESMTP\r\n"),
      ),
    );
    expect(await knockAt(plain)).toMatchObject({ kind: "no-tls" });
    expect(await knockAt(await serving(factory.service(), home, { maxVersion: "TLSv1.2" }))).toMatchObject({ kind: "no-tls" });
  });
});
