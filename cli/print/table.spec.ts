import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { facts, table } from "./table.ts";
import { cut, displayWidth, paragraphs } from "./text.ts";

const plain = { columns: undefined, style: (_format: string, text: string) => text };
const marked = { columns: undefined, style: (format: string, text: string) => `<${format}>${text}</>` };

describe("table", () => {
  test("columns line up, numbers stand right, lines have no trailing spaces", () => {
    const text = table(
      plain,
      [{ title: "NAME" }, { title: "N", align: "right" }, { title: "REMARK" }],
      [
        ["a", "1", ""],
        ["bcdefg", "1,000", "x"],
      ],
    );
    expect(text).toBe("NAME        N  REMARK\na           1\nbcdefg  1,000  x\n");
  });

  test("wide characters and combining marks take their real width", () => {
    expect([displayWidth("abc"), displayWidth("灯"), displayWidth("e\u0301"), displayWidth("💡x")]).toEqual([3, 2, 1, 3]);
    expect(
      table(
        plain,
        [{ title: "A" }, { title: "B" }],
        [
          ["灯", "x"],
          ["abc", "y"],
        ],
      ),
    ).toBe("A    B\n灯   x\nabc  y\n");
  });

  test("in a narrow terminal flexible columns are cut, widest first, others never", () => {
    const columns = [{ title: "ID" }, { title: "TEXT", flexible: true }];
    const text = table({ ...plain, columns: 20 }, columns, [["node-1234", "a text that is much too long"]]);
    expect(text.split("\n")).toEqual(["ID         TEXT", "node-1234  a text t…", ""]);
    expect(cut("灯灯灯", 4)).toBe("灯…");
    const narrow = table({ ...plain, columns: 5 }, columns, [["node-1234", "a text that is much too long"]]);
    expect(narrow).toContain("node-1234");
  });

  test("a column of sentences that the terminal has no room for stands below its rows, whole", () => {
    const columns = [{ title: "PEER" }, { title: "STATE" }, { title: "PROBLEM", flexible: true, prose: true }];
    const rows = [
      ["factory-of-the-north", "recovering", "nothing listens at the address; next attempt in 4 s"],
      ["lab", "operational", ""],
    ];
    expect(table({ ...plain, columns: 40 }, columns, rows).split("\n")).toEqual([
      "PEER                  STATE",
      "factory-of-the-north  recovering",
      "    nothing listens at the address; next",
      "    attempt in 4 s",
      "lab                   operational",
      "",
    ]);
    for (const wide of [90, undefined])
      expect(table({ ...plain, columns: wide }, columns, rows).split("\n")).toContain(
        "factory-of-the-north  recovering   nothing listens at the address; next attempt in 4 s",
      );
  });

  test("the last columns go below the rows where there is no room; what is empty is left out, and a unit stays with its number", () => {
    const columns = [
      { title: "CAPABILITY" },
      { title: "TYPE" },
      { title: "RANGE", flexible: true },
      { title: "ACCESS" },
      { title: "STATE", flexible: true, least: 16 },
      { title: "PROBLEM", flexible: true, prose: true },
    ];
    const rows = [
      ["energy-of-the-day", "double", "0 to 100000", "read, idempotent", "248.23 kWh", ""],
      ["mode", "string", "", "-", "-", ""],
    ];
    expect(table({ ...plain, columns: 50 }, columns, rows).split("\n")).toEqual([
      "CAPABILITY         TYPE    RANGE",
      "energy-of-the-day  double  0 to 100000",
      "    ACCESS read, idempotent  STATE 248.23 kWh",
      "mode               string",
      "",
    ]);
  });

  test("no line is wider than the terminal, whatever the columns, and everything but what a cut marks is there", () => {
    const text = fc.string({ maxLength: 90 });
    const column = fc.record({ title: fc.string({ minLength: 1, maxLength: 12 }), flexible: fc.boolean(), prose: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(column, { minLength: 1, maxLength: 9 }),
        fc.array(fc.array(text, { minLength: 9, maxLength: 9 }), { maxLength: 4 }),
        fc.integer({ min: 20, max: 120 }),
        (columns, rows, width) => {
          const lines = table({ ...plain, columns: width }, columns, rows).split("\n");
          expect(Math.max(...lines.map(displayWidth))).toBeLessThanOrEqual(width);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("prose breaks at spaces; a command stays whole, and so does what is laid out already", () => {
    const note =
      "the hub home does not run; start it: `foedus hub --config hub.json`.\n  foedus peer accept foedus-invite:abc with more words\n";
    expect(paragraphs(note, 40)).toBe(
      "the hub home does not run; start it:\n`foedus hub --config hub.json`.\n  foedus peer accept foedus-invite:abc with more words\n",
    );
    expect(paragraphs(note, undefined)).toBe(note);
    const why = facts({ ...plain, columns: 30 }, [["why", "its certificate is signed by the pinned CA"]]);
    expect(why).toBe("why  its certificate is signed\n     by the pinned CA\n");
  });

  test("colours do not change the layout, and control characters never reach the terminal", () => {
    const text = table(marked, [{ title: "A" }, { title: "B" }], [[{ text: "x\u001b[2J", style: "red" }, "y\r\nz"]]);
    expect(text).toBe("<bold>A</>           <bold>B</>\n<red>x\\u{1b}[2J</>  y\\u{d} z\n");
  });

  test("facts leave out what is empty", () => {
    expect(
      facts(plain, [
        ["a", "1"],
        ["long", ""],
        ["bb", { text: "2", style: undefined }],
      ]),
    ).toBe("a   1\nbb  2\n");
  });
});
