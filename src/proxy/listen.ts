/** The proxy's port. */

import { type App, type HttpListener, listenHttp } from '../server/http.ts';
import type { Api } from './app.ts';

/** Seconds. An answer may take as long as it takes to be made; one that nobody reads may not. */
const times = { headers: 10, request: 60, idle: 60, answer: 60 };

/** `host`: an IPv6 address in brackets. Port 0: any that is free. Throws LinkError 'port-in-use' or 'listen-failed'. */
export const listen = (app: Api['app'], host: string, port: number): Promise<HttpListener> =>
  listenHttp(app as unknown as App, { name: 'proxy', listen: `${host}:${port}`, times, connections: 256 });
