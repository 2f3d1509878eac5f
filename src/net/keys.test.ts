import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { makeIdentity, spkiOf } from './keys.ts';

for (const kind of ['p256', 'ed25519'] as const) {
  test(`a ${kind} certificate is well-formed, self-signed, and carries the key and the name`, () => {
    const identity = makeIdentity('dealer', kind);
    const certificate = new X509Certificate(identity.certPem);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.checkPrivateKey(createPrivateKey(identity.keyPem))).toBe(true);
    expect(certificate.subject).toBe('CN=dealer');
    expect(certificate.validTo).toMatch(/9999/);
    const spki = createPublicKey(identity.keyPem).export({ type: 'spki', format: 'der' });
    expect(identity.spki).toBe(createHash('sha256').update(spki).digest('hex'));
    expect(spkiOf(identity.certPem)).toBe(identity.spki);
  });
}

test('two identities of one name have different keys', () => {
  expect(makeIdentity('p0').spki).not.toBe(makeIdentity('p0').spki);
});

test('the pin of a public key equals the pin of its certificate', () => {
  const identity = makeIdentity('p0');
  expect(spkiOf(createPublicKey(identity.keyPem).export({ type: 'spki', format: 'pem' }).toString())).toBe(identity.spki);
});

test('a name that would not fit a certificate is refused', () => {
  expect(() => makeIdentity('')).toThrow(/name: expected/);
  expect(() => makeIdentity('p0/evil')).toThrow(RangeError);
  expect(() => makeIdentity('x'.repeat(65))).toThrow(RangeError);
});
