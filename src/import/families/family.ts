import type { Graph, LowBit, Tensor } from '../../graph/graph.ts';

/** What a model is for, which decides how `tasks` reads and shows it. */
export type Task =
  | 'sentence-embedding'
  | 'text-classification'
  | 'token-classification'
  | 'question-answering'
  | 'image-classification'
  | 'image-features'
  | 'text-generation';

/** The client's own part, in the clear on its machine: from public tables before, from the reconstructed outputs after. */
export interface ClientGraph {
  /** What the person's side has (token ids; a normalised image) → the private graph's inputs. */
  readonly before: Graph;
  /** The private graph's outputs → what the task shows. */
  readonly after: Graph;
}

export interface ModelMeta {
  /** As in config.json: 'bert', 'vit', … */
  readonly family: string;
  readonly task: Task;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  /** Longest input in tokens (special ones counted); 0 for images. */
  readonly maxTokens: number;
  /** Class names, in logit order; empty without a head. */
  readonly labels: readonly string[];
  /** The first of position_ids: 0, or the padding id + 1 in RoBERTa's line. */
  readonly firstPosition: number;
  /** [channels, height, width] of an image input. */
  readonly image?: readonly [number, number, number];
}

export interface Pretrained {
  /** The private part. */
  readonly graph: Graph;
  readonly client: ClientGraph;
  readonly meta: ModelMeta;
}

export interface ImportOptions {
  /** Which of the graph's outputs are wanted; what only the others need is left out. All of the model's by default. */
  readonly outputs?: readonly string[];
  /** Decoders: the longest sequence, prompt and all, that positions are made for. What the model takes, or 8192 if that is less. */
  readonly maxTokens?: number;
}

/** A checkpoint's tensors, whatever the format. */
export interface TensorFile {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly dtype: string }>;
  tensor(name: string): Tensor;
  /** The tensor's blocks, where the file holds it in few bits. */
  lowBit?(name: string): Pick<LowBit, 'type' | 'bytes'> | undefined;
  close(): void;
}

/** Files of the model folder: parsed JSON (undefined when absent) and weights. A GGUF file is read as if it were one. */
export interface ModelFolder {
  readonly dir: string;
  readonly gguf?: boolean;
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights: TensorFile;
  json(path: string): unknown;
  /** Weights of a module beside the model ('2_Dense'). */
  moduleWeights(path: string): TensorFile;
}

export type Family = (folder: ModelFolder, options: ImportOptions) => Pretrained;
