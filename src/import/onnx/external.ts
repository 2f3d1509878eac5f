/** Side files of an ONNX model (tensors beyond protobuf's 2 GB). They must lie in the model's own folder. */
import { closeSync, fstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { isAbsolute, join, relative, sep } from 'node:path';
import { ModelError } from '../../graph/graph.ts';
import { type External, printable } from './tensor.ts';

const leaves = (path: string): boolean =>
  path === '' || isAbsolute(path) || /^[A-Za-z]:/.test(path) || path.split(/[\\/]/).includes('..') || path.includes('\0');

/** Reads side files below `folder`; a path (or a link) that leaves it is refused. */
export function folderReader(folder: string | undefined): External {
  return (location, offset, length, where) => {
    const name = printable(location);
    const refuse = (why: string): never => {
      throw new ModelError(`${where}: ${why}`);
    };
    if (folder === undefined) return refuse(`its values are in '${name}', and no folder was given`);
    if (leaves(location)) return refuse(`external data path '${name}' leaves the model's folder`);
    let file: number;
    try {
      const real = realpathSync(join(folder, location));
      const inside = relative(realpathSync(folder), real);
      if (inside === '' || inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside))
        return refuse(`external data path '${name}' leaves the model's folder`);
      file = openSync(real, 'r');
    } catch (e) {
      if (e instanceof ModelError) throw e;
      return refuse(`external data '${name}' cannot be opened (${(e as NodeJS.ErrnoException).code ?? 'error'})`);
    }
    try {
      const stat = fstatSync(file);
      const want = length ?? Math.max(0, stat.size - offset);
      if (!stat.isFile() || offset + want > stat.size)
        return refuse(`external data '${name}' has ${stat.size} bytes, ${offset + want} are needed`);
      const bytes = new Uint8Array(want);
      let got = 0;
      while (got < want) {
        const step = readSync(file, bytes, got, Math.min(want - got, 2 ** 30), offset + got);
        if (step === 0) return refuse(`external data '${name}' is cut short`);
        got += step;
      }
      return bytes;
    } finally {
      closeSync(file);
    }
  };
}
