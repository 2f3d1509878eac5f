/**
 * What Prometheus sees of a role. Labels are models (the first 12 digits of the program's hash), peers, codes and kinds of gates: what is public
 * anyway, and of a bounded number. Nothing is derived from a share.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Program } from '../program/program.ts';
import { mostParams, resolve } from '../program/program.ts';
import type { DealerEvents, HostEvents, HostLoad } from '../session/events.ts';
import type { LinkTotals } from './links.ts';

/** Asked at each scrape. */
export interface Sources {
  load(): Pick<HostLoad, 'sessions' | 'queued' | 'running'>;
  links(): readonly LinkTotals[];
  /** Those here, and what each takes in memory, 0 when it is not there. */
  models(): readonly { readonly hash: string; readonly memory: number }[];
  program(hash: string): Program | undefined;
  ready(): boolean;
  /** When the configuration was read last: milliseconds since 1970. */
  reloaded(): number;
}

export interface RoleMetrics {
  readonly registry: Registry;
  readonly events: Required<Pick<HostEvents, 'sessionOpened' | 'sessionEnded' | 'stepDone'>> & Required<DealerEvents>;
  modelEvicted(): void;
}

export const modelLabel = (hash: string): string => hash.slice(0, 12);

/** From a tiny model on one machine to BERT over an ocean. */
const secondsBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

export function roleMetrics(sources: Sources): RoleMetrics {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: string[], collect: (g: Gauge) => void): Gauge =>
    new Gauge({
      name: `subrosa_${name}`,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        collect(this);
      },
    });
  const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
    new Counter({ name: `subrosa_${name}_total`, help, labelNames, registers });
  const histogram = (name: string, help: string): Histogram =>
    new Histogram({ name: `subrosa_${name}`, help, labelNames: ['model'], buckets: secondsBuckets, registers });

  // Process memory, CPU, descriptors, the event loop's lag, the engine's heap.
  collectDefaultMetrics({ register: registry });
  gauge('ready', 'Whether every other role is connected and new sessions are taken', [], (g) => g.set(sources.ready() ? 1 : 0));
  gauge('reload_age_seconds', 'Since the configuration was read last', [], (g) => g.set((Date.now() - sources.reloaded()) / 1000));
  gauge('sessions', 'Open sessions', [], (g) => g.set(sources.load().sessions));
  gauge('queue_length', 'Inputs that wait for a lane', [], (g) => g.set(sources.load().queued));
  gauge('running_steps', 'Steps that run', [], (g) => g.set(sources.load().running));
  gauge('link_up', 'Whether the link to a role stands', ['peer'], (g) => {
    for (const l of sources.links()) g.set({ peer: l.peer }, l.up ? 1 : 0);
  });
  new Counter({
    name: 'subrosa_link_bytes_total',
    help: 'Payloads and frame headers on the links between roles',
    labelNames: ['peer', 'direction'],
    registers,
    collect() {
      this.reset();
      for (const { peer, sentBytes, receivedBytes } of sources.links()) {
        this.inc({ peer, direction: 'sent' }, sentBytes);
        this.inc({ peer, direction: 'received' }, receivedBytes);
      }
    },
  });
  gauge('models_resident', 'Models in memory', [], (g) => g.set(sources.models().filter((m) => m.memory > 0).length));
  gauge('model_memory_bytes', "A model's memory: weights and lanes", ['model'], (g) => {
    for (const { hash, memory } of sources.models()) if (memory > 0) g.set({ model: modelLabel(hash) }, memory);
  });

  const opened = counter('sessions_opened', 'Sessions opened', ['model']);
  const ended = counter('sessions_ended', "Sessions ended, by code; 'none' is the client's own end", ['code']);
  const steps = counter('steps', 'Steps completed', ['model']);
  const rounds = counter('rounds', 'Rounds of completed steps', ['model']);
  const stepBytes = counter('step_bytes', 'Payloads of completed steps, between the roles', ['model', 'direction']);
  const gateSeconds = counter('gate_seconds', 'Seconds by kind of gate (metrics.profile)', ['gate']);
  const stepSeconds = histogram('step_seconds', "From a step's start to its last output sent; at the dealer, making its corrections");
  const queueSeconds = histogram('queue_seconds', 'In the queue, before a step starts');
  const evictions = counter('model_evictions', 'Models that left memory for others');
  const used = new Map<string, number>();
  gauge(
    'bound_used_ratio',
    "The program's tightest tensor: the largest value allowed, over half the ring. A fact of the program; no value is looked at",
    ['model'],
    (g) => {
      for (const { hash } of sources.models()) {
        const program = used.has(hash) ? undefined : sources.program(hash);
        if (program) used.set(hash, tightest(program));
        g.set({ model: modelLabel(hash) }, used.get(hash) ?? 0);
      }
    },
  );
  const profiled = (profile: ReadonlyMap<string, number> | undefined): void => {
    for (const [gate, seconds] of profile ?? []) gateSeconds.inc({ gate }, seconds);
  };
  return {
    registry,
    events: {
      sessionOpened: (_client, hash) => opened.inc({ model: modelLabel(hash) }),
      sessionEnded: (_client, _hash, code) => ended.inc({ code: code ?? 'none' }),
      stepDone(r) {
        const model = modelLabel(r.hash);
        steps.inc({ model });
        rounds.inc({ model }, r.rounds);
        stepBytes.inc({ model, direction: 'sent' }, r.sentBytes);
        stepBytes.inc({ model, direction: 'received' }, r.receivedBytes);
        stepSeconds.observe({ model }, r.seconds);
        queueSeconds.observe({ model }, r.queuedSeconds);
        profiled(r.profile);
      },
      stepDealt(r) {
        const model = modelLabel(r.hash);
        steps.inc({ model });
        stepBytes.inc({ model, direction: 'sent' }, r.bytes);
        stepSeconds.observe({ model }, r.seconds);
        profiled(r.profile);
      },
    },
    modelEvicted: () => evictions.inc(),
  };
}

/**
 * Bound · scale over half the ring, of the tensor where it is largest, at the longest input. Only tensors that carry a value of the model
 * count: others fill their ring on purpose. Nor do those with a scale for each channel, whose one bound is not that of each.
 */
export function tightest(program: Program): number {
  const longest = mostParams(program);
  return program.tensors.reduce((most, tensor) => {
    const { label, bits, bound, scale } = resolve(tensor, longest);
    return label === undefined || typeof scale !== 'number' ? most : Math.max(most, (bound * scale) / 2 ** (bits - 1));
  }, 0);
}
