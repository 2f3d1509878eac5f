import { createCipheriv, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { keystream } from './chacha20.ts';

const hex = (words: Uint32Array): string => Buffer.from(words.buffer, words.byteOffset, words.byteLength).toString('hex');
const key = Uint8Array.from({ length: 32 }, (_, i) => i);

test('RFC 8439, 2.3.2: the block function', () => {
  const block = new Uint32Array(16);
  keystream(key, block, 1, [0x09000000, 0x4a000000, 0]);
  expect(hex(block)).toBe(
    '10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e',
  );
});

// RFC 8439, A.1: [key's last byte(s), counter, nonce, keystream]
const zero = '00'.repeat(32);
const vectors: [string, number, [number, number, number], string][] = [
  [
    zero,
    0,
    [0, 0, 0],
    '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586',
  ],
  [
    zero,
    1,
    [0, 0, 0],
    '9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f',
  ],
  [
    `${zero.slice(2)}01`,
    1,
    [0, 0, 0],
    '3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0',
  ],
  [
    `00ff${zero.slice(4)}`,
    2,
    [0, 0, 0],
    '72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096',
  ],
  [
    zero,
    0,
    [0, 0, 0x02000000],
    'c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c78a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d',
  ],
];
test.each(vectors)('RFC 8439, A.1: key %s, counter %i, nonce %j', (k, counter, nonce, expected) => {
  const block = new Uint32Array(16);
  keystream(Buffer.from(k, 'hex'), block, counter, nonce);
  expect(hex(block)).toBe(expected);
});

test.each([0, 1, 15, 16, 17, 1000])('%i words are the first words of the platform’s own cipher', (length) => {
  const seed = randomBytes(32);
  const words = new Uint32Array(length);
  keystream(seed, words);
  expect(hex(words)).toBe(
    createCipheriv('chacha20', seed, new Uint8Array(16))
      .update(new Uint8Array(4 * length))
      .toString('hex'),
  );
});

test('a key of another length is refused', () => {
  expect(() => keystream(new Uint8Array(31), new Uint32Array(1))).toThrow('expected 32 bytes, got 31');
});

test('an upload of 16 MB is masked in a moment', () => {
  const words = new Uint32Array(2 ** 22);
  // The best of some: other work on the machine is not this one's.
  const seconds = Math.min(
    ...Array.from({ length: 4 }, () => {
      const from = performance.now();
      keystream(key, words);
      return (performance.now() - from) / 1000;
    }),
  );
  console.log(`ChaCha20: ${((4 * words.length) / 1e6 / seconds).toFixed(0)} MB/s`);
  expect(seconds).toBeLessThan(2);
});
