import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['test/models/**/*.test.ts'], testTimeout: 900_000, hookTimeout: 900_000, pool: 'forks', maxWorkers: 1 },
});
