/**
 * Noticing that files changed, by looking at them every second: a rename over the old file, a link that now points elsewhere (how
 * Kubernetes and ACME clients replace certificates), a file on a network's disk. `fs.watch` misses each of these on some system.
 */
import { statSync } from 'node:fs';

/** Milliseconds. */
const period = 1000;

/** Calls `changed` once files have changed and then stayed as they are for one period: a certificate and its key are two files. Returns how to stop. */
export function watchFiles(files: () => readonly (string | undefined)[], changed: () => void, every = period): () => void {
  const look = (): string =>
    files()
      .map((file) => {
        const s = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false });
        return s ? `${s.ino} ${s.mtimeMs} ${s.size}` : '';
      })
      .join('|');
  let known = look();
  let last = known;
  const timer = setInterval(() => {
    const now = look();
    if (now === last && now !== known) {
      known = now;
      changed();
    }
    last = now;
  }, every);
  timer.unref();
  return () => clearInterval(timer);
}
