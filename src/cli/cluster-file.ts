/** cluster.toml: where the three roles of a cluster answer, for those who deploy to it. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'smol-toml';
import { z } from 'zod';
import type { Role } from '../runtime/model.ts';
import { isLoopback } from '../server/config.ts';
import { readFileOf } from './files.ts';
import { UsageError } from './terminal.ts';

const address = z.url({ protocol: /^https?$/, error: "an address such as 'https://p0.example.org' is expected" });
const File = z.strictObject({ p0: address, p1: address, dealer: address, ca: z.string().min(1).optional() });

export interface ClusterFile {
  readonly urls: Readonly<Record<Role, URL>>;
  /** PEM: trusted beside the public authorities. */
  readonly ca?: string;
}

export function readCluster(file: string): ClusterFile {
  const text = new TextDecoder().decode(readFileOf(file));
  let value: unknown;
  try {
    value = parse(text);
  } catch (e) {
    throw new UsageError(`${file}: not TOML: ${(e as Error).message.split('\n')[0]}`);
  }
  const { data, error } = File.safeParse(value);
  if (!data)
    throw new UsageError(
      `${file}: ${error.issues[0].path.join('.') || 'file'}: ${error.issues[0].message}`,
      'p0 = "https://…", p1 and dealer alike; ca = "ca.pem" where a private authority signed',
    );
  const urls = { p0: new URL(data.p0), p1: new URL(data.p1), dealer: new URL(data.dealer) };
  for (const [role, url] of Object.entries(urls))
    if (url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
      throw new UsageError(`${file}: ${role}: seeds do not travel over plain HTTP: give an https address`);
  if (data.ca === undefined) return { urls };
  const path = resolve(dirname(file), data.ca);
  try {
    return { urls, ca: readFileSync(path, 'utf8') };
  } catch {
    throw new UsageError(`${file}: ca: ${path} cannot be read`);
  }
}
