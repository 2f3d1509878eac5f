/** A picture, classified. */
import { useState } from 'preact/hooks';
import { percent, secondsText } from './bytes.ts';
import { Canvas } from './canvas.tsx';
import { asSeen, blank, fromFile, fromImageData, toImageData } from './pixels.ts';
import type { Classified, PictureModel } from './private.ts';
import { Problem, Progress } from './progress.tsx';
import { fashion } from './samples.ts';
import type { Watch } from './watched.ts';
import type { Working } from './working.ts';

export interface PictureProps {
  readonly model: PictureModel;
  readonly work: Working;
  readonly watch: Watch;
}

export function Picture({ model, work, watch }: PictureProps) {
  const { spec } = model;
  const offered = spec.channels === 1 && spec.width === 28 && spec.height === 28 ? fashion : [];
  const [sample, setSample] = useState(offered.length > 0 ? offered.length - 1 : -1);
  const [image, setImage] = useState(() => (offered.length > 0 ? sampleImage(offered.length - 1) : blank(spec.width, spec.height)));
  const [shown, setShown] = useState(image);
  const [answer, setAnswer] = useState<Classified>();
  const [problem, setProblem] = useState<unknown>();

  // An answer belongs to the picture it was given for: a new picture ends the run of the old one.
  const take = (next: ImageData, from: number): void => {
    work.stop();
    setSample(from);
    setImage(next);
    setAnswer(undefined);
  };
  const show = (next: ImageData, from: number): void => {
    setShown(next);
    take(next, from);
  };
  const open = async (file: File | undefined): Promise<void> => {
    if (!file) return;
    try {
      show(await fromFile(file, spec), -1);
      setProblem(undefined);
    } catch (e) {
      setProblem(e);
    }
  };
  const classify = async (e: Event): Promise<void> => {
    e.preventDefault();
    setProblem(undefined);
    setAnswer(undefined);
    try {
      const pixels = asSeen(fromImageData(image, spec.channels), spec);
      setShown(toImageData(pixels));
      setAnswer(await work.run((signal) => model.classify(pixels, { signal, watch })));
    } catch (error) {
      setProblem(error);
    }
  };
  return (
    <form class="task" onSubmit={classify}>
      <div class="card">
        <h2>Your picture</h2>
        <div class="choose">
          <Canvas width={spec.width} height={spec.height} content={shown} onDrawn={(drawn) => take(drawn, -1)} />
          <div class="sources">
            {offered.length > 0 && (
              <fieldset class="samples">
                <legend>Samples</legend>
                {offered.map(({ label }, i) => (
                  <label key={label} title={label}>
                    <input type="radio" name="sample" aria-label={label} checked={sample === i} onChange={() => show(sampleImage(i), i)} />
                    <Thumbnail image={sampleImage(i)} />
                  </label>
                ))}
              </fieldset>
            )}
            <p class="note">Draw on the picture itself, with pointer or keys: arrows move, Space dots, Shift and arrows draw.</p>
          </div>
        </div>
        <p class="go">
          <button type="submit" class="primary" disabled={work.busy}>
            Classify privately
          </button>
          <label class="button quiet">
            open a file
            <input class="hidden" type="file" accept="image/*" onChange={(e) => open(e.currentTarget.files?.[0])} />
          </label>
          <button type="button" class="quiet" onClick={() => show(blank(spec.width, spec.height), -1)}>
            clear and draw
          </button>
          <Progress work={work} />
        </p>
      </div>
      <div class="card answer">
        <h2 id="answer">The answer</h2>
        <div role="status" aria-labelledby="answer">
          {answer ? (
            <>
              <p class="verdict">
                <strong>{answer.classes[0].label}</strong> {percent(answer.classes[0].score)}
              </p>
              <p class="note">in {secondsText(answer.seconds)}. Only this page can read it.</p>
            </>
          ) : (
            <p class="empty">
              Two servers will classify the picture without seeing it. Each returns a share of the answer; this page adds them up.
            </p>
          )}
        </div>
        {answer && <Classes classes={answer.classes} />}
        <Problem error={problem} />
      </div>
    </form>
  );
}

function Classes({ classes }: { classes: Classified['classes'] }) {
  return (
    <ol class="bars" aria-label="Likeliest classes">
      {classes.map(({ label, score }) => (
        <li key={label}>
          <span class="name">{label}</span>
          <span class="track" aria-hidden="true">
            <span style={{ width: `${100 * score}%` }} />
          </span>
          <span class="number">{percent(score)}</span>
        </li>
      ))}
    </ol>
  );
}

const sampleImage = (i: number): ImageData => toImageData({ width: 28, height: 28, channels: 1, data: fashion[i].pixels });

function Thumbnail({ image }: { image: ImageData }) {
  return (
    <canvas
      width={image.width}
      height={image.height}
      ref={(c) => {
        c?.getContext('2d')?.putImageData(image, 0, 0);
      }}
    />
  );
}
