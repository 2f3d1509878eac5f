/** Text generation on the client: no Node imports. */
export * from './batch.ts';
export * from './chat.ts';
export * from './decoder.ts';
export * from './generate.ts';
export * from './prefix.ts';
export * from './random.ts';
export * from './sample.ts';
export * from './schema.ts';
export * from './text.ts';
