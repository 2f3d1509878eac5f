/** Elementwise work on words, two vectors a step so that an engine may pair them. */

@inline function sumLanes(v: v128): i32 {
  const half = i32x4.add(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return i32x4.extract_lane(half, 0) + i32x4.extract_lane(half, 1);
}

export function copyWords(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + 4 * i, v128.load(src + 4 * i));
  for (; i < n; i++) store<i32>(dst + 4 * i, load<i32>(src + 4 * i));
}

export function fill(dst: usize, value: i32, n: i32): void {
  const v = i32x4.splat(value);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    v128.store(dst + 4 * i, v);
    v128.store(dst + 4 * i, v, 16);
  }
  for (; i < n; i++) store<i32>(dst + 4 * i, value);
}

export function fill64(dst: usize, low: i32, high: i32, n: i32): void {
  const word = (low as u32 as i64) | ((high as i64) << 32);
  for (let i = 0; i < n; i++) store<i64>(dst + 8 * i, word);
}

export function copy(dst: usize, src: usize, n: i32): void { memory.copy(dst, src, 4 * (n as usize)); }

const Add = 0, Sub = 1, Mul = 2;

@inline function vectorOf(op: i32, a: v128, b: v128): v128 {
  if (op == Add) return i32x4.add(a, b);
  if (op == Sub) return i32x4.sub(a, b);
  return i32x4.mul(a, b);
}
@inline function wordOf(op: i32, a: i32, b: i32): i32 {
  if (op == Add) return a + b;
  if (op == Sub) return a - b;
  return a * b;
}
@inline function each(op: i32, dst: usize, a: usize, b: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const at = 4 * (i as usize);
    const low = vectorOf(op, v128.load(a + at), v128.load(b + at));
    const high = vectorOf(op, v128.load(a + at, 16), v128.load(b + at, 16));
    v128.store(dst + at, low);
    v128.store(dst + at, high, 16);
  }
  for (; i < n; i++) store<i32>(dst + 4 * i, wordOf(op, load<i32>(a + 4 * i), load<i32>(b + 4 * i)));
}

export function add(dst: usize, a: usize, b: usize, n: i32): void { each(Add, dst, a, b, n); }
export function sub(dst: usize, a: usize, b: usize, n: i32): void { each(Sub, dst, a, b, n); }
export function mul(dst: usize, a: usize, b: usize, n: i32): void { each(Mul, dst, a, b, n); }

/** dst = x·m + p over n words with one factor and one term. */
function affineRun(dst: usize, x: usize, m: i32, p: i32, n: i32): void {
  const factor = i32x4.splat(m);
  const term = i32x4.splat(p);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const at = 4 * (i as usize);
    const low = i32x4.add(i32x4.mul(v128.load(x + at), factor), term);
    const high = i32x4.add(i32x4.mul(v128.load(x + at, 16), factor), term);
    v128.store(dst + at, low);
    v128.store(dst + at, high, 16);
  }
  for (; i < n; i++) store<i32>(dst + 4 * i, load<i32>(x + 4 * i) * m + p);
}

export function mulRow(dst: usize, a: usize, b: usize, rows: i32, cols: i32): void {
  const bytes = 4 * (cols as usize);
  for (let r = 0; r < rows; r++) affineRun(dst + r * bytes, a + r * bytes, load<i32>(b + 4 * r), 0, cols);
}

export function bits(dst: usize, src: usize, mask: i32, shift: i32, n: i32): void {
  const masks = i32x4.splat(mask);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const at = 4 * (i as usize);
    const low = i32x4.shr_u(v128.and(v128.load(src + at), masks), shift);
    const high = i32x4.shr_u(v128.and(v128.load(src + at, 16), masks), shift);
    v128.store(dst + at, low);
    v128.store(dst + at, high, 16);
  }
  for (; i < n; i++) store<u32>(dst + 4 * i, ((load<i32>(src + 4 * i) & mask) as u32) >> shift);
}

export function affine(dst: usize, x: usize, mul: usize, add: usize, channels: i32, inner: i32, n: i32): void {
  if (inner > 1 || channels == 1) {
    const bytes = 4 * (inner as usize);
    const runs = n / inner;
    let ch = 0;
    for (let r = 0; r < runs; r++) {
      affineRun(dst, x, mul ? load<i32>(mul + 4 * ch) : 1, add ? load<i32>(add + 4 * ch) : 0, inner);
      dst += bytes;
      x += bytes;
      if (++ch == channels) ch = 0;
    }
    return;
  }
  for (let r = 0; r < n; r += channels) {
    let c = 0;
    for (; c + 4 <= channels; c += 4) {
      const at = 4 * (c as usize);
      let v = v128.load(x + at);
      if (mul) v = i32x4.mul(v, v128.load(mul + at));
      if (add) v = i32x4.add(v, v128.load(add + at));
      v128.store(dst + at, v);
    }
    for (; c < channels; c++) {
      const at = 4 * (c as usize);
      store<i32>(dst + at, load<i32>(x + at) * (mul ? load<i32>(mul + at) : 1) + (add ? load<i32>(add + at) : 0));
    }
    dst += 4 * (channels as usize);
    x += 4 * (channels as usize);
  }
}

function rowSum(x: usize, n: i32): i32 {
  let low = i32x4.splat(0), high = low;
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    low = i32x4.add(low, v128.load(x + 4 * i));
    high = i32x4.add(high, v128.load(x + 4 * i, 16));
  }
  let sum = sumLanes(i32x4.add(low, high));
  for (; i < n; i++) sum += load<i32>(x + 4 * i);
  return sum;
}

export function sumAxis(dst: usize, x: usize, outer: i32, axis: i32, inner: i32): void {
  const row = 4 * (inner as usize);
  for (let o = 0; o < outer; o++) {
    if (inner == 1) store<i32>(dst, rowSum(x, axis));
    else {
      let i = 0;
      for (; i + 8 <= inner; i += 8) {
        let from = x + 4 * i;
        let low = i32x4.splat(0), high = low;
        for (let a = 0; a < axis; a++) {
          low = i32x4.add(low, v128.load(from));
          high = i32x4.add(high, v128.load(from, 16));
          from += row;
        }
        v128.store(dst + 4 * i, low);
        v128.store(dst + 4 * i, high, 16);
      }
      for (; i < inner; i++) {
        let sum = 0;
        for (let a = 0; a < axis; a++) sum += load<i32>(x + a * row + 4 * i);
        store<i32>(dst + 4 * i, sum);
      }
    }
    dst += row;
    x += axis * row;
  }
}

export function rowDot(dst: usize, a: usize, b: usize, rows: i32, cols: i32): void {
  for (let r = 0; r < rows; r++) {
    let low = i32x4.splat(0), high = low;
    let i = 0;
    for (; i + 8 <= cols; i += 8) {
      const at = 4 * (i as usize);
      low = i32x4.add(low, i32x4.mul(v128.load(a + at), v128.load(b + at)));
      high = i32x4.add(high, i32x4.mul(v128.load(a + at, 16), v128.load(b + at, 16)));
    }
    let sum = sumLanes(i32x4.add(low, high));
    for (; i < cols; i++) sum += load<i32>(a + 4 * i) * load<i32>(b + 4 * i);
    store<i32>(dst + 4 * r, sum);
    a += 4 * (cols as usize);
    b += 4 * (cols as usize);
  }
}

export function centre(dst: usize, x: usize, factor: i32, rows: i32, cols: i32): void {
  const bytes = 4 * (cols as usize);
  for (let r = 0; r < rows; r++) affineRun(dst + r * bytes, x + r * bytes, factor, -rowSum(x + r * bytes, cols), cols);
}

/** dst rows of src columns: dst[k·t2 + l] = src[k + l·s3], by squares of 4 × 4. Strides in bytes. */
function transpose(dst: usize, src: usize, d2: i32, d3: i32, s3: usize, t2: usize): void {
  for (let k = 0; k < d2; k += 4) {
    const tall = min(4, d2 - k);
    let l = 0;
    if (tall == 4)
      for (; l + 4 <= d3; l += 4) {
        const from = src + 4 * k + l * s3;
        const a = v128.load(from), b = v128.load(from + s3), c = v128.load(from + 2 * s3), d = v128.load(from + 3 * s3);
        const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
        const AB = v128.shuffle<i32>(a, b, 2, 6, 3, 7), CD = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
        const to = dst + k * t2 + 4 * l;
        v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
        v128.store(to + t2, v128.shuffle<i64>(ab, cd, 1, 3));
        v128.store(to + 2 * t2, v128.shuffle<i64>(AB, CD, 0, 2));
        v128.store(to + 3 * t2, v128.shuffle<i64>(AB, CD, 1, 3));
      }
    for (; l < d3; l++) for (let i = 0; i < tall; i++) store<i32>(dst + (k + i) * t2 + 4 * l, load<i32>(src + 4 * (k + i) + l * s3));
  }
}

export function copyBox(
  dst: usize, src: usize, d0: i32, d1: i32, d2: i32, d3: i32,
  s0: i32, s1: i32, s2: i32, s3: i32, t0: i32, t1: i32, t2: i32, t3: i32,
): void {
  for (let i = 0; i < d0; i++)
    for (let j = 0; j < d1; j++) {
      const from = src + 4 * (i * s0 + j * s1);
      const to = dst + 4 * (i * t0 + j * t1);
      if (s3 == 1 && t3 == 1) for (let k = 0; k < d2; k++) copyWords(to + 4 * (k * t2), from + 4 * (k * s2), d3);
      else if (s2 == 1 && t3 == 1) transpose(to, from, d2, d3, 4 * s3, 4 * t2);
      else if (s3 == 1 && t2 == 1) transpose(to, from, d3, d2, 4 * s2, 4 * t3);
      else for (let k = 0; k < d2; k++) for (let l = 0; l < d3; l++) store<i32>(to + 4 * (k * t2 + l * t3), load<i32>(from + 4 * (k * s2 + l * s3)));
    }
}

export function im2col(
  dst: usize, x: usize, C: i32, H: i32, W: i32, KH: i32, KW: i32, strideY: i32, strideX: i32,
  padTop: i32, padLeft: i32, dilationY: i32, dilationX: i32, OH: i32, OW: i32,
): void {
  const plane = 4 * H * W, down = 4 * dilationY * W;
  for (let oy = 0; oy < OH; oy++)
    for (let ox = 0; ox < OW; ox++) {
      const left = ox * strideX - padLeft, top = oy * strideY - padTop;
      const inside = dilationX == 1 && left >= 0 && left + KW <= W;
      let corner = x + 4 * (top * W + left);
      for (let c = 0; c < C; c++) {
        let line = corner;
        for (let ky = 0, y = top; ky < KH; ky++) {
          if (y < 0 || y >= H) for (let kx = 0; kx < KW; kx++) store<i32>(dst + 4 * kx, 0);
          else if (inside && KW == 3) {
            // The commonest kernel; a loop over three words costs more than they do.
            store<i64>(dst, load<i64>(line));
            store<i32>(dst, load<i32>(line, 8), 8);
          } else if (inside) copyWords(dst, line, KW);
          else
            for (let kx = 0; kx < KW; kx++) {
              const at = left + kx * dilationX;
              store<i32>(dst + 4 * kx, at >= 0 && at < W ? load<i32>(line + 4 * kx * dilationX) : 0);
            }
          dst += 4 * KW;
          line += down;
          y += dilationY;
        }
        corner += plane;
      }
    }
}
