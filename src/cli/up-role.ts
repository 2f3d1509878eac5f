/**
 * One role of `subrosa up`, as a process: the service that `subrosa party` and `subrosa dealer` run, plus, at a party, the demonstration's
 * view of what it received. Its config comes over the channel to the process that started it, and it ends when that channel does.
 */
import { getPriority, setPriority } from 'node:os';
import { parseConfig } from '../server/config.ts';
import { demonstration } from '../server/demo.ts';
import { makeLog } from '../server/log.ts';
import { type RunningRole, startRole } from '../server/service.ts';

export interface Start {
  /** As in a config file; paths are relative to `dir`. */
  readonly config: unknown;
  readonly dir: string;
}
export type FromUp = { readonly links?: string; readonly api?: string } | { readonly ready: true } | { readonly failed: string };

const tell = (message: FromUp): void => void (process.connected && process.send?.(message));
let running: RunningRole | undefined;

async function start({ config: given, dir }: Start): Promise<void> {
  const config = parseConfig(given, { dir });
  // Three roles share this machine's cores: the dealer, which works ahead, takes what the parties leave (src/session/role.ts).
  if (config.role === 'dealer') setPriority(Math.min(19, getPriority() + 10));
  const demo = config.role === 'dealer' ? undefined : demonstration(config.role === 'p0' ? 0 : 1, config);
  const log = makeLog(config.role, config.log.level);
  running = await startRole(config, { log, events: demo?.events, extend: demo && ((app) => void app.route('/', demo.routes)) });
  tell(running.addresses);
  await running.ready;
  tell({ ready: true });
}

const end = (): void => {
  const close = running?.close() ?? Promise.resolve();
  close.catch(() => {}).finally(() => process.exit(0));
};
process.on('disconnect', end);
// Ctrl-C in a terminal reaches every process of the group; the one that started this one decides what it means.
process.on('SIGINT', () => {});
process.once('message', (m: Start) => {
  start(m).catch((e: Error) => {
    tell({ failed: e.message });
    end();
  });
});
