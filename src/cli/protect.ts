/** subrosa protect: a model as one folder for each role, private weights masked under fresh seeds. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Protected, protect, roles } from '../folder/index.ts';
import type { BuildOptions } from './compiled.ts';
import { compiledOf } from './compiled.ts';
import { homeFolder, locate } from './locate.ts';
import { bytesText, out, plural, print, say, UsageError } from './terminal.ts';

interface Options extends BuildOptions {
  readonly output?: string;
  readonly json?: boolean;
}

export async function protectCommand(
  model: string,
  options: Options,
  command: { getOptionValueSource(name: string): string | undefined },
): Promise<void> {
  const { name } = locate(model);
  const dir = options.output ?? join(homeFolder, 'protected', name);
  if (existsSync(dir) && readdirSync(dir).length > 0)
    throw new UsageError(`${dir} exists already: each split has a folder of its own`, '-o takes another one');
  const given = command.getOptionValueSource('weights') === 'cli';
  const folder = await compiledOf(model, { ...options, given });
  const parts = protect(folder, dir);
  const { weights } = folder.program;
  const sizes = roles.map((role) => [role, [...parts.roles[role].files.values()].reduce((a, b) => a + b, 0)] as const);
  if (options.json)
    return print(JSON.stringify({ dir, hash: parts.hash, name: folder.program.name, weights, bytes: Object.fromEntries(sizes) }));
  print(`${out.bold(folder.program.name)} in ${dir}, ${weights} weights`);
  print(`  program   ${parts.hash}`);
  for (const [role, bytes] of sizes) print(`  ${role.padEnd(10)}${bytesText(bytes).padEnd(10)}${contents(parts, role)}`);
  print(`  client    ${''.padEnd(10)}manifest.json and what parties serve: for clients that keep their own copy`);
  if (weights === 'private') say('each part to its role alone: two of them together are the model');
  say(`next: subrosa deploy ${dir} --to cluster.toml --key owner.key`);
}

function contents(parts: Protected, role: (typeof roles)[number]): string {
  const names = [...parts.roles[role].files.keys()];
  const own = names.filter((n) => !n.startsWith('client/'));
  const client = names.length - own.length;
  return `${own.sort().join(', ')}${client > 0 ? `, ${plural(client, 'file')} for clients` : ''}`;
}
