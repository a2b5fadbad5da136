import { describe, expect, test } from "vitest";
import { cut, displayWidth, facts, table } from "./table.ts";

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
