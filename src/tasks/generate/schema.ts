/**
 * Output that follows a JSON schema: before each token, which tokens may come. The grammar engine is XGrammar (mlc-ai/xgrammar), compiled to
 * WebAssembly; it is loaded when a schema is first asked for.
 */
import { ModelError } from '../../graph/graph.ts';
import type { Constraint } from './generate.ts';

type XGrammar = typeof import('@mlc-ai/web-xgrammar');
let loaded: Promise<XGrammar> | undefined;

/**
 * The package is a script that sets a global. In Node it asks for `require`, which modules do not have, unless there is a `location`; so it
 * gets one until it has started.
 */
async function load(): Promise<XGrammar> {
  const scope = globalThis as { location?: unknown; xgrammar?: XGrammar };
  const bare = scope.location === undefined;
  if (bare) scope.location = { href: import.meta.url };
  try {
    const module_ = await import('@mlc-ai/web-xgrammar');
    const grammar = (module_.GrammarCompiler ? module_ : scope.xgrammar) as XGrammar;
    await grammar.TokenizerInfo.createTokenizerInfo(['a'], 'raw');
    return grammar;
  } finally {
    if (bare) delete scope.location;
  }
}

/** Between two parts of a value: room to indent, none for a model that falls into blanks and never comes out. */
const mostWhitespace = 16;

export interface Vocabulary {
  /** Every token as the vocabulary spells it (TextTokenizer.vocabulary). */
  readonly tokens: readonly string[];
  /** tokenizer.json, which says how a token's spelling stands for bytes. */
  readonly tokenizer: object;
  /** As many logits as there are; more than tokens in padded models. */
  readonly size: number;
  readonly eos: readonly number[];
}

export interface SchemaConstraint extends Constraint {
  /** The value is complete: only an end token may come. */
  readonly done: boolean;
  /** Frees the engine's memory. */
  dispose(): void;
}

/** 'any': any JSON. Throws ModelError when the engine does not take the schema. */
export async function schemaConstraint(schema: object | 'any', vocabulary: Vocabulary): Promise<SchemaConstraint> {
  loaded ??= load();
  const { TokenizerInfo, GrammarCompiler, GrammarMatcher } = await loaded;
  const { decoder, normalizer } = vocabulary.tokenizer as { decoder?: unknown; normalizer?: unknown };
  const text = JSON.stringify([decoder, normalizer]);
  const kind = text.includes('"ByteFallback"') ? 'byte_fallback' : text.includes('"ByteLevel"') ? 'byte_level' : 'raw';
  const space = kind === 'byte_fallback' && text.includes('"Prepend"');
  const info = await TokenizerInfo.createTokenizerInfo([...vocabulary.tokens], kind, space, vocabulary.size, [...vocabulary.eos]);
  const compiler = await GrammarCompiler.createGrammarCompiler(info);
  const compiled = await (schema === 'any'
    ? compiler.compileBuiltinJSONGrammar()
    : compiler.compileJSONSchema(JSON.stringify(schema), true, undefined, undefined, true, mostWhitespace)
  ).catch((e: unknown) => {
    throw new ModelError(`the JSON schema is not supported: ${(e instanceof Error ? e.message : String(e)).split('\n')[0]}`);
  });
  const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
  return {
    get done() {
      return matcher.isTerminated();
    },
    next: () => matcher.getNextTokenBitmask(),
    accept(id) {
      if (!matcher.acceptToken(id)) throw new RangeError(`token ${id} does not follow the schema`);
    },
    dispose() {
      for (const part of [matcher, compiled, compiler, info]) part.dispose();
    },
  };
}
