/**
 * A role as a service: its links to the other roles kept up, the host that runs sessions on them, the HTTP interfaces in front of it, and
 * what an operator needs: health, metrics, a log, drain, reload.
 *
 *   links.ts ──▶ host (session/) ◀── api.ts ◀── http.ts ◀── clients
 *                   ▲                admin.ts ◀─────────── owners
 *               models.ts
 */
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { SubrosaError } from '../client/errors.ts';
import type { Identity } from '../net/keys.ts';
import type { Link } from '../net/link.ts';
import { checkedModule } from '../ring/kernels/check.ts';
import type { Role } from '../runtime/model.ts';
import { DealerHost } from '../session/dealer.ts';
import type { DealerEvents, HostEvents } from '../session/events.ts';
import { PartyHost } from '../session/party.ts';
import { adminApi } from './admin.ts';
import { clientApi, errorResponse } from './api.ts';
import { authenticator } from './auth.ts';
import { type Config, ConfigError, changes, readConfig } from './config.ts';
import { type App, type HttpListener, listenHttp } from './http.ts';
import { RoleLinks, readIdentity } from './links.ts';
import { type Logger, logEvents, makeLog } from './log.ts';
import { modelLabel, type RoleMetrics, roleMetrics } from './metrics.ts';
import { type ModelEvent, RoleModels } from './models.ts';
import { bytesOf } from './schema.ts';
import { watchFiles } from './watch.ts';

export interface StartOptions {
  /** Default: JSON lines on stdout, at the configuration's level. */
  readonly log?: Logger;
  /** The file the configuration came from: watched, and read again on `reload`. */
  readonly file?: string;
  /** Hears what the host tells, beside metrics and log. */
  readonly events?: HostEvents;
  /** Adds routes to the HTTP interface, before all others but health. */
  readonly extend?: (app: App) => void;
}

export interface Reloaded {
  /** Keys that count now; keys that need a restart. */
  readonly live: readonly string[];
  readonly restart: readonly string[];
}

export interface RunningRole {
  readonly role: Config['role'];
  /** Where it listens, with the ports it was given for port 0. */
  readonly addresses: { readonly links?: string; readonly api?: string; readonly metrics?: string };
  /** Resolves when every other role is connected for the first time. */
  readonly ready: Promise<void>;
  /** What keeps it from serving: 'p1 is not connected', 'shutting down'. Empty: ready. */
  missing(): readonly string[];
  /** No new sessions; what runs or waits finishes, within `times.drain`. Then everything is closed. */
  drain(): Promise<void>;
  /** Reads the file again. Throws ConfigError, and changes nothing, when it is wrong. */
  reload(): Promise<Reloaded>;
  /** Ends everything at once. */
  close(): Promise<void>;
}

/** Resolves when it listens. Throws ConfigError, LinkError 'port-in-use' or 'listen-failed', or SubrosaError; nothing is left behind then. */
export async function startRole(config: Config, options: StartOptions = {}): Promise<RunningRole> {
  const service = new Service(config, options);
  try {
    await service.start();
  } catch (e) {
    await service.close();
    throw e;
  }
  return service;
}

class Service implements RunningRole {
  readonly role: Role;
  readonly ready: Promise<void>;
  private readonly log: Logger;
  private readonly models: RoleModels;
  private readonly metrics: RoleMetrics;
  private readonly host: PartyHost | DealerHost;
  private config: Config;
  private identity: Identity;
  private links?: RoleLinks;
  private api?: HttpListener;
  private monitor?: HttpListener;
  private unwatch = (): void => {};
  private isReady = (): void => {};
  private reloaded = Date.now();
  private draining?: Promise<void>;
  private closing?: Promise<void>;

  constructor(
    config: Config,
    private readonly options: StartOptions,
  ) {
    this.config = config;
    this.role = config.role;
    this.identity = readIdentity(config);
    this.log = options.log ?? makeLog(config.role, config.log.level);
    this.ready = new Promise((resolve) => {
      this.isReady = resolve;
    });
    // A machine whose kernels are wrong says so now, not to the first client.
    const { wide } = checkedModule(config.threads > 1);
    this.log.info({ node: process.version, simd: wide ? 256 : 128, threads: config.threads }, 'kernels checked');
    this.models = new RoleModels({
      dir: config.models.dir,
      role: config.role,
      memory: bytesOf(config.models.memory),
      threads: config.threads,
      lanes: config.limits.lanes,
      onEvent: (e) => this.modelEvent(e),
    });
    this.metrics = roleMetrics({
      load: () => this.host.load(),
      links: () => this.links?.totals() ?? [],
      models: () => this.models.states(),
      program: (hash) => this.models.program(hash),
      ready: () => this.missing().length === 0,
      reloaded: () => this.reloaded,
    });
    this.host = this.makeHost();
  }

  get addresses(): RunningRole['addresses'] {
    const { listen } = this.config.links;
    const links = listen && this.links?.port !== undefined ? `${listen.slice(0, listen.lastIndexOf(':'))}:${this.links.port}` : undefined;
    return { links, api: this.api?.address, metrics: this.monitor?.address };
  }

  async start(): Promise<void> {
    const { config, options } = this;
    const common = { times: config.times, connections: config.limits.connections };
    if (config.api)
      this.api = await listenHttp(this.interface(config.api), { ...common, name: 'api', listen: config.api.listen, tls: config.api });
    if (config.metrics.listen)
      this.monitor = await listenHttp(this.monitoring(), { ...common, name: 'metrics', listen: config.metrics.listen });
    this.links = await RoleLinks.open(config, this.identity, {
      connect: (peer, link) => this.connect(peer, link),
      up: (peer) => {
        this.log.info({ peer }, 'connected');
        if (this.missing().length > 0) return;
        this.log.info({ models: this.models.list().map((m) => m.name) }, 'ready');
        this.isReady();
      },
      down: (peer, err) => this.log.warn({ peer, ...(err && { err }) }, 'disconnected'),
      failed: (err) => this.log.warn({ err }, 'no link'),
    });
    this.log.info({ ...this.addresses, pin: this.identity.spki }, 'listening');
    const { file } = options;
    if (!file) return;
    const files = (): (string | undefined)[] => [
      file,
      this.config.links.cert,
      this.config.links.key,
      this.config.api?.cert,
      this.config.api?.key,
      this.config.api?.clientCa,
    ];
    this.unwatch = watchFiles(files, () => void this.reload().catch(() => {}));
  }

  missing(): readonly string[] {
    if (this.draining || this.closing) return ['shutting down'];
    return this.links ? this.links.missing.map((peer) => `${peer} is not connected`) : ['starting'];
  }

  async reload(): Promise<Reloaded> {
    try {
      return this.takeOver();
    } catch (err) {
      this.log.error({ err }, 'the configuration was not read again: all is as before');
      throw err;
    }
  }

  drain(): Promise<void> {
    this.draining ??= this.finish();
    return this.draining;
  }

  close(): Promise<void> {
    this.closing ??= this.end(0);
    return this.closing;
  }

  private takeOver(): Reloaded {
    const { file } = this.options;
    if (!file) throw new ConfigError('this role was not started from a file: there is nothing to read again');
    const { config, live, restart } = changes(this.config, readConfig(file));
    const identity = readIdentity(config);
    // Session keys are bound to both parties' link keys (session/keys.ts): a process keeps its own.
    const sameKey = identity.spki === this.identity.spki;
    if (config.api) this.api?.renew(config.api);
    if (sameKey) this.identity = identity;
    this.config = config;
    this.log.level = config.log.level;
    this.links?.renew(config, this.identity);
    this.reloaded = Date.now();
    const result = { live, restart: sameKey ? restart : [...restart, 'links.key'] };
    this.log.info({ changed: live }, 'configuration, keys and certificates read again');
    if (result.restart.length > 0) this.log.warn({ keys: result.restart }, 'changed in the file, but needs a restart');
    return result;
  }

  private async finish(): Promise<void> {
    const { drain } = this.config.times;
    const from = performance.now();
    const { sessions, queued, running } = this.host.load();
    this.log.info({ sessions, queued, running, seconds: drain }, 'draining');
    await within(this.host.drain(), drain);
    this.closing ??= this.end(Math.max(0.5, drain - (performance.now() - from) / 1000));
    await this.closing;
  }

  /** What is being answered leaves within `seconds`; then links and memory go. */
  private async end(seconds: number): Promise<void> {
    this.unwatch();
    await this.api?.close(seconds);
    await this.links?.close();
    await this.monitor?.close(0);
    this.models.close();
    this.log.info('closed');
  }

  private makeHost(): PartyHost | DealerHost {
    const { role, config, models } = this;
    const key = (of: 'p0' | 'p1'): string => this.links?.spkiOf(of) ?? '';
    const options = {
      models,
      limits: config.limits,
      profile: config.metrics.profile,
      events: together<HostEvents & DealerEvents>([this.metrics.events, logEvents(this.log), this.options.events ?? {}]),
      index: role === 'p0' ? (0 as const) : (1 as const),
      // Asked when a session opens: the keys its links were made with.
      get spki(): [string, string] {
        return [key('p0'), key('p1')];
      },
    };
    return role === 'dealer' ? new DealerHost(options) : new PartyHost(options);
  }

  private connect(peer: Role, link: Link): void {
    if (this.host instanceof DealerHost) this.host.connect(peer === 'p0' ? 0 : 1, link);
    else if (peer === 'dealer') this.host.connectDealer(link);
    else this.host.connectPeer(link);
  }

  private modelEvent(e: ModelEvent): void {
    // What leaves memory because all does is no eviction.
    if (this.closing) return;
    if (e.kind === 'evicted') this.metrics.modelEvicted();
    if (e.kind === 'refused') this.log.error({ path: e.path, reason: e.reason }, 'model refused');
    else this.log.info({ model: modelLabel(e.hash), name: e.name, size: e.bytes }, `model ${e.kind}`);
  }

  private interface(api: NonNullable<Config['api']>): App {
    const app: App = new Hono();
    const onError = (err: unknown): void => this.log.error({ err }, 'internal error');
    app.onError((e, c) => errorResponse(c, e, onError));
    app.notFound((c) => errorResponse(c, new SubrosaError('bad-message', `no such route: ${c.req.method} ${c.req.path}`)));
    this.health(app);
    this.options.extend?.(app);
    const onEvent = (e: { owner: string; action: string; hash: string }): void =>
      this.log.info({ owner: e.owner, model: modelLabel(e.hash) }, `owner: ${e.action}`);
    app.route('/', adminApi({ role: this.role, models: this.models, owners: () => this.config.owners, onEvent, onError }));
    if (this.host instanceof DealerHost) return app;
    const authenticate = authenticator(() => this.config.api ?? api);
    const client = clientApi({
      index: this.role === 'p0' ? 0 : 1,
      host: this.host,
      catalogue: this.models,
      authenticate: (c) => authenticate((c.env as HttpBindings).incoming),
      ready: () => {
        const [why] = this.missing();
        return why === undefined
          ? undefined
          : new SubrosaError(this.draining ? 'draining' : 'not-ready', `this party takes no sessions now: ${why}`);
      },
      origins: api.origins,
      limits: {
        openSeconds: this.config.limits.waitSeconds,
        uploadBytes: bytesOf(this.config.limits.uploads),
        stallSeconds: this.config.times.stall,
      },
      onError,
    });
    return app.route('/', client) as unknown as App;
  }

  private monitoring(): App {
    const app: App = new Hono();
    const { registry } = this.metrics;
    app.get('/metrics', async (c) => c.body(await registry.metrics(), 200, { 'Content-Type': registry.contentType }));
    this.health(app);
    return app;
  }

  private health(app: App): void {
    app.get('/healthz', (c) => c.json({ status: 'ok' }));
    app.get('/readyz', (c) => {
      const missing = this.missing();
      return c.json({ status: missing.length === 0 ? 'ready' : 'not ready', missing }, missing.length === 0 ? 200 : 503);
    });
  }
}

/** One listener out of many. What nobody listens to stays undefined: hosts spare themselves the work for it. */
function together<T extends object>(all: readonly Partial<T>[]): T {
  const names = new Set(all.flatMap((e) => Object.keys(e))) as Set<keyof T>;
  const joined = [...names].map((name) => {
    const heard = all.flatMap((e) => (e[name] ? [e[name] as (...args: unknown[]) => void] : []));
    const tell = (...args: unknown[]): void => {
      for (const hear of heard) hear(...args);
    };
    return [name, tell];
  });
  return Object.fromEntries(joined) as T;
}

/** Resolves when the promise does, or after `seconds`. */
function within(promise: Promise<void>, seconds: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(resolve, 1000 * seconds);
    promise.then(resolve, reject).finally(() => clearTimeout(late));
  });
}
