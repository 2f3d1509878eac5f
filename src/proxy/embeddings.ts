/** POST /v1/embeddings */
import { bad } from './errors.ts';
import type { EmbeddingModel } from './models.ts';
import type { EmbeddingRequest } from './schema.ts';

/** Throws ApiError, and what the model throws. */
export async function embeddings(model: EmbeddingModel, r: EmbeddingRequest, signal: AbortSignal): Promise<object> {
  const texts = [r.input].flat();
  const counts = texts.map((t) => model.count(t));
  const long = counts.findIndex((n) => n > model.maxTokens);
  if (long >= 0)
    throw bad(`'input': text ${long} takes ${counts[long]} tokens; the model takes ${model.maxTokens}`, 'input', 'context_length_exceeded');
  const vectors = await model.embed(texts, signal);
  const width = vectors[0].length;
  if (r.dimensions != null && r.dimensions !== width)
    throw bad(`'dimensions': this model's vectors have ${width} numbers, and cannot be cut`, 'dimensions');
  const tokens = counts.reduce((a, b) => a + b, 0);
  const data = vectors.map((v, index) => ({
    object: 'embedding',
    index,
    embedding: r.encoding_format === 'base64' ? base64(v) : Array.from(v),
  }));
  return { object: 'list', data, model: r.model, usage: { prompt_tokens: tokens, total_tokens: tokens } };
}

/** 32-bit floats, little-endian. */
function base64(v: Float32Array): string {
  const bytes = Buffer.alloc(4 * v.length);
  for (const [i, x] of v.entries()) bytes.writeFloatLE(x, 4 * i);
  return bytes.toString('base64');
}
