// The wire format, byte for byte as docs/wire-format.md has it. Nothing here knows of Kafka.

import avro from 'avsc';
import * as jose from 'jose';
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { Refusal } from './refusal.mjs';

const MARKER = Buffer.from('c301', 'hex');
const FRAME_BYTES = 10;
const SECRET_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MAX_JWE_BYTES = 1024;
const MAX_RECORDS = 2 ** 20;
const MAX_AGE_MS = 3_600_000;
const ALG = 'ECDH-ES+A256KW';
const ENC = 'A256GCM';

// ---- Avro

/** A schema, made ready: its JSON, its Avro type, its fingerprint. */
export function schemaOf(json) {
  let document, type;
  try {
    document = JSON.parse(json);
    type = avro.Type.forSchema(document, { wrapUnions: 'never' });
  } catch {
    throw new Refusal('what should be a schema is not one');
  }
  return { document, type, fingerprint: fingerprint(JSON.stringify(type.schema())) };
}

/** CRC-64-AVRO of a parsing canonical form, little endian (Avro specification, "Schema fingerprints"). */
export function fingerprint(canonical) {
  let crc = EMPTY;
  for (const byte of Buffer.from(canonical, 'utf8')) crc = (crc >> 8n) ^ TABLE[Number(crc & 0xffn) ^ byte];
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(crc);
  return out;
}

const EMPTY = 0xc15d213aa4d7a795n;
const TABLE = Array.from({ length: 256 }, (_, i) => {
  let value = BigInt(i);
  for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (EMPTY & -(value & 1n));
  return value;
});

export function encode(schema, record) {
  return schema.type.toBuffer(record);
}

/** Reads one record, and refuses anything after it. */
export function decode(schema, bytes) {
  try {
    return schema.type.fromBuffer(bytes);
  } catch {
    // The error may quote what it read: it goes no further.
    throw new Refusal(`the bytes are not one record of ${schema.type.getName()}`);
  }
}

export function frame(schema, record) {
  return Buffer.concat([MARKER, schema.fingerprint, record]);
}

/** The record in a framed value that must have this schema. */
export function unframe(schema, value) {
  if (!value || value.length < FRAME_BYTES || !value.subarray(0, 2).equals(MARKER)) {
    throw new Refusal('the value is not an Avro single object (C3 01)');
  }
  if (!value.subarray(2, FRAME_BYTES).equals(schema.fingerprint)) {
    throw new Refusal(`the value has another schema than the ${schema.document.name} that is known here`);
  }
  return value.subarray(FRAME_BYTES);
}

// ---- sealed parts

export function partKey(secret, part) {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `eck-broker/v1/${part}`, 32));
}

export function seal(key, plain, associated, nonce = randomBytes(NONCE_BYTES)) {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associated);
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

export function unseal(key, sealed, associated, part) {
  const tag = sealed.length - TAG_BYTES;
  if (tag >= NONCE_BYTES) {
    try {
      const nonce = sealed.subarray(0, NONCE_BYTES);
      const cipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
      cipher.setAAD(associated);
      cipher.setAuthTag(sealed.subarray(tag));
      return Buffer.concat([cipher.update(sealed.subarray(NONCE_BYTES, tag)), cipher.final()]);
    } catch {
      // Refused below.
    }
  }
  throw new Refusal(`the ${part} does not open: it was changed, or belongs to another event`);
}

// ---- events

/** The value of a record: prefix, and the two sealed parts with their lengths. Nonces are given by test vectors only. */
export function encodeEvent(schema, envelope, subject, body, key, nonces = {}) {
  const empty = encode(schema, { ...envelope, subject: Buffer.alloc(0), body: Buffer.alloc(0) });
  const prefix = frame(schema, empty.subarray(0, -2));
  const sealedSubject = seal(key.subject, subject, associated(prefix, 'subject'), nonces.subject);
  const sealedBody = seal(key.body, body, associated(prefix, 'body'), nonces.body);
  return Buffer.concat([
    prefix, varint(sealedSubject.length), sealedSubject, varint(sealedBody.length), sealedBody,
  ]);
}

/** The envelope, and the bytes before its two parts. */
export function decodeEvent(schema, value) {
  const envelope = decode(schema, unframe(schema, value));
  let tail = 0;
  for (const part of ['subject', 'body']) tail += varint(envelope[part].length).length + envelope[part].length;
  return { envelope, prefix: value.subarray(0, value.length - tail) };
}

export function openPart({ envelope, prefix }, part, key) {
  return unseal(key[part], envelope[part], associated(prefix, part), part);
}

export function associated(prefix, part) {
  return Buffer.concat([prefix, Buffer.from(part, 'ascii')]);
}

export function varint(length) {
  const out = [];
  let rest = length * 2; // zig-zag of a number that is not negative
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) out.push((rest % 128) | 0x80);
  out.push(rest);
  return Buffer.from(out);
}

// ---- the data key on its way

function dataKey(secret, header, kid) {
  return { header, kid, subject: partKey(secret, 'subject'), body: partKey(secret, 'body') };
}

/** Makes a sender's data keys for one recipient: a new one after an hour or 2^20 records. */
export class DataKeyMaker {
  #recipient;
  #current;
  #used = 0;
  #madeAt = 0;

  constructor(recipient) {
    this.#recipient = recipient; // { kid, jwk }
  }

  async current() {
    if (!this.#current || this.#used >= MAX_RECORDS || performance.now() - this.#madeAt >= MAX_AGE_MS) {
      const secret = randomBytes(SECRET_BYTES);
      this.#current = dataKey(secret, await wrap(secret, this.#recipient), this.#recipient.kid);
      this.#used = 0;
      this.#madeAt = performance.now();
    }
    this.#used++;
    return this.#current;
  }
}

export async function wrap(secret, { kid, jwk }) {
  const { kty, crv, x, y } = jwk;
  const key = await imported({ kty, crv, x, y }, kid);
  const jwe = await new jose.CompactEncrypt(secret).setProtectedHeader({ alg: ALG, enc: ENC, kid }).encrypt(key);
  return Buffer.from(jwe, 'ascii');
}

/** Opens a data-key header; `privateKey` gives the JWK of an id, or null. */
export async function unwrap(header, privateKey) {
  if (!header || header.length > MAX_JWE_BYTES) throw new Refusal('there is no data-key header, or it is too long');
  const jwe = header.toString('latin1');
  let parameters;
  try {
    parameters = jose.decodeProtectedHeader(jwe);
  } catch {
    throw new Refusal('the data-key header is not a compact JWE');
  }
  const { alg, enc, kid } = parameters;
  const names = Object.keys(parameters).sort().join();
  if (alg !== ALG || enc !== ENC || names !== 'alg,enc,epk,kid' || typeof kid !== 'string') {
    throw new Refusal(`the data-key header has other parameters than alg ${ALG}, enc ${ENC}, kid, epk`);
  }
  const jwk = privateKey(kid);
  if (!jwk) throw new Refusal(`the event is sealed for ${kid}, a key that is not in keys/`);
  const key = await imported(jwk, kid);
  try {
    const allowed = { keyManagementAlgorithms: [ALG], contentEncryptionAlgorithms: [ENC] };
    const { plaintext } = await jose.compactDecrypt(jwe, key, allowed);
    if (plaintext.length === SECRET_BYTES) return dataKey(Buffer.from(plaintext), header, kid);
  } catch {
    // Refused below.
  }
  throw new Refusal(`the data key does not open with ${kid}`);
}

async function imported(jwk, kid) {
  try {
    if (jwk.kty === 'EC' && jwk.crv === 'P-256') return await jose.importJWK(jwk, ALG);
  } catch {
    // The error may quote the key: it goes no further.
  }
  throw new Refusal(`the key ${kid} is no EC key on P-256`);
}

// ---- record keys and partitions

/** HMAC-SHA256 over the parts (text or bytes), each with its length in four bytes before it. */
export function keyedHash(key, ...parts) {
  const mac = createHmac('sha256', key);
  for (const part of parts) {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    mac.update(length).update(bytes);
  }
  return mac.digest();
}

/** What the audit leaf of a delivery says of a record's value: `x.value`. */
export function commitment(salt, value) {
  return keyedHash(salt, 'audit/value/v1', value).toString('base64url');
}

/** The key of a record: equal for one pupil at one school. */
export function recordKey(secret, school, subject) {
  // Of MERGE and REPLACE: the ids that go away.
  const ids = subject.previous_user_ids.length ? subject.previous_user_ids : subject.user_ids;
  const texts = ids.map(({ type, value }) => Buffer.from(`${type}=${value}`)).sort(Buffer.compare);
  return keyedHash(secret, school, texts[0] ?? subject.eck_id ?? '');
}

export function partition(recordKey, partitions) {
  return recordKey.readUInt32BE(0) % partitions;
}
