/** What travelled in a run, over time or round by round. The figures beside it say the same in words. */
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Seen } from '../../src/server/demo.ts';
import { bytesText, secondsText } from './bytes.ts';

type View = 'time' | 'round';
const height = 220;

/** Bytes that P1 received from each side, added up over time. */
function overTime({ arrivals }: Seen): uPlot.AlignedData {
  const events = [...arrivals.peer.map(([t, n]) => [t, n, 0] as const), ...arrivals.dealer.map(([t, n]) => [t, 0, n] as const)];
  const [time, peer, dealer] = [[0], [0], [0]];
  for (const [t, p, d] of events.sort((a, b) => a[0] - b[0])) {
    time.push(t);
    peer.push(peer[peer.length - 1] + p);
    dealer.push(dealer[dealer.length - 1] + d);
  }
  return [time, peer, dealer];
}

/** Bytes of a round's message, one way. */
const byRound = ({ rounds }: Seen): uPlot.AlignedData => [rounds.map((_, i) => i + 1), rounds.map(([, n]) => n)];

export function Timeline({ seen }: { seen: Seen }) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState<View>('time');
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    let plot: uPlot | undefined;
    const draw = (): void => {
      plot?.destroy();
      plot = new uPlot(options(view, element), view === 'time' ? overTime(seen) : byRound(seen), element);
    };
    draw();
    const sized = new ResizeObserver(() => plot?.setSize({ width: element.clientWidth, height }));
    sized.observe(element);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', draw);
    return () => {
      sized.disconnect();
      scheme.removeEventListener('change', draw);
      plot?.destroy();
    };
  }, [seen, view]);
  const bytes = seen.received.peer.bytes;
  const last = Math.max(0, ...seen.rounds.map(([t]) => t), ...seen.arrivals.dealer.map(([t]) => t));
  const summary = `${seen.rounds.length} rounds in ${secondsText(last / 1000)}, ${bytesText(bytes)} to P1 from P0, ${bytesText(seen.received.dealer.bytes)} from the dealer.`;
  return (
    <div>
      <fieldset class="switch">
        <legend class="hidden">What the chart shows</legend>
        {(['time', 'round'] as const).map((v) => (
          <label key={v}>
            <input type="radio" name="view" checked={view === v} onChange={() => setView(v)} />
            <span>{v === 'time' ? 'over time' : 'round by round'}</span>
          </label>
        ))}
      </fieldset>
      <div ref={box} class="chart" role="img" aria-label={`Chart: ${summary}`} />
      <p class="note">{summary} A round is one message each way between the parties; what each message may be is noise too.</p>
    </div>
  );
}

function options(view: View, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  const font = `12px ${style.fontFamily}`;
  const axis: uPlot.Axis = {
    stroke: color('--soft'),
    font,
    grid: { stroke: color('--line'), width: 1 },
    ticks: { stroke: color('--line'), width: 1 },
  };
  const y: uPlot.Axis = { ...axis, size: 68, values: (_, ticks) => ticks.map((v) => (v === 0 ? '0' : bytesText(v))) };
  const steps = uPlot.paths.stepped?.({ align: 1 });
  const bars = uPlot.paths.bars?.({ size: [0.7, 12, 1] });
  const line = (label: string, name: string, more: Partial<uPlot.Series>): uPlot.Series => ({
    label,
    stroke: color(name),
    width: 2,
    points: { show: false },
    ...more,
  });
  return {
    width: element.clientWidth,
    height,
    scales: { x: { time: false } },
    axes: view === 'time' ? [{ ...axis, values: (_, ticks) => ticks.map((v) => `${v} ms`) }, y] : [axis, y],
    series:
      view === 'time'
        ? [{}, line('from P0', '--p0', { paths: steps }), line('from the dealer', '--dealer', { paths: steps })]
        : [{}, line('one way', '--p0', { paths: bars, fill: color('--p0'), width: 0 })],
    cursor: { show: false },
    legend: { live: false },
  };
}
