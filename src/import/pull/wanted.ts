import { ModelError } from '../../graph/graph.ts';

/** Which files of a repository or package make a model: its description, its tokenizer, and one set of weights. */
const DESCRIPTION =
  /^(config|generation_config|modules|sentence_bert_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|preprocessor_config)\.json$|^chat_template\.jinja$|^\d+_(Pooling|Dense)\/(config\.json|model\.safetensors)$|^LICENSE(\.(md|txt))?$/;

/** In order of preference; the first that matches anything is taken. */
const WEIGHTS: readonly RegExp[] = [
  /^model\.safetensors$/,
  /^model(-\d+-of-\d+\.safetensors|\.safetensors\.index\.json)$/,
  /^[^/]+\.safetensors$/,
  /^(onnx\/)?model\.onnx(_data)?$/,
  /^(onnx\/)?[^/]+\.onnx(_data)?$/,
  /^[^/]+\.gguf$/,
];

export const isWeights = (path: string): boolean => WEIGHTS.some((w) => w.test(path));

/** The chosen paths, sorted; a ModelError when no weights are among them. */
export function wanted(paths: readonly string[], from: string): string[] {
  const weights = WEIGHTS.map((w) => paths.filter((p) => w.test(p))).find((found) => found.length > 0);
  if (!weights)
    throw new ModelError(
      `${from} has no weights this program reads (safetensors, ONNX or GGUF); it has ${paths.slice(0, 12).join(', ') || 'no files'}`,
    );
  return [...new Set([...paths.filter((p) => DESCRIPTION.test(p)), ...weights])].map((p) => safePath(p, from)).sort();
}

/** A path from outside, which must stay below the folder it is written to. */
function safePath(path: string, from: string): string {
  const parts = path.split('/');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (/[\\:\x00-\x1f]/.test(path) || parts.some((p) => p === '' || p === '.' || p === '..'))
    throw new ModelError(`${from} has a file called ${JSON.stringify(path)}`);
  return path;
}
