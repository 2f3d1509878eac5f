/** What the parts of a server know of each other. */
import type { Manifest } from '../client/manifest.ts';

/** Who asks, as its token or certificate says. */
export interface Caller {
  readonly name: string;
  /** Steps allowed in a minute; undefined: no limit. */
  readonly stepsPerMinute?: number;
}

/** The models of a party, as its HTTP interface shows them. */
export interface Catalogue {
  list(): readonly { readonly name: string; readonly hash: string; readonly weights: 'public' | 'private'; readonly task: string }[];
  /** The canonical bytes of the manifest, the same at both parties. Undefined: no such model. */
  manifest(hash: string): { readonly text: string; readonly manifest: Manifest } | undefined;
  /** Absolute path of a file of client/ that the manifest names. */
  clientFile(hash: string, name: string): string | undefined;
}
