/** MODEL as a compiled folder: the one it names, the one in the cache, or one made now. */
import { type CompiledFolder, isCompiled, readCompiled } from '../folder/index.ts';
import { type Embedding, typedEmbedding } from './embedding.ts';
import { compileKey } from './key.ts';
import { compiledFolder, locate } from './locate.ts';
import { say, UsageError } from './terminal.ts';

export interface BuildOptions {
  readonly weights: 'public' | 'private';
  readonly maxTokens?: number;
  /** Where embeddings are looked up; by the weights and the network when it is not given. `clientEmbedding`: short for 'client'. */
  readonly embedding?: Embedding;
  readonly clientEmbedding?: boolean;
  readonly calibrate?: readonly string[];
  /** Language models: the text of the public prefix; the best of those measured when it is not given. */
  readonly prefix?: string;
  /** Default: lan. */
  readonly network?: 'lan' | 'wan';
}

/** Of the folder's name: the option, where it was given. */
const suffixOf = (options: BuildOptions): string => {
  const typed = typedEmbedding(options);
  return typed === undefined ? '' : `-${typed}-embedding`;
};

/** The compiled folder that MODEL names; compiled into the cache first when it has to be. */
export async function compiledOf(what: string, options: BuildOptions & { given?: boolean }): Promise<CompiledFolder> {
  const at = locate(what);
  if (at.kind === 'compiled') {
    const folder = readCompiled(at.dir);
    if (options.given && folder.program.weights !== options.weights)
      throw new UsageError(
        `${at.dir} was compiled with ${folder.program.weights} weights`,
        `subrosa compile MODEL --weights ${options.weights} -o DIR makes the other kind`,
      );
    return folder;
  }
  const dir = compiledFolder(`${at.name}-${options.weights}${suffixOf(options)}`);
  const key = compileKey(at, options);
  if (isCompiled(dir)) {
    try {
      const folder = readCompiled(dir);
      if (folder.record()?.key === key) return folder;
    } catch {
      // Left by another version: it is made again.
    }
  }
  say(`compiling ${at.name} with ${options.weights} weights into ${dir}`);
  const { build } = await import('./build.ts');
  return (await build(at, dir, options, { replace: true, key })).folder;
}
