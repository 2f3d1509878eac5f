/** Products of opened wires. A mask of ones (small) marks the elements whose wire is below 2^(b−2): there the extension's carry counts. */

const Plain = 0, LeftSmall = 1, RightSmall = 2, BothSmall = 3;

@inline function mulRun(
  kind: i32, z: usize, X: usize, rho: usize, xBits: i32, Y: usize, sigma: usize, yBits: i32,
  rs: usize, muS: usize, nuR: usize, muNu: usize, n: i32, rowY: i32, party: i32,
): void {
  const own = i32x4.splat(party == 0 ? -1 : 0);
  const quarterX = i32x4.splat(1 << (xBits - 2)), quarterY = i32x4.splat(1 << (yBits - 2));
  const both = xBits + yBits < 32;
  const Y0 = rowY ? v128.load32_splat(Y) : own, sigma0 = rowY ? v128.load32_splat(sigma) : own;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = 4 * (i as usize);
    const x = v128.load(X + at);
    const y = rowY ? Y0 : v128.load(Y + at);
    const s = rowY ? sigma0 : v128.load(sigma + at);
    const wires = i32x4.add(i32x4.mul(x, i32x4.add(s, v128.and(y, own))), i32x4.mul(y, v128.load(rho + at)));
    let product = v128.load(rs + at);
    if (kind == LeftSmall) {
      product = i32x4.sub(v128.and(i32x4.lt_s(x, quarterX), i32x4.shl(v128.load(muS + at), xBits)), product);
    } else if (kind == RightSmall) {
      product = i32x4.sub(v128.and(i32x4.lt_s(y, quarterY), i32x4.shl(v128.load(nuR + at), yBits)), product);
    } else if (kind == BothSmall) {
      const g = i32x4.lt_s(x, quarterX), h = i32x4.lt_s(y, quarterY);
      product = i32x4.sub(product, v128.and(g, i32x4.shl(v128.load(muS + at), xBits)));
      product = i32x4.sub(product, v128.and(h, i32x4.shl(v128.load(nuR + at), yBits)));
      if (both) product = i32x4.add(product, v128.and(v128.and(g, h), i32x4.shl(v128.load(muNu + at), xBits + yBits)));
    }
    v128.store(z + at, i32x4.add(wires, product));
  }
  for (; i < n; i++) {
    const at = 4 * (i as usize);
    const j = rowY ? 0 : at;
    const x = load<i32>(X + at), y = load<i32>(Y + j);
    const wires = x * (load<i32>(sigma + j) + (party == 0 ? y : 0)) + y * load<i32>(rho + at);
    let product = load<i32>(rs + at);
    const g = x < 1 << (xBits - 2), h = y < 1 << (yBits - 2);
    if (kind == LeftSmall) product = (g ? load<i32>(muS + at) << xBits : 0) - product;
    else if (kind == RightSmall) product = (h ? load<i32>(nuR + at) << yBits : 0) - product;
    else if (kind == BothSmall) {
      if (g) product -= load<i32>(muS + at) << xBits;
      if (h) product -= load<i32>(nuR + at) << yBits;
      if (both && g && h) product += load<i32>(muNu + at) << (xBits + yBits);
    }
    store<i32>(z + at, wires + product);
  }
}

export function mulWires(
  z: usize, X: usize, rho: usize, xBits: i32, Y: usize, sigma: usize, yBits: i32, rs: usize, muS: usize, nuR: usize, muNu: usize,
  rows: i32, cols: i32, rowY: i32, party: i32,
): void {
  // Without a value of y per row the whole is one run.
  const n = rowY ? cols : rows * cols;
  const runs = rowY ? rows : 1;
  for (let r = 0; r < runs; r++) {
    const at = 4 * (r * n as usize);
    const y = Y + 4 * r, s = sigma + 4 * r;
    if (xBits == 32 && yBits == 32) mulRun(Plain, z + at, X + at, rho + at, 32, y, s, 32, rs + at, 0, 0, 0, n, rowY, party);
    else if (yBits == 32) mulRun(LeftSmall, z + at, X + at, rho + at, xBits, y, s, 32, rs + at, muS + at, 0, 0, n, rowY, party);
    else if (xBits == 32) mulRun(RightSmall, z + at, X + at, rho + at, 32, y, s, yBits, rs + at, 0, nuR + at, 0, n, rowY, party);
    else mulRun(BothSmall, z + at, X + at, rho + at, xBits, y, s, yBits, rs + at, muS + at, nuR + at, muNu + at, n, rowY, party);
  }
}

/** A square without its r2. */
@inline function squareVector(X: usize, rho: usize, bits: i32, muR: usize, mu: usize, own: v128, at: usize): v128 {
  const x = v128.load(X + at);
  const half = v128.load(rho + at);
  let z = i32x4.mul(x, i32x4.add(i32x4.add(half, half), v128.and(x, own)));
  if (bits < 32) {
    const small = i32x4.lt_s(x, i32x4.splat(1 << (bits - 2)));
    z = i32x4.sub(z, v128.and(small, i32x4.shl(v128.load(muR + at), bits + 1)));
    if (2 * bits < 32) z = i32x4.add(z, v128.and(small, i32x4.shl(v128.load(mu + at), 2 * bits)));
  }
  return z;
}
@inline function squareWord(X: usize, rho: usize, bits: i32, muR: usize, mu: usize, party: i32, at: usize): i32 {
  const x = load<i32>(X + at);
  let z = x * (2 * load<i32>(rho + at) + (party == 0 ? x : 0));
  if (bits < 32 && x < 1 << (bits - 2)) {
    z -= load<i32>(muR + at) << (bits + 1);
    if (2 * bits < 32) z += load<i32>(mu + at) << (2 * bits);
  }
  return z;
}

export function squareWire(z: usize, X: usize, rho: usize, bits: i32, r2: usize, muR: usize, mu: usize, party: i32, n: i32): void {
  const own = i32x4.splat(party == 0 ? -1 : 0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = 4 * (i as usize);
    v128.store(z + at, i32x4.add(v128.load(r2 + at), squareVector(X, rho, bits, muR, mu, own, at)));
  }
  for (; i < n; i++) {
    const at = 4 * (i as usize);
    store<i32>(z + at, load<i32>(r2 + at) + squareWord(X, rho, bits, muR, mu, party, at));
  }
}

export function rowSquares(
  z: usize, X: usize, rho: usize, bits: i32, r2: usize, muR: usize, mu: usize, party: i32, rows: i32, cols: i32,
): void {
  const own = i32x4.splat(party == 0 ? -1 : 0);
  for (let r = 0; r < rows; r++) {
    const first = r * cols;
    let sums = i32x4.splat(0);
    let i = 0;
    for (; i + 4 <= cols; i += 4) sums = i32x4.add(sums, squareVector(X, rho, bits, muR, mu, own, 4 * ((first + i) as usize)));
    let sum = load<i32>(r2 + 4 * r);
    sum += i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) + i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
    for (; i < cols; i++) sum += squareWord(X, rho, bits, muR, mu, party, 4 * ((first + i) as usize));
    store<i32>(z + 4 * r, sum);
  }
}
