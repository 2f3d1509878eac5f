/** subrosa/client: private inference from a browser, Node, Deno or Bun. docs/client.md. */
export type { Client, ProgressReport, RunOptions } from './client.ts';
export { type ConnectOptions, connect } from './connect.ts';
export { codes, type ErrorCode, SubrosaError } from './errors.ts';
export type { Manifest, ManifestFile, ManifestInput, ManifestOutput } from './manifest.ts';
export type { Fetch } from './party.ts';
export type { ClientInput, ClientInputs, ClientOutput } from './share.ts';
