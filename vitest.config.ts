import { configDefaults, defineConfig } from "vitest/config";

/** Files that load the machine on purpose, or ask how a loaded hub answers: nothing runs beside them. */
const ALONE = ["test/soak/**/*.spec.ts", "test/flood/**/*.spec.ts", "test/hostile-network/**/*.spec.ts", "test/histories/**/*.spec.ts"];

export default defineConfig({
  test: {
    pool: "forks",
    // So long that only what hangs meets it: a busy machine is no fault of what is tested.
    testTimeout: 60_000,
    hookTimeout: 90_000,
    projects: [
      {
        extends: true,
        test: {
          name: "together",
          include: [
            "services/**/*.spec.ts",
            "clients/**/*.spec.ts",
            "adapters/**/*.spec.ts",
            "certs/**/*.spec.ts",
            "console/**/*.spec.ts",
            "cli/**/*.spec.ts",
            "test/**/*.spec.ts",
          ],
          exclude: [...configDefaults.exclude, ...ALONE],
          // Half of what the suite takes is waiting for processes: two files at a time use a machine with two cores well.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: "alone", include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } } },
    ],
  },
});
