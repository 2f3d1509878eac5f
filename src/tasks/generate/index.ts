/** Text generation on the client: no Node imports. */
export * from './chat.ts';
export * from './decoder.ts';
export * from './generate.ts';
export * from './prefix.ts';
export * from './private.ts';
export * from './random.ts';
export * from './sample.ts';
export * from './schema.ts';
export * from './text.ts';
