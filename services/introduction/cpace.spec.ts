import { describe, expect, test } from "vitest";
import { Cpace, generatorOf, lvCat, multiplied, scalarOf } from "./cpace.ts";

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(/\s/g, ""), "hex");

/** The draft's vectors for CPACE-RISTR255-SHA512 (draft-irtf-cfrg-cpace, appendix B.3). */
const TERMS = {
  password: Buffer.from("Password"),
  channel: bytes("6f630b425f726573706f6e6465720b415f696e69746961746f72"),
  sessionId: bytes("7e4b4791d6a8ef019b936c79fb7f2c57"),
};
const A = {
  scalar: bytes("da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08"),
  share: bytes("d40fb265a7abeaee7939d91a585fe59f7053f982c296ec413c624c669308f87a"),
};
const B = {
  scalar: bytes("d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d"),
  share: bytes("08bcf6e9777a9c313a3db6daa510f2d398403319c2341bd506a92e672eb7e307"),
};
const ISK = bytes(
  `4c5469a16b2364c4b944ebc1a79e51d1674ad47db26e8718154f59faebfaa52d
   8346f30aa58377117eb20d527f2cbc5c76381f7fd372e89df8239f87f2e02ed1`,
);

describe("CPace, against the vectors of the draft", () => {
  test("the generator", () => {
    expect(Buffer.from(generatorOf(TERMS).toBytes()).toString("hex")).toBe(
      "a6fc82c3b8968fbb2e06fee81ca858586dea50d248f0c7ca6a18b0902a30b36b",
    );
  });

  test("shares and key, from both sides", () => {
    const [a, b] = [new Cpace(TERMS, A.scalar), new Cpace(TERMS, B.scalar)];
    expect([Buffer.from(a.share), Buffer.from(b.share)]).toEqual([A.share, B.share]);
    const halves = [
      { share: A.share, data: Buffer.from("ADa") },
      { share: B.share, data: Buffer.from("ADb") },
    ] as const;
    expect(a.key(...halves, B.share)).toEqual(ISK);
    expect(b.key(...halves, A.share)).toEqual(ISK);
  });

  test("multiplication, and what is no element or gives the neutral one", () => {
    const scalar = scalarOf(bytes("7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05"));
    const element = bytes("2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
    expect(Buffer.from(multiplied(scalar, element)!).toString("hex")).toBe(
      "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e",
    );
    for (const bad of [
      bytes("2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c"),
      new Uint8Array(32),
      new Uint8Array(32).fill(255),
      new Uint8Array(31),
      new Uint8Array(0),
    ])
      expect(multiplied(scalar, bad)).toBeUndefined();
  });

  test("any other password, channel or session id gives another key; a length stands before each part", () => {
    const halves = [
      { share: A.share, data: Buffer.from("ADa") },
      { share: B.share, data: Buffer.from("ADb") },
    ] as const;
    for (const other of [
      { ...TERMS, password: Buffer.from("password") },
      { ...TERMS, channel: bytes("00") },
      { ...TERMS, sessionId: bytes("00") },
    ]) {
      const theirs = new Cpace(other, B.scalar);
      const key = new Cpace(TERMS, A.scalar).key(halves[0], { ...halves[1], share: theirs.share }, theirs.share);
      expect(key).not.toEqual(theirs.key(halves[0], { ...halves[1], share: theirs.share }, A.share));
    }
    expect(lvCat(Buffer.from("ab"), Buffer.from("c"))).not.toEqual(lvCat(Buffer.from("a"), Buffer.from("bc")));
    expect(lvCat(new Uint8Array(200)).subarray(0, 2)).toEqual(Buffer.from([0xc8, 0x01]));
  });
});
