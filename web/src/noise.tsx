/** Bytes as a picture, a grey pixel each. */
import { useEffect, useRef } from 'preact/hooks';

export interface NoiseProps {
  readonly bytes: Uint8Array;
  readonly width: number;
  /** Shown from the start, empty, so that nothing jumps when bytes come. */
  readonly height: number;
  /** For those who do not see it. */
  readonly label: string;
}

export function Noise({ bytes, width, height, label }: NoiseProps) {
  const ref = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = ref.current?.getContext('2d');
    if (!context) return;
    const image = new ImageData(width, height);
    for (let i = 0; i < Math.min(bytes.length, width * height); i++) image.data.fill(bytes[i], 4 * i, 4 * i + 3)[4 * i + 3] = 255;
    context.putImageData(image, 0, 0);
  }, [bytes, width, height]);
  return <canvas ref={ref} class="noise" width={width} height={height} role="img" aria-label={label} />;
}
