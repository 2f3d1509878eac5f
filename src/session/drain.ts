/** A host that shuts down. */
import { SubrosaError } from '../client/errors.ts';

/** Milliseconds from a step's end at one role to when it has surely ended at the others, and the client has its answer. */
export const afterStep = 1000;

export const drainingError = (role: string): SubrosaError => new SubrosaError('draining', `${role} is shutting down: try again soon`);

export class Drain {
  resolve: () => void = () => {};
  readonly done = new Promise<void>((resolve) => {
    this.resolve = resolve;
  });
}
