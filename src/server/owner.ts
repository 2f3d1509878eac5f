/**
 * An owner's requests, signed: each carries a header
 *
 *   Authorization: Subrosa key=BASE64,time=MILLISECONDS,nonce=HEX,body=HEX,signature=BASE64
 *
 * with an Ed25519 signature over the lines `subrosa-owner/1`, method, role, path with query, time, nonce, SHA-256 of the body, joined by \n.
 * The role is in it, so that what was signed for P0 is nothing at P1. The body's hash stands in the header, so that a server knows
 * whom it deals with before it takes a byte of the body.
 *
 * A request counts once: its time is within five minutes of the server's, and its nonce is remembered, in a file, for as long as its time
 * is good.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { SubrosaError } from '../client/errors.ts';
import type { Role } from '../runtime/model.ts';

/** Who may put models here, as the configuration says: the Ed25519 public key's 32 bytes in base64 or hex. */
export interface OwnerKey {
  readonly name: string;
  readonly key: string;
}

export interface ToSign {
  readonly method: string;
  readonly role: Role;
  /** With the query. */
  readonly path: string;
  /** Undefined: no body. */
  readonly body?: Uint8Array;
}

/** Milliseconds a request's time may be off. */
const window = 300_000;
/** Nonces that may lie in the file before those that no longer count are taken out. */
const mostLines = 10_000;
/** DER of an Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410). */
const spkiHead = Buffer.from('302a300506032b6570032100', 'hex');

export const bodyHash = (body: Uint8Array = new Uint8Array(0)): string => createHash('sha256').update(body).digest('hex');

const statement = (method: string, role: Role, path: string, time: string, nonce: string, body: string): Buffer =>
  Buffer.from(['subrosa-owner/1', method, role, path, time, nonce, body].join('\n'));

/** An owner's private key, PKCS#8 PEM. Throws TypeError when it is no Ed25519 key. */
export function ownerKey(pem: string): KeyObject {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== 'ed25519') throw new TypeError(`an Ed25519 key is expected, this one is ${key.asymmetricKeyType}`);
  return key;
}

/** The public key's 32 bytes, in base64: what configurations list. */
export const publicOf = (key: KeyObject): string =>
  createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(spkiHead.length).toString('base64');

/** The value of the Authorization header. `now`: milliseconds. */
export function signRequest(key: KeyObject, request: ToSign, now = Date.now()): string {
  const [time, nonce, body] = [`${now}`, randomBytes(16).toString('hex'), bodyHash(request.body)];
  const signature = sign(null, statement(request.method, request.role, request.path, time, nonce, body), key).toString('base64');
  return `Subrosa key=${publicOf(key)},time=${time},nonce=${nonce},body=${body},signature=${signature}`;
}

const header =
  /^Subrosa key=([A-Za-z0-9+/]{43}=),time=(\d{1,15}),nonce=([0-9a-f]{32}),body=([0-9a-f]{64}),signature=([A-Za-z0-9+/]{86}==)$/;

export interface Signed {
  /** Who signed, as the configuration calls them. */
  readonly owner: string;
  /** What the body's SHA-256 must be, in hex. */
  readonly body: string;
}

/** Checks requests to one role. */
export class OwnerGate {
  /** Nonces seen, and until when they count. Only owners can add to it. */
  private readonly seen = new Map<string, number>();
  private lines = 0;

  /** `owners` is asked at each request: a configuration may be read again. `file`: for nonces. `now`: milliseconds. */
  constructor(
    private readonly role: Role,
    private readonly owners: () => readonly OwnerKey[],
    private readonly file: string,
    private readonly now: () => number = Date.now,
  ) {
    for (const line of existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []) {
      const [nonce, until] = line.split(' ');
      if (Number(until) >= now()) this.seen.set(nonce, Number(until));
    }
    this.compact();
  }

  /** Throws SubrosaError 'unauthorized'. */
  check(method: string, path: string, authorization: string | undefined): Signed {
    const fields = header.exec(authorization ?? '');
    if (!fields) throw refused("an owner's signature is expected: use subrosa deploy --key");
    const [, key, time, nonce, body, signature] = fields;
    const raw = Buffer.from(key, 'base64');
    const owner = this.owners().find((o) => raw.equals(Buffer.from(o.key, o.key.length === 64 ? 'hex' : 'base64')));
    if (!owner) throw refused(`${this.role} does not know the owner's key ${key}: add it to 'owners' in its configuration`);
    const publicKey = createPublicKey({ key: Buffer.concat([spkiHead, raw]), format: 'der', type: 'spki' });
    if (!verify(null, statement(method, this.role, path, time, nonce, body), publicKey, Buffer.from(signature, 'base64')))
      throw refused(`the signature does not fit: it is for another request, or for another role than ${this.role}`);
    this.once(Number(time), nonce);
    return { owner: owner.name, body };
  }

  private once(time: number, nonce: string): void {
    const now = this.now();
    const off = Math.round(Math.abs(time - now) / 1000);
    if (Math.abs(time - now) > window)
      throw refused(
        `the clock is off by ${off} s: the request is from ${iso(time)}, ${this.role} has ${iso(now)}; set the clock that is wrong`,
      );
    for (const [old, until] of this.seen) {
      if (until >= now) break;
      this.seen.delete(old);
    }
    if (this.seen.has(nonce)) throw refused('this request was answered already: one that was captured is worth nothing');
    // In order of arrival, so that the oldest come first: twice the window is enough for a request from a clock ahead of this one.
    this.seen.set(nonce, now + 2 * window);
    try {
      appendFileSync(this.file, `${nonce} ${now + 2 * window}\n`, { mode: 0o600 });
      if (++this.lines > mostLines) this.compact();
    } catch {
      // A full disk must not keep its owner from deleting models. The nonce is known until this server ends.
    }
  }

  private compact(): void {
    writeFileSync(this.file, [...this.seen].map(([nonce, until]) => `${nonce} ${until}\n`).join(''), { mode: 0o600 });
    this.lines = this.seen.size;
  }
}

const refused = (message: string): SubrosaError => new SubrosaError('unauthorized', message);
const iso = (milliseconds: number): string => new Date(milliseconds).toISOString().replace(/\.\d+/, '');
