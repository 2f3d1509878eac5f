/** subrosa party, subrosa dealer: one role as a service, until it is told to stop. */
import { type Config, ConfigError, readConfig } from '../server/config.ts';
import { makeLog } from '../server/log.ts';
import { configText } from '../server/print.ts';
import { type RunningRole, startRole } from '../server/service.ts';
import { print, UsageError } from './terminal.ts';

interface Options {
  readonly config: string;
  readonly printConfig?: boolean;
}

export async function serveCommand(kind: 'party' | 'dealer', { config: file, printConfig }: Options): Promise<void> {
  const config = orUsage(() => readConfig(file));
  if ((config.role === 'dealer') !== (kind === 'dealer'))
    throw new UsageError(`${file} is of ${config.role}`, `subrosa ${config.role === 'dealer' ? 'dealer' : 'party'} --config ${file}`);
  if (printConfig) print(configText(config).trimEnd());
  else await serve(config, file);
}

async function serve(config: Config, file: string): Promise<void> {
  const log = makeLog(config.role, config.log.level);
  process.on('uncaughtException', (err) => {
    log.fatal({ err }, 'a fault in this program: please report it');
    process.exit(1);
  });
  const role = await startRole(config, { file, log }).catch((e: Error) => {
    throw e instanceof ConfigError ? asUsage(e) : e;
  });
  process.on('SIGHUP', () => void role.reload().catch(() => {}));
  await stopped(role);
}

/** Resolves when the role has drained after SIGTERM or SIGINT. A second signal ends the process at once. */
function stopped(role: RunningRole): Promise<void> {
  return new Promise((resolve, reject) => {
    let asked = false;
    const stop = (signal: NodeJS.Signals): void => {
      if (asked) process.exit(signal === 'SIGINT' ? 130 : 143);
      asked = true;
      // What is left then (a connection that does not end) must not keep the process.
      role.drain().then(() => {
        setTimeout(() => process.exit(0), 1000).unref();
        resolve();
      }, reject);
    };
    process.on('SIGTERM', stop).on('SIGINT', stop);
  });
}

function orUsage<T>(run: () => T): T {
  try {
    return run();
  } catch (e) {
    throw e instanceof ConfigError ? asUsage(e) : e;
  }
}

const asUsage = (e: ConfigError): UsageError => new UsageError(e.message, 'docs/operate.md says what each key means');
