/** What a host asks for its models: where they come from, how many stay in memory, is the store's business. */
import type { Model, Role } from '../runtime/model.ts';
import { SubrosaError } from '../client/errors.ts';

export interface ModelStore {
  /** Whether this role was given the program of this hash. */
  has(hash: string): boolean;
  /**
   * The model in memory, loaded now if need be; it stays until `release`, once for each `acquire`. Throws SubrosaError 'unknown-model', or
   * 'out-of-memory' when it does not fit beside those in use.
   */
  acquire(hash: string): Model;
  release(hash: string): void;
}

/** A store of one model that is always there. */
export function oneModel(hash: string, model: Model): ModelStore & { readonly role: Role } {
  const known = (asked: string): void => {
    if (asked !== hash) throw new SubrosaError('unknown-model', `no program ${asked.slice(0, 16)}… here: deploy it, or ask for ${hash.slice(0, 16)}…`);
  };
  return {
    role: model.role,
    has: (asked) => asked === hash,
    acquire(asked) {
      known(asked);
      return model;
    },
    release: known,
  };
}
