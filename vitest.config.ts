import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["services/**/*.spec.ts", "clients/**/*.spec.ts", "certs/**/*.spec.ts", "cli/**/*.spec.ts", "test/**/*.spec.ts"],
    pool: "forks",
    testTimeout: 20_000,
    hookTimeout: 30_000,
  },
});
