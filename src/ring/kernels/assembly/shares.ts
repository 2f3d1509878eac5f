import { maskOf } from "./pack";

/** y of one vector: see `truncate` in kernels.ts. up = 2^s − 1 for party 0. */
@inline function cut(v: v128, up: v128, inMask: v128, s: i32, offset: v128, outMask: v128): v128 {
  return v128.and(i32x4.add(i32x4.shr_u(v128.and(i32x4.add(v, up), inMask), s), offset), outMask);
}
@inline function cutWord(v: i32, up: i32, inMask: i32, s: i32, offset: i32, outMask: i32): i32 {
  return ((((v + up) & inMask) as u32 >> s) + offset) & outMask;
}

/** n words of x·m + p cut, then r added when there is one. */
function cutRun(dst: usize, x: usize, m: i32, p: i32, r: usize, offset: i32, inMask: i32, s: i32, outMask: i32, n: i32): void {
  const factor = i32x4.splat(m), up = i32x4.splat(p), inside = i32x4.splat(inMask), base = i32x4.splat(offset), outside = i32x4.splat(outMask);
  let i = 0;
  if (r)
    for (; i + 8 <= n; i += 8) {
      const at = 4 * (i as usize);
      const low = cut(i32x4.mul(v128.load(x + at), factor), up, inside, s, i32x4.add(base, v128.load(r + at)), outside);
      const high = cut(i32x4.mul(v128.load(x + at, 16), factor), up, inside, s, i32x4.add(base, v128.load(r + at, 16)), outside);
      v128.store(dst + at, low);
      v128.store(dst + at, high, 16);
    }
  else
    for (; i + 8 <= n; i += 8) {
      const at = 4 * (i as usize);
      const low = cut(i32x4.mul(v128.load(x + at), factor), up, inside, s, base, outside);
      const high = cut(i32x4.mul(v128.load(x + at, 16), factor), up, inside, s, base, outside);
      v128.store(dst + at, low);
      v128.store(dst + at, high, 16);
    }
  for (; i < n; i++) {
    const at = 4 * (i as usize);
    store<i32>(dst + at, cutWord(load<i32>(x + at) * m, p, inMask, s, offset + (r ? load<i32>(r + at) : 0), outMask));
  }
}

export function truncate(
  dst: usize, x: usize, mul: usize, add: usize, channels: i32, inner: i32, r: usize, offset: i32,
  inBits: i32, s: i32, outBits: i32, party: i32, n: i32,
): void {
  const up = party == 0 ? (1 << s) - 1 : 0;
  const inMask = maskOf(inBits), outMask = maskOf(outBits);
  if (!mul && !add) return cutRun(dst, x, 1, up, r, offset, inMask, s, outMask, n);
  if (inner > 1 || channels == 1) {
    let ch = 0;
    for (let i = 0; i < n; i += inner) {
      const m = mul ? load<i32>(mul + 4 * ch) : 1, p = add ? load<i32>(add + 4 * ch) : 0;
      const at = 4 * (i as usize);
      cutRun(dst + at, x + at, m, p + up, r ? r + at : 0, offset, inMask, s, outMask, inner);
      if (++ch == channels) ch = 0;
    }
    return;
  }
  const ups = i32x4.splat(up), inside = i32x4.splat(inMask), base = i32x4.splat(offset), outside = i32x4.splat(outMask);
  for (let row = 0; row < n; row += channels) {
    let c = 0;
    for (; c + 4 <= channels; c += 4) {
      const at = 4 * (c as usize);
      let v = v128.load(x + at);
      if (mul) v = i32x4.mul(v, v128.load(mul + at));
      if (add) v = i32x4.add(v, v128.load(add + at));
      v128.store(dst + at, cut(v, ups, inside, s, r ? i32x4.add(base, v128.load(r + at)) : base, outside));
    }
    for (; c < channels; c++) {
      const at = 4 * (c as usize);
      const v = load<i32>(x + at) * (mul ? load<i32>(mul + at) : 1) + (add ? load<i32>(add + at) : 0);
      store<i32>(dst + at, cutWord(v, up, inMask, s, offset + (r ? load<i32>(r + at) : 0), outMask));
    }
    const bytes = 4 * (channels as usize);
    dst += bytes;
    x += bytes;
    if (r) r += bytes;
  }
}

export function truncate64(dst: usize, x: usize, inBits: i32, s: i32, outBits: i32, party: i32, n: i32): void {
  const up = party == 0 ? ((1 as u64) << s) - 1 : 0;
  const inMask = ((1 as u64) << inBits) - 1;
  const outMask = maskOf(outBits);
  for (let i = 0; i < n; i++) store<i32>(dst + 4 * i, (((load<u64>(x + 8 * i) + up) & inMask) >> s) as i32 & outMask);
}

export function extend(share: usize, rho: usize, c: usize, r: usize, w: usize, mu: usize, bits: i32, party: i32, n: i32): void {
  const mask = i32x4.splat(maskOf(bits)), quarter = i32x4.splat(1 << (bits - 2)), own = i32x4.splat(party == 0 ? -1 : 0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = 4 * (i as usize);
    const X = i32x4.sub(v128.and(v128.load(c + at), mask), quarter);
    const small = i32x4.lt_s(X, quarter);
    const high = i32x4.add(v128.load(w + at), v128.and(small, v128.load(mu + at)));
    const rest = i32x4.sub(i32x4.shl(high, bits), v128.load(r + at));
    v128.store(c + at, X);
    if (rho) v128.store(rho + at, rest);
    if (share) v128.store(share + at, i32x4.add(rest, v128.and(X, own)));
  }
  for (; i < n; i++) {
    const at = 4 * (i as usize);
    const X = (load<i32>(c + at) & maskOf(bits)) - (1 << (bits - 2));
    const high = load<i32>(w + at) + (X < 1 << (bits - 2) ? load<i32>(mu + at) : 0);
    const rest = (high << bits) - load<i32>(r + at);
    store<i32>(c + at, X);
    if (rho) store<i32>(rho + at, rest);
    if (share) store<i32>(share + at, party == 0 ? rest + X : rest);
  }
}

export function dealExtend(r: usize, w: usize, mu: usize, r0: usize, r1: usize, bits: i32, n: i32): void {
  const mask = i32x4.splat(maskOf(bits));
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = 4 * (i as usize);
    const sum = i32x4.add(v128.load(r0 + at), v128.load(r1 + at));
    const low = v128.and(sum, mask);
    v128.store(r + at, low);
    v128.store(w + at, i32x4.shr_u(sum, bits));
    v128.store(mu + at, i32x4.shr_u(low, bits - 1));
  }
  for (; i < n; i++) {
    const at = 4 * (i as usize);
    const sum = load<u32>(r0 + at) + load<u32>(r1 + at);
    store<u32>(r + at, sum & maskOf(bits));
    store<u32>(w + at, sum >> bits);
    store<u32>(mu + at, (sum & maskOf(bits)) >> (bits - 1));
  }
}
