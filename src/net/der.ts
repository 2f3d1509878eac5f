/** As much of DER (X.690) as certificates need. */
export function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const n = content.length;
  const length = n < 128 ? [n] : n < 256 ? [0x81, n] : [0x82, n >> 8, n & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

export const sequence = (...parts: Uint8Array[]): Buffer => der(0x30, ...parts);
/** An object identifier, already encoded. */
export const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
export const octets = (...parts: Uint8Array[]): Buffer => der(0x04, ...parts);
/** All bits of whole bytes. */
export const bits = (bytes: Uint8Array): Buffer => der(0x03, Buffer.from([0]), bytes);
/** X.501 name of one common name. */
export const commonName = (name: string): Buffer => sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(name)))));
export const generalizedTime = (date: Date): Buffer => der(0x18, Buffer.from(`${date.toISOString().replace(/[-:T]|\.\d+/g, '')}`));

export const algorithms = { p256: sequence(oid('2a8648ce3d040302')), ed25519: sequence(oid('2b6570')) }; // ecdsa-with-SHA256, Ed25519

export function pem(label: string, bytes: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(bytes)
    .toString('base64')
    .replace(/(.{64})(?=.)/g, '$1\n')}\n-----END ${label}-----\n`;
}
