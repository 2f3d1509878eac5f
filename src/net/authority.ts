/**
 * A private certificate authority for a test cluster's HTTPS: one root, and certificates for servers under it, as browsers and strict
 * clients take them (RFC 5280: names in subjectAltName, key identifiers, usages). P-256, since browsers take no Ed25519. Written in DER
 * here: two kinds of certificates are less than any library for all of them. A real service's certificates come from a public authority.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';
import { algorithms, bits, commonName, der, generalizedTime, octets, oid, pem, sequence } from './der.ts';

export interface Certified {
  readonly keyPem: string;
  readonly certPem: string;
}

export interface Authority extends Certified {
  readonly name: string;
}

const day = 86_400_000;
const validFor = { root: 3650 * day, server: 397 * day };

export function makeAuthority(name: string, now = Date.now()): Authority {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const extensions = [
    extension('551d13', true, sequence(boolean, der(0x02, Buffer.from([0])))), // basicConstraints: a CA, of leaves only
    extension('551d0f', true, der(0x03, Buffer.from([1, 0b0000_0110]))), // keyUsage: keyCertSign, cRLSign
    extension('551d0e', false, octets(keyId(publicKey))),
  ];
  return { name, ...certificate(name, name, publicKey, privateKey, privateKey, [now, validFor.root], extensions) };
}

/** A server's certificate for these host names and addresses, `names[0]` its common name. */
export function certify(authority: Authority, names: readonly string[], now = Date.now()): Certified {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const root = createPrivateKey(authority.keyPem);
  const extensions = [
    extension('551d13', true, sequence()),
    extension('551d0f', true, der(0x03, Buffer.from([7, 0b1000_0000]))), // digitalSignature
    extension('551d25', false, sequence(oid('2b06010505070301'))), // serverAuth
    extension('551d11', false, sequence(...names.map(alternative))),
    extension('551d0e', false, octets(keyId(publicKey))),
    extension('551d23', false, sequence(der(0x80, keyId(createPublicKey(root))))),
  ];
  return certificate(names[0], authority.name, publicKey, privateKey, root, [now, validFor.server], extensions);
}

const boolean = der(0x01, Buffer.from([0xff]));
const extension = (id: string, critical: boolean, value: Uint8Array): Buffer =>
  sequence(oid(id), ...(critical ? [boolean] : []), octets(value));
/** RFC 7093, method 1: enough to tell keys apart. */
const keyId = (key: KeyObject): Buffer =>
  createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest()
    .subarray(0, 20);

function alternative(name: string): Buffer {
  return isIP(name) ? der(0x87, addressBytes(name)) : der(0x82, Buffer.from(name, 'ascii'));
}

function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  // The URL parser writes an IPv6 address in one way, with at most one '::'.
  const [head, tail] = new URL(`http://[${address}]`).hostname
    .slice(1, -1)
    .split('::')
    .map((half) => (half === '' ? [] : half.split(':')));
  const groups = tail === undefined ? head : [...head, ...new Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  return Buffer.from(groups.map((g) => g.padStart(4, '0')).join(''), 'hex');
}

function certificate(
  name: string,
  issuer: string,
  publicKey: KeyObject,
  privateKey: KeyObject,
  issuerKey: KeyObject,
  [now, lasts]: readonly [number, number],
  extensions: readonly Uint8Array[],
): Certified {
  const serial = randomBytes(16);
  serial[0] = (serial[0] & 0x3f) | 0x40; // positive, full length
  // An hour back: the clocks of a cluster differ.
  const validity = sequence(time(new Date(now - 3_600_000)), time(new Date(now + lasts)));
  const version = der(0xa0, der(0x02, Buffer.from([2])));
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const body = sequence(
    version,
    der(0x02, serial),
    algorithms.p256,
    commonName(issuer),
    validity,
    commonName(name),
    spki,
    der(0xa3, sequence(...extensions)),
  );
  return {
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certPem: pem('CERTIFICATE', sequence(body, algorithms.p256, bits(sign('sha256', body, issuerKey)))),
  };
}

/** UTCTime through 2049, as RFC 5280 wants it, GeneralizedTime from then on. */
const time = (date: Date): Buffer =>
  date.getUTCFullYear() < 2050
    ? der(
        0x17,
        Buffer.from(
          date
            .toISOString()
            .replace(/[-:T]|\.\d+/g, '')
            .slice(2),
        ),
      )
    : generalizedTime(date);
