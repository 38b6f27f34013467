// Sends events from JSON lines, sealed for the broker.

import { existsSync, readFileSync } from 'node:fs';
import { Bundle } from './bundle.mjs';
import { CompressionTypes } from './kafkajs.mjs';
import { Schemas, eventOf, publishedSchemas } from './records.mjs';
import { Refusal, parse, run } from './refusal.mjs';
import * as wire from './wire.mjs';

const USAGE = 'node send.mjs BUNDLE FAMILY FILE|- [--schemas FOLDER]';

await run(async () => {
  const { words: [folder, family, file], options } = parse(process.argv.slice(2), USAGE, 3, ['schemas']);
  const bundle = new Bundle(folder);
  const schemas = new Schemas(options.schemas, folder);
  // All lines first: with an error in one, nothing is sent.
  const events = read(file, bundle.party, family, schemas);
  const kafka = bundle.kafka();
  const known = publishedSchemas(await bundle.published(kafka, bundle.text('topics', 'schemas')));
  const fingerprint = schemas.family(family).fingerprint.toString('hex');
  if (!known.has(fingerprint)) {
    throw new Refusal(`the broker does not know this ${family} schema (${fingerprint}): take its files`);
  }
  const keys = new wire.DataKeyMaker(await bundle.brokerKey(kafka));
  const secret = bundle.recordKeySecret();
  const messages = [];
  for (const { envelope, subject, body } of events) {
    const dataKey = await keys.current();
    const sealed = wire.encodeEvent(
      schemas.envelope, envelope, wire.encode(schemas.subject, subject), wire.encode(schemas.family(family), body),
      dataKey,
    );
    const key = wire.recordKey(secret, envelope.school, subject);
    messages.push({ key, value: sealed, headers: { 'data-key': dataKey.header } });
  }
  const topic = bundle.text('topics', 'in');
  for (const [i, where] of (await produce(kafka, topic, messages)).entries()) {
    process.stdout.write(`${JSON.stringify({ event_id: events[i].envelope.event_id, topic, ...where })}\n`);
  }
});

/** Sends in order, each once, and waits until all replicas in sync have them; tells where each stands. */
async function produce(kafka, topic, messages) {
  let partitions = 0;
  const producer = kafka.producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: () => ({ partitionMetadata, message }) => {
      partitions = partitionMetadata.length;
      return wire.partition(message.key, partitions);
    },
  });
  await producer.connect();
  const found = [];
  try {
    for (let at = 0; at < messages.length; at += 500) {
      const some = messages.slice(at, at + 500);
      const request = { topic, messages: some, acks: -1, compression: CompressionTypes.LZ4 };
      const written = new Map(
        (await producer.send(request)).map(({ partition, baseOffset }) => [partition, BigInt(baseOffset)]),
      );
      for (const { key } of some) {
        const partition = wire.partition(key, partitions);
        const offset = written.get(partition);
        written.set(partition, offset + 1n);
        found.push({ partition, offset: Number(offset) });
      }
    }
  } finally {
    await producer.disconnect();
  }
  return found;
}

function read(file, party, family, schemas) {
  if (file !== '-' && !existsSync(file)) throw new Refusal(`there is no file ${file}`);
  const lines = readFileSync(file === '-' ? 0 : file, 'utf8').split('\n');
  return lines.flatMap((line, i) => {
    if (!line.trim()) return [];
    try {
      return [eventOf(JSON.parse(line), party, family, schemas)];
    } catch (error) {
      const what = error instanceof Refusal ? error.message : 'not JSON';
      throw new Refusal(`line ${i + 1}: ${what}; nothing was sent`);
    }
  });
}
