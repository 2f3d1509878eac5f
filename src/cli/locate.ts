/** From what was typed as MODEL to a place on disk. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isCompiled } from '../folder/index.ts';
import { KNOWN } from '../import/pull/known.ts';
import { UsageError } from './terminal.ts';

/** Pulled models and compiled ones, below the folder one works in. */
export const homeFolder = '.subrosa';
export const pulledFolder = (name: string): string => join(homeFolder, 'models', name);
export const compiledFolder = (name: string): string => join(homeFolder, 'compiled', name);

/** What comes with the package. */
export const shipped = (file: string): string => fileURLToPath(new URL(`../../models/${file}`, import.meta.url));
const shippedModels = ['fashion-vit'];

export type Located =
  | { readonly kind: 'compiled'; readonly dir: string; readonly name: string }
  /** `dirs`: where files that describe the model may lie. */
  | { readonly kind: 'onnx'; readonly file: string; readonly name: string; readonly dirs: readonly string[] }
  | { readonly kind: 'folder'; readonly dir: string; readonly name: string }
  | { readonly kind: 'gguf'; readonly file: string; readonly name: string };
export type Uncompiled = Exclude<Located, { kind: 'compiled' }>;

export function locate(what: string): Located {
  if (existsSync(what)) return statSync(what).isDirectory() ? folder(what) : file(what);
  if (shippedModels.includes(what)) return onnx(shipped(`${what}.onnx`));
  const short = what.split('/').at(-1) ?? '';
  if (/^([\w.-]+\/)?[\w.-]+$/.test(what) && short !== '' && !what.includes('..')) {
    if (existsSync(pulledFolder(short))) return folder(pulledFolder(short));
    if (isCompiled(compiledFolder(short))) return folder(compiledFolder(short));
  }
  if (Object.hasOwn(KNOWN, what))
    throw new UsageError(`the model ${what} is not here yet`, `subrosa pull ${what}     (${KNOWN[what].about})`);
  if (/\.(onnx|safetensors|gguf)$/.test(what)) throw new UsageError(`${what}: no such file`);
  throw new UsageError(
    `no model '${what}': no such file or folder, and no name that is known or was pulled`,
    `known names: ${[...shippedModels, ...Object.keys(KNOWN)].join(', ')}`,
    'subrosa pull OWNER/NAME brings one from the hub',
  );
}

function file(path: string): Located {
  if (path.endsWith('.onnx')) return onnx(path);
  if (path.endsWith('.gguf')) return { kind: 'gguf', file: path, name: safe(basename(path, '.gguf')) };
  if (basename(path) === 'program.json') return folder(dirname(path));
  if (path.endsWith('.safetensors')) throw new UsageError(`${path} holds weights only: give the folder that has its config.json too`);
  throw new UsageError(
    `${path} is not a model this program reads`,
    'an .onnx or .gguf file, or a folder with config.json and safetensors, is expected',
  );
}

function onnx(path: string): Located {
  const dir = dirname(path);
  const dirs = basename(dir) === 'onnx' ? [dir, dirname(dir)] : [dir];
  const stem = basename(path, '.onnx');
  const name = /^model(_|$)/.test(stem) ? basename(resolve(dirs.at(-1) as string)) : stem;
  return { kind: 'onnx', file: path, name: safe(name), dirs };
}

function folder(dir: string): Located {
  const name = safe(basename(resolve(dir)));
  if (isCompiled(dir)) return { kind: 'compiled', dir, name };
  const files = readdirSync(dir);
  if (files.includes('config.json') && files.some((f) => f.endsWith('.safetensors'))) return { kind: 'folder', dir, name };
  for (const candidate of ['model.onnx', 'onnx/model.onnx']) if (existsSync(join(dir, candidate))) return onnx(join(dir, candidate));
  const others = files.filter((f) => f.endsWith('.onnx'));
  if (others.length === 1) return onnx(join(dir, others[0]));
  if (others.length > 1) throw new UsageError(`${dir} holds several ONNX files: name one of ${others.join(', ')}`);
  const ggufs = files.filter((f) => f.endsWith('.gguf'));
  if (ggufs.length === 1) return { kind: 'gguf', file: join(dir, ggufs[0]), name };
  if (ggufs.length > 1) throw new UsageError(`${dir} holds several GGUF files: name one of ${ggufs.join(', ')}`);
  throw new UsageError(
    `${dir} holds no model`,
    'program.json, or config.json with safetensors, or an .onnx or .gguf file is expected in it',
  );
}

/** Fit for a folder's name. */
const safe = (name: string): string => name.replace(/[^\w.-]+/g, '-').replace(/^[.-]+/, '') || 'model';
