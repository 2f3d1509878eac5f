/** Bytes as people read them. */
export function fromBase64(text: string): Uint8Array {
  const raw = atob(text);
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
}

/** Bits a byte carries, as its frequencies say: 8 for noise, less for anything with a pattern. */
export function entropy(bytes: Uint8Array): number {
  const counts = new Float64Array(256);
  for (const b of bytes) counts[b]++;
  return counts.reduce((h, n) => (n === 0 ? h : h - (n / bytes.length) * Math.log2(n / bytes.length)), 0);
}

/** What uniform bytes show on average when there are only `n` of them: few of them look less even than they are (Miller and Madow). */
export const entropyOfNoise = (n: number): number => Math.min(8 - 255 / (2 * n * Math.LN2), Math.log2(n));

function units(n: number, names: readonly string[]): string {
  let i = 0;
  while (n >= 999.5 && i < names.length - 1) {
    n /= 1000;
    i++;
  }
  return `${i === 0 ? Math.round(n) : n.toPrecision(3)} ${names[i]}`;
}
export const bytesText = (n: number): string => units(n, ['bytes', 'kB', 'MB', 'GB']);
export const secondsText = (s: number): string => (s < 0.9995 ? `${Math.round(1000 * s)} ms` : `${s.toPrecision(3)} s`);
export const percent = (v: number): string => `${(100 * v).toFixed(1)} %`;
