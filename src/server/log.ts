/**
 * The log: one JSON object a line. What goes in is chosen field by field where it is written; the list below is the second fence, for what a
 * library or a later line might add.
 */
import { destination, type Logger, pino } from 'pino';
import type { DealerEvents, HostEvents } from '../session/events.ts';
import type { Config } from './config.ts';
import { modelLabel } from './metrics.ts';

export type { Logger } from 'pino';

const secrets = [
  'authorization',
  'cookie',
  'token',
  'tokens',
  'sha256',
  'key',
  'keyPem',
  'seed',
  'seeds',
  'share',
  'shares',
  'words',
  'input',
  'inputs',
  'bytes',
  'payload',
];
/** An object is looked into this deep. */
const depths = ['', '*.', '*.*.', '*.*.*.'];

/** `write`: where lines go instead of stdout. */
export function makeLog(role: Config['role'], level: Config['log']['level'], write?: (line: string) => void): Logger {
  const options = {
    level,
    base: { role },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: depths.flatMap((d) => secrets.map((s) => d + s)), censor: '[not logged]' },
    // An error's message is written for people; its stack is for whoever debugs.
    serializers: {
      err: ({ code, message, stack }: Error & { code?: string }) => ({ code, message, ...(level === 'debug' ? { stack } : {}) }),
    },
  };
  // Written at once: what is logged before a crash is on its way already.
  return pino(options, write ? { write } : destination({ dest: 1, sync: true }));
}

const milliseconds = (seconds: number): number => Math.round(1e4 * seconds) / 10;

/** A line for each session's end and each step: whose, which model, how long, how much. */
export function logEvents(log: Logger): HostEvents & DealerEvents {
  return {
    sessionEnded: (client, hash, code) => log.info({ client, model: modelLabel(hash), ...(code && { code }) }, 'session ended'),
    stepDone: (r) =>
      log.info(
        {
          client: r.client,
          model: modelLabel(r.hash),
          params: r.params,
          queued: milliseconds(r.queuedSeconds),
          ms: milliseconds(r.seconds),
          rounds: r.rounds,
          sent: r.sentBytes,
          received: r.receivedBytes,
        },
        'step',
      ),
    stepDealt: (r) => log.info({ model: modelLabel(r.hash), params: r.params, ms: milliseconds(r.seconds), sent: r.bytes }, 'step dealt'),
  };
}
