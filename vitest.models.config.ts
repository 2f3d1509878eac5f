import { defineConfig } from 'vitest/config';

/** SmolLM2 on shares takes its own command, npm run test:language: compiling it alone takes minutes. */
const language = 'test/models/smollm2-private.test.ts';
const only = process.env.SUBROSA_TESTS === 'language';

export default defineConfig({
  test: {
    include: only ? [language] : ['test/models/**/*.test.ts'],
    exclude: only ? [] : [language],
    testTimeout: 900_000,
    hookTimeout: 900_000,
    pool: 'forks',
    maxWorkers: 1,
  },
});
