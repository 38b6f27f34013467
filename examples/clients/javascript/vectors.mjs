// Holds this code against the published test vectors: framing, keyed hash, partition, sealing, value commitment;
// and the filter of kafkajs.mjs.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { committed } from './kafkajs.mjs';
import { Schemas } from './records.mjs';
import { Refusal, parse, run } from './refusal.mjs';
import * as wire from './wire.mjs';

let held = 0;

function same(what, expected, found) {
  const text = Buffer.isBuffer(found) ? found.toString('hex') : String(found);
  if (text !== String(expected)) throw new Refusal(`${what} is not that of the vector`);
  held++;
}

async function refused(step) {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    held++;
    return;
  }
  throw new Refusal('a changed value was opened');
}

const hex = (text) => Buffer.from(text, 'hex');

function framing({ fingerprints, record }, { status }) {
  for (const one of fingerprints) same('fingerprint', one.hex, wire.fingerprint(one.canonical));
  same('canonical form of Status', record.canonical, JSON.stringify(status.type.schema()));
  same('fingerprint of Status', record.fingerprint, status.fingerprint);
  const found = wire.decode(status, wire.unframe(status, hex(record.value)));
  same('datum of Status', JSON.stringify(record.datum), JSON.stringify(found));
  same('framed Status', record.value, wire.frame(status, wire.encode(status, record.datum)));
}

async function sealing(vector, schemas) {
  const { kid, jwk } = vector.recipient;
  const secret = hex(vector.data_secret);
  const header = Buffer.from(vector.data_key_header, 'ascii');
  const ours = (id) => (id === kid ? jwk : null);
  const dataKey = await wire.unwrap(header, ours);
  const wrapped = await wire.unwrap(await wire.wrap(secret, { kid, jwk }), ours);
  const value = hex(vector.value);
  const sealed = wire.decodeEvent(schemas.envelope, value);
  same('prefix', vector.associated, sealed.prefix);
  for (const [part, schema] of [['subject', schemas.subject], ['body', schemas.family('usage')]]) {
    const one = vector[part];
    same(`key of ${part}`, one.key, wire.partKey(secret, part));
    same(`key of ${part} from the JWE`, one.key, dataKey[part]);
    same(`key of ${part} from a JWE of ours`, one.key, wrapped[part]);
    same('associated data', one.associated, wire.associated(sealed.prefix, part));
    const plain = wire.openPart(sealed, part, dataKey);
    same(`plain ${part}`, one.avro, plain);
    same(`datum of ${part}`, JSON.stringify(one.datum), JSON.stringify(wire.decode(schema, plain)));
    same(`encoded ${part}`, one.avro, wire.encode(schema, one.datum));
  }
  const envelope = { ...vector.envelope, body_schema: hex(vector.envelope.body_schema) };
  const nonces = { subject: hex(vector.subject.nonce), body: hex(vector.body.nonce) };
  const parts = [hex(vector.subject.avro), hex(vector.body.avro)];
  same('value', vector.value, wire.encodeEvent(schemas.envelope, envelope, ...parts, dataKey, nonces));
  for (const place of [20, value.length - 140, value.length - 1]) { // envelope, subject, body
    const changed = Buffer.from(value);
    changed[place] ^= 1;
    await refused(() => {
      const other = wire.decodeEvent(schemas.envelope, changed);
      wire.openPart(other, 'subject', dataKey);
      wire.openPart(other, 'body', dataKey);
    });
  }
  await refused(() => wire.unwrap(header, () => null));
}

/** Two lanes abort, the later one first: Kafka lists them so, and neither's records may come through. */
function abortedAreTakenOut() {
  const message = (offset, producerId, end) => ({
    offset: String(offset), key: end === undefined ? null : Buffer.from([0, 0, 0, end]),
    isControlRecord: end !== undefined,
    batchContext: { producerId, inTransaction: true },
  });
  const messages = [
    message(3, 'b'), message(4, 'c'), message(5, 'b', 0), message(6, 'a', 0), message(7, 'a'), message(8, 'c', 1),
    message(9, 'a', 1),
  ];
  const abortedTransactions = [{ producerId: 'b', firstOffset: '2' }, { producerId: 'a', firstOffset: '1' }];
  const found = committed({ messages, abortedTransactions }).filter((one) => !one.isControlRecord);
  same('what was committed', '4,7', found.map(({ offset }) => offset).join());
}

await run(async () => {
  const usage = 'node vectors.mjs FOLDER [--schemas FOLDER]';
  const { words: [folder], options } = parse(process.argv.slice(2), usage, 1, ['schemas']);
  const schemas = new Schemas(options.schemas, folder);
  const read = (name) => JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  framing(read('framing'), schemas);
  const hashes = read('keyed-hash');
  for (const { parts, hash } of hashes.cases) same('keyed hash', hash, wire.keyedHash(hex(hashes.key), ...parts));
  for (const one of read('partition').cases) {
    same('partition', one.partition, wire.partition(hex(one.key), one.partitions));
  }
  await sealing(read('sealing'), schemas);
  abortedAreTakenOut();
  const leaf = read('leaf');
  same('commitment', leaf.value.commitment, wire.commitment(hex(leaf.salt_out), Buffer.from(leaf.value.text)));
  process.stdout.write(`${held} vectors hold\n`);
});
