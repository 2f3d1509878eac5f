/**
 * Who is who on the wire: a key pair, and a self-signed certificate that only carries the key through the TLS handshake. Peers pin each
 * other's keys by the SHA-256 of the SubjectPublicKeyInfo; no authority is asked and no date is looked at, so the certificate is
 * the smallest that OpenSSL takes, written here in DER (RFC 5280) in place of a library.
 */
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { algorithms, bits, commonName, der, generalizedTime, pem, sequence } from './der.ts';

export interface Identity {
  name: string;
  keyPem: string;
  certPem: string;
  /** SHA-256 of the SubjectPublicKeyInfo, in hex: what peers pin. */
  spki: string;
}

export type KeyKind = 'p256' | 'ed25519';

/** Ed25519 is the quicker of the two in Node's handshake, by a fifth of the processor time (bench/rounds.ts). */
export function makeIdentity(name: string, kind: KeyKind = 'ed25519'): Identity {
  if (!/^[\w.-]{1,64}$/.test(name)) throw new RangeError(`name: expected 1 to 64 letters, digits, '.', '-' or '_', got '${name}'`);
  const { privateKey, publicKey } =
    kind === 'p256' ? generateKeyPairSync('ec', { namedCurve: 'prime256v1' }) : generateKeyPairSync('ed25519');
  const certPem = pem('CERTIFICATE', selfSigned(name, kind, privateKey, publicKey));
  return { name, keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), certPem, spki: spkiOf(certPem) };
}

/** The pin of a certificate's key (or of a public key, both in PEM). */
export function spkiOf(certPem: string): string {
  return spkiOfKey(certPem.includes('BEGIN CERTIFICATE') ? new X509Certificate(certPem).publicKey : createPublicKey(certPem));
}

export function spkiOfKey(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

function selfSigned(name: string, kind: KeyKind, privateKey: KeyObject, publicKey: KeyObject): Buffer {
  const serial = randomBytes(16);
  serial[0] = (serial[0] & 0x3f) | 0x40; // positive, full length
  const forEver = sequence(generalizedTime(new Date('2020-01-01')), generalizedTime(new Date('9999-12-31T23:59:59Z')));
  const version = der(0xa0, der(0x02, Buffer.from([2])));
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const body = sequence(version, der(0x02, serial), algorithms[kind], commonName(name), forEver, commonName(name), spki);
  const signature = sign(kind === 'p256' ? 'sha256' : null, body, privateKey);
  return sequence(body, algorithms[kind], bits(signature));
}
