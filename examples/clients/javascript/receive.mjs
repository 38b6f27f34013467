// Receives a family's events, or the outcomes of what was sent, as JSON lines.

import { Bundle, withAdmin } from './bundle.mjs';
import { Schemas, publishedSchemas, toJson } from './records.mjs';
import { Refusal, number, parse, print, run } from './refusal.mjs';
import * as wire from './wire.mjs';

const USAGE = 'node receive.mjs BUNDLE FAMILY|status [--group NAME] [--max NUMBER] [--idle SECONDS]'
  + ' [--sender PARTY] [--schemas FOLDER]';
const REMEMBERED = 1000;

class Receiver {
  #published = new Map();
  #open = new Map(); // open data keys by their header: records in a row have the same one
  #lastOf = new Map();

  constructor(bundle, kafka, schemas, family, onlySender) {
    Object.assign(this, { bundle, kafka, schemas, family, onlySender });
  }

  status({ value }) {
    const { status } = this.schemas;
    return toJson(status.document, wire.decode(status, wire.unframe(status, value)));
  }

  async event({ value, headers, offset }, topic, partition) {
    const { schemas, family, bundle, onlySender } = this;
    const sealed = wire.decodeEvent(schemas.envelope, value);
    const { envelope } = sealed;
    if (envelope.receiver !== bundle.party) throw new Refusal('the event is for another receiver');
    if (envelope.family !== family) throw new Refusal('the event is of another family than its topic');
    if (onlySender !== undefined && envelope.sender !== onlySender) {
      throw new Refusal(`the event is of sender ${envelope.sender}, not of ${onlySender}`);
    }
    const key = await this.#dataKey(header(headers, 'data-key'));
    if (text(headers, 'key-id') !== key.kid) {
      throw new Refusal('the header key-id names another key than the data key');
    }
    const subject = wire.decode(schemas.subject, wire.openPart(sealed, 'subject', key));
    const body = wire.openPart(sealed, 'body', key);
    const writer = await this.#writer(envelope.body_schema.toString('hex'));
    const flow = text(headers, 'flow');
    const seq = this.#follow(`${flow}/${topic}/${partition}`, text(headers, 'flow-seq'));
    if (header(headers, 'audit-salt').length !== 32) throw new Refusal('the header audit-salt has not 32 bytes');
    return {
      ...toJson(schemas.envelope.document, envelope),
      subject: toJson(schemas.subject.document, subject),
      body: toJson(writer.document, wire.decode(writer, body)),
      policy: text(headers, 'policy'), flow, seq, topic, partition, offset: Number(offset),
    };
  }

  async #dataKey(bytes) {
    const name = bytes.toString('latin1');
    const key = this.#open.get(name) ?? (await wire.unwrap(bytes, (kid) => this.bundle.privateKey(kid)));
    this.#open.delete(name); // the one that was used last stands last
    this.#open.set(name, key);
    if (this.#open.size > REMEMBERED) this.#open.delete(this.#open.keys().next().value);
    return key;
  }

  /** The schema that the body was written with: on the topic `schemas` before the first record that has it. */
  async #writer(fingerprint) {
    if (!this.#published.has(fingerprint)) {
      const topic = this.bundle.text('topics', 'schemas');
      this.#published = publishedSchemas(await this.bundle.published(this.kafka, topic));
    }
    const writer = this.#published.get(fingerprint);
    if (writer?.document.family !== this.family) {
      throw new Refusal(`the body's schema ${fingerprint} is not one of ${this.family} on the topic schemas`);
    }
    return writer;
  }

  /** Numbers are consecutive in a flow: a gap is a record that did not come. */
  #follow(flow, text) {
    if (!/^[0-9]{1,15}$/.test(text)) throw new Refusal('the header flow-seq is not a number');
    const seq = Number(text);
    const last = this.#lastOf.get(flow);
    this.#lastOf.set(flow, seq);
    if (last !== undefined && seq > last + 1) {
      process.stderr.write(`warning: ${flow} went from ${last} to ${seq}; tell the operator\n`);
    }
    return seq;
  }
}

function header(headers, name) {
  const found = headers[name]; // KafkaJS makes a list of a header that comes more than once
  if (!Buffer.isBuffer(found)) throw new Refusal(`the record has not one header ${name}`);
  return found;
}

function text(headers, name) {
  return header(headers, name).toString('latin1');
}

await run(async () => {
  const known = ['group', 'max', 'idle', 'sender', 'schemas'];
  const { words: [folder, family], options } = parse(process.argv.slice(2), USAGE, 2, known);
  const most = number(options, 'max');
  const idleMs = number(options, 'idle') * 1000;
  const bundle = new Bundle(folder);
  const outcomes = family === 'status';
  const topic = outcomes ? bundle.text('topics', 'status') : bundle.out(family);
  const kafka = bundle.kafka();
  const receiver = new Receiver(bundle, kafka, new Schemas(options.schemas, folder), family, options.sender);
  if (!(await withAdmin(kafka, (admin) => admin.listTopics())).includes(topic)) {
    throw new Refusal(`there is no topic ${topic} for ${bundle.party}`);
  }
  const opened = async (message, partition) => {
    try {
      return outcomes ? receiver.status(message) : await receiver.event(message, topic, partition);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw new Refusal(`${topic}/${partition}/${message.offset}: ${error.message}. It does not count as read; tell the`
        + ' operator');
    }
  };
  const consumer = bundle.consumer(kafka, options.group ?? 'example');
  await consumer.connect();
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    await new Promise((resolve, reject) => {
      let ended = false;
      let count = 0;
      let quiet;
      const end = (error) => {
        ended = true;
        clearTimeout(quiet);
        if (error) reject(error);
        else resolve();
      };
      const listen = () => {
        clearTimeout(quiet);
        if (idleMs && !ended) quiet = setTimeout(end, idleMs);
      };
      const eachMessage = async ({ partition, message }) => {
        if (ended) return;
        clearTimeout(quiet);
        try {
          await print(JSON.stringify(await opened(message, partition)));
          // Read once it was printed, not before: after a crash the last ones come again.
          await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]);
        } catch (error) {
          end(error);
          return;
        }
        if (++count === most) end();
        else listen();
      };
      // Stopped, it leaves its group first: else its partitions wait for it until its session ends.
      for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => end());
      consumer.on(consumer.events.GROUP_JOIN, listen);
      consumer.on(consumer.events.CRASH, ({ payload }) => end(payload.error));
      consumer.run({ autoCommit: false, eachMessage }).catch(end);
    });
  } finally {
    await consumer.disconnect();
  }
});
