/**
 * The picture as the model gets it, pixel for pixel: filled from a sample or a file, drawn upon by pointer or by keys.
 *
 * Keys: arrows move a pen, Space draws a dot under it, with Shift arrows draw a line, Delete clears.
 */
import { useEffect, useRef, useState } from 'preact/hooks';

interface Point {
  readonly x: number;
  readonly y: number;
}

export interface CanvasProps {
  readonly width: number;
  readonly height: number;
  /** Drawn whenever it changes; white on black is what one draws oneself. */
  readonly content: ImageData;
  /** After a stroke, a dot, a clearing. */
  readonly onDrawn: (image: ImageData) => void;
}

export function Canvas({ width, height, content, onDrawn }: CanvasProps) {
  const ref = useRef<HTMLCanvasElement>(null);
  const last = useRef<Point | undefined>(undefined);
  const [pen, setPen] = useState<Point>();
  const step = Math.max(1, Math.round(width / 28));
  const context = (): CanvasRenderingContext2D => ref.current?.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;

  useEffect(() => context().putImageData(content, 0, 0), [content]);

  const done = (): void => onDrawn(context().getImageData(0, 0, width, height));
  const line = (from: Point, to: Point): void => {
    const c = context();
    c.strokeStyle = '#fff';
    c.lineWidth = width / 14;
    c.lineCap = c.lineJoin = 'round';
    c.beginPath();
    c.moveTo(from.x, from.y);
    // A line of no length is not drawn, not even its caps.
    c.lineTo(to.x + 0.01, to.y);
    c.stroke();
  };
  const at = (e: PointerEvent): Point => {
    const box = (e.currentTarget as HTMLElement).getBoundingClientRect();
    return { x: ((e.clientX - box.left) / box.width) * width, y: ((e.clientY - box.top) / box.height) * height };
  };
  const onPointerDown = (e: PointerEvent): void => {
    if (e.button !== 0) return;
    (e.currentTarget as HTMLElement).setPointerCapture(e.pointerId);
    last.current = at(e);
    line(last.current, last.current);
  };
  const onPointerMove = (e: PointerEvent): void => {
    if (!last.current) return;
    const to = at(e);
    line(last.current, to);
    last.current = to;
  };
  const onPointerUp = (): void => {
    if (!last.current) return;
    last.current = undefined;
    done();
  };
  const clear = (): void => {
    const c = context();
    c.fillStyle = '#000';
    c.fillRect(0, 0, width, height);
    done();
  };
  const onKeyDown = (e: KeyboardEvent): void => {
    const here = pen ?? { x: width / 2, y: height / 2 };
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key];
    if (move) {
      const to = { x: clamp(here.x + move[0], width), y: clamp(here.y + move[1], height) };
      if (e.shiftKey) {
        line(here, to);
        done();
      }
      setPen(to);
    } else if (e.key === ' ') {
      line(here, here);
      setPen(here);
      done();
    } else if (e.key === 'Delete') clear();
    else return;
    e.preventDefault();
  };
  return (
    <div class="drawing">
      {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: keys draw here, so a screen reader must hand them on */}
      <canvas
        ref={ref}
        width={width}
        height={height}
        tabIndex={0}
        role="application"
        aria-roledescription="drawing area"
        aria-label={`Your picture, ${width} by ${height}`}
        aria-describedby="drawing-keys"
        onPointerDown={onPointerDown}
        onPointerMove={onPointerMove}
        onPointerUp={onPointerUp}
        onPointerCancel={onPointerUp}
        onKeyDown={onKeyDown}
        onFocus={() => setPen((p) => p ?? { x: width / 2, y: height / 2 })}
        onBlur={() => setPen(undefined)}
      />
      {pen && <span class="pen" aria-hidden="true" style={{ left: `${(100 * pen.x) / width}%`, top: `${(100 * pen.y) / height}%` }} />}
      <p class="hidden" id="drawing-keys">
        Arrow keys move the pen, Space draws a dot, Shift and arrow keys draw a line, Delete clears.
      </p>
    </div>
  );
}

const clamp = (v: number, most: number): number => Math.min(most - 0.5, Math.max(0.5, v));
