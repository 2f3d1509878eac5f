/** Sentences, searched by meaning: each is embedded in a private run of its own, and they are compared here. */
import { useRef, useState } from 'preact/hooks';
import { cosine } from '../../src/tasks/encoded.ts';
import { secondsText } from './bytes.ts';
import type { TextModel } from './private.ts';
import { Problem, Progress } from './progress.tsx';
import { query as firstQuery, sentences as firstSentences } from './samples.ts';
import type { Watch } from './watched.ts';
import type { Working } from './working.ts';

export interface SentencesProps {
  readonly model: TextModel;
  readonly work: Working;
  readonly watch: Watch;
}

interface Found {
  readonly query: string;
  readonly ranked: readonly { readonly text: string; readonly score: number }[];
  readonly runs: number;
  readonly seconds: number;
}

const mostSentences = 50;

export function Sentences({ model, work, watch }: SentencesProps) {
  const [text, setText] = useState(firstSentences.join('\n'));
  const [query, setQuery] = useState(firstQuery);
  const [found, setFound] = useState<Found>();
  const [problem, setProblem] = useState<unknown>();
  // What is embedded already is not sent again.
  const known = useRef(new Map<string, Float32Array>());

  const search = async (e: Event): Promise<void> => {
    e.preventDefault();
    setProblem(undefined);
    const sentences = [...new Set(text.split('\n').map((l) => l.trim()))].filter((l) => l !== '').slice(0, mostSentences);
    const asked = query.trim();
    if (sentences.length === 0 || asked === '')
      return setProblem(new Error(asked === '' ? 'Type what to search for.' : 'Type a sentence or two.'));
    const missing = [...new Set([...sentences, asked])].filter((s) => !known.current.has(s));
    try {
      const done = await work.run(async (signal) => {
        let seconds = 0;
        for (const [i, sentence] of missing.entries()) {
          const told: Watch = ({ state, report }) =>
            watch({ report, state: state && { ...state, text: `${i + 1} of ${missing.length}: ${state.text}` } });
          const { embedding, seconds: s } = await model.embed(sentence, { signal, watch: told });
          known.current.set(sentence, embedding);
          seconds += s;
        }
        return seconds;
      });
      if (done === undefined) return;
      const vector = (s: string): Float32Array => known.current.get(s) as Float32Array;
      const ranked = sentences.map((s) => ({ text: s, score: cosine(vector(s), vector(asked)) })).sort((a, b) => b.score - a.score);
      setFound({ query: asked, ranked, runs: missing.length, seconds: done });
    } catch (error) {
      setProblem(error);
    }
  };
  return (
    <form class="task" onSubmit={search}>
      <div class="card">
        <h2>Your sentences</h2>
        <label class="field">
          One a line
          <textarea rows={10} value={text} onInput={(e) => setText(e.currentTarget.value)} spellcheck={false} />
        </label>
        <label class="field">
          Search them for
          <input type="search" value={query} onInput={(e) => setQuery(e.currentTarget.value)} spellcheck={false} />
        </label>
        <p class="go">
          <button type="submit" class="primary" disabled={work.busy}>
            Search privately
          </button>
          <Progress work={work} />
        </p>
      </div>
      <div class="card answer">
        <h2 id="found">By meaning</h2>
        <div role="status" aria-labelledby="found">
          {found ? (
            <p class="note">
              Nearest to “{found.query}”: <strong>{found.ranked[0].text}</strong>{' '}
              {found.runs === 0
                ? 'All were embedded before; nothing was sent.'
                : `${found.runs} private ${found.runs === 1 ? 'run' : 'runs'} in ${secondsText(found.seconds)}.`}
            </p>
          ) : (
            <p class="empty">
              Two servers will turn each sentence into 384 numbers that stand for its meaning, and read none. This page compares them.
            </p>
          )}
        </div>
        {found && (
          <ol class="ranking" aria-label="Sentences, nearest first">
            {found.ranked.map(({ text: t, score }) => (
              <li key={t}>
                <span>{t}</span>
                <span class="track" aria-hidden="true">
                  <span style={{ width: `${100 * Math.max(0, score)}%` }} />
                </span>
                <span class="number">{score.toFixed(3)}</span>
              </li>
            ))}
          </ol>
        )}
        <Problem error={problem} />
      </div>
    </form>
  );
}
