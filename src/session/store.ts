/** What a host asks for its models: where they come from, how many stay in memory, is the store's business. */
import { SubrosaError } from '../client/errors.ts';
import type { Manifest } from '../client/manifest.ts';
import { manifestOf } from '../client/manifest.ts';
import type { Model, Role } from '../runtime/model.ts';

/** What a program asks of its inputs. */
export type Takes = Pick<Manifest, 'params' | 'inputs'>;

export interface ModelStore {
  /** What the program of this hash takes; undefined when this role was not given it. Loads no weights. */
  takes(hash: string): Takes | undefined;
  /**
   * The model in memory, loaded now if need be; it stays until `release`, once for each `acquire`. Throws SubrosaError 'unknown-model', or
   * 'out-of-memory' when it does not fit beside those in use: the step then waits for one of those to end, and fails when there is none.
   */
  acquire(hash: string): Model;
  release(hash: string): void;
}

export const unknownModel = (hash: string): SubrosaError =>
  new SubrosaError('unknown-model', `no program ${hash.slice(0, 16)}… here: deploy it, or see which ones are`);

/** A store of one model that is always there. */
export function oneModel(hash: string, model: Model): ModelStore & { readonly role: Role } {
  const takes = manifestOf(model.program, hash);
  const known = (asked: string): void => {
    if (asked !== hash) throw unknownModel(asked);
  };
  return {
    role: model.role,
    takes: (asked) => (asked === hash ? takes : undefined),
    acquire(asked) {
      known(asked);
      return model;
    },
    release: known,
  };
}
