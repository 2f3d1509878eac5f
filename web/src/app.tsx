import { useEffect, useMemo, useState } from 'preact/hooks';
import { Picture } from './picture.tsx';
import { type Models, openModels } from './private.ts';
import { Problem } from './progress.tsx';
import { type Report, Servers, Traffic } from './report.tsx';
import { Sentences } from './sentences.tsx';
import { type Tab, Tabs } from './tabs.tsx';
import type { Watching } from './watched.ts';
import { Who } from './who.tsx';
import { useWorking } from './working.ts';

export function App({ parties }: { parties: readonly [string, string] }) {
  const [models, setModels] = useState<Models>();
  const [problem, setProblem] = useState<unknown>();
  const [chosen, setChosen] = useState('picture');
  const [reports, setReports] = useState<Readonly<Record<string, Report>>>({});
  const work = useWorking();
  useEffect(() => {
    openModels(parties).then(setModels, setProblem);
  }, [parties]);
  const { tell } = work;
  const watched = useMemo(() => {
    const of = (task: string) => (w: Watching) => {
      if (w.state) tell(w.state);
      if (w.report) setReports((r) => ({ ...r, [task]: w.report as Report }));
    };
    return { picture: of('picture'), text: of('text') };
  }, [tell]);
  const tabs: Tab[] = [];
  if (models?.picture)
    tabs.push({ id: 'picture', name: 'A picture', panel: <Picture model={models.picture} work={work} watch={watched.picture} /> });
  if (models?.text) tabs.push({ id: 'text', name: 'Sentences', panel: <Sentences model={models.text} work={work} watch={watched.text} /> });
  const task = tabs.some((t) => t.id === chosen) ? chosen : (tabs[0]?.id ?? 'picture');
  const report = reports[task];
  const weights = report?.weights ?? (task === 'text' ? models?.text : models?.picture)?.weights ?? 'public';
  return (
    <>
      <header>
        <h1>
          <img src="./rose.svg" alt="" width="36" height="36" /> Subrosa
        </h1>
        <p>A neural network reads what you give it, on two servers that see none of it.</p>
      </header>
      <main>
        {models && tabs.length === 0 && (
          <p class="card">The servers hold no model that this page can show: image classification, sentence embedding.</p>
        )}
        <Problem error={problem} />
        <Tabs tabs={tabs} chosen={task} onChoose={setChosen} />
        {tabs.length > 0 && (
          <>
            <Servers report={report} />
            <Traffic report={report} />
            <Who thing={task === 'text' ? 'sentence' : 'picture'} weights={weights} />
          </>
        )}
      </main>
      <footer>
        <p>
          P0 at {parties[0]}, P1 at {parties[1]}. Your browser lets this page speak to these two and nobody else.
          {report && (
            <>
              {' '}
              Session <code data-session={report.session}>{report.session.slice(0, 8)}…</code>
            </>
          )}
        </p>
      </footer>
    </>
  );
}
