/**
 * Random numbers for sampling: Chris Doty-Humphrey's sfc32. They decide which word comes next, and nothing that must stay secret: shares
 * and masks have their own generator.
 */
export type Random = () => number;

/** Numbers in [0, 1) of 53 bits; the same ones for the same seed. Without a seed, from the system's randomness. */
export function randomOf(seed?: number): Random {
  const s = new Uint32Array(4);
  if (seed === undefined) crypto.getRandomValues(s);
  else {
    if (!Number.isSafeInteger(seed)) throw new RangeError(`seed ${seed}: a whole number is expected`);
    const v = BigInt.asUintN(64, BigInt(seed));
    s.set([Number(v & 0xffffffffn), Number(v >> 32n), 0x9e3779b9, 1]);
  }
  const next = (): number => {
    const t = (s[0] + s[1] + s[3]) >>> 0;
    s[3]++;
    s[0] = s[1] ^ (s[1] >>> 9);
    s[1] = s[2] + (s[2] << 3);
    s[2] = ((s[2] << 21) | (s[2] >>> 11)) + t;
    return t;
  };
  for (let i = 0; i < 15; i++) next();
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) * 2 ** -53;
}
