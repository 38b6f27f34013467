// The folder that the operator gave to a party: where Kafka is, its login and its keys.

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Kafka, logLevel } from './kafkajs.mjs';
import { Refusal } from './refusal.mjs';

const SETTINGS = [
  'bootstrap.servers', 'security.protocol', 'sasl.mechanism', 'sasl.username', 'sasl.password', 'ssl.ca.location',
];
const QUIET_MS = 10_000;

export class Bundle {
  #folder;
  #document;

  constructor(folder) {
    this.#folder = folder;
    refuseReadable(folder);
    this.#document = json(join(folder, 'party.json'));
    this.party = this.text('party');
  }

  text(...path) {
    const found = path.reduce((node, name) => node?.[name], this.#document);
    if (typeof found !== 'string') {
      throw new Refusal(`party.json in ${this.#folder} does not name ${path.join('.')}`);
    }
    return found;
  }

  /** The topic on which a family arrives. */
  out(family) {
    if (typeof this.#document.topics?.out?.[family] !== 'string') {
      throw new Refusal(`${this.party} receives no ${family}: party.json has no such topic`);
    }
    return this.text('topics', 'out', family);
  }

  /** A client of Kafka: TLS, with the host's name held against its certificate, and a login. Nothing else is taken. */
  kafka() {
    const path = join(this.#folder, 'kafka', 'librdkafka.properties');
    if (!existsSync(path)) throw new Refusal(`${path} is missing`);
    const lines = readFileSync(path, 'utf8').split('\n').map((line) => line.trim());
    const settings = new Map(
      lines.filter((line) => line && !line.startsWith('#')).map((line) => {
        const at = line.indexOf('=');
        return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
      }),
    );
    const other = [...settings.keys()].find((name) => !SETTINGS.includes(name));
    if (other !== undefined) throw new Refusal(`${path} has a setting that is not known here: ${other}`);
    const mechanism = settings.get('sasl.mechanism')?.toLowerCase() ?? '';
    if (settings.get('security.protocol')?.toLowerCase() !== 'sasl_ssl' || !mechanism.startsWith('scram-sha-')) {
      throw new Refusal(`${path} must have security.protocol=sasl_ssl and a SCRAM mechanism: nothing else is taken`);
    }
    const ca = settings.has('ssl.ca.location') && resolve(this.#folder, settings.get('ssl.ca.location'));
    if (ca && !existsSync(ca)) throw new Refusal(`${ca}, the certificate of the authority, is missing`);
    return new Kafka({
      clientId: this.party,
      brokers: settings.get('bootstrap.servers').split(','),
      // Without a file of its own, Node's list of authorities holds.
      ssl: { minVersion: 'TLSv1.2', ...(ca && { ca: [readFileSync(ca, 'utf8')] }) },
      sasl: { mechanism, username: settings.get('sasl.username'), password: settings.get('sasl.password') },
      connectionTimeout: 10_000,
      authenticationTimeout: 10_000,
      retry: { retries: 4 },
      logLevel: logLevel.NOTHING,
    });
  }

  /** A consumer that sees only what was committed (as KafkaJS does unless told otherwise). */
  consumer(kafka, group) {
    return kafka.consumer({
      groupId: this.text('group_prefix') + group, readUncommitted: false, allowAutoTopicCreation: false,
      maxWaitTimeInMs: 500,
    });
  }

  /** A compacted topic of one partition, from its beginning to its present end. */
  async published(kafka, topic) {
    const [{ low, high }] = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(topic));
    const found = new Map();
    if (low === high) return found;
    // KafkaJS reads in groups only: one of its own, that commits nothing and is gone afterwards.
    const consumer = this.consumer(kafka, `published-${randomUUID()}`);
    await consumer.connect();
    try {
      await consumer.subscribe({ topic, fromBeginning: true });
      await new Promise((resolve, reject) => {
        // What stood last may have been compacted away: then no record says that this is the end.
        let quiet;
        const listen = () => {
          clearTimeout(quiet);
          quiet = setTimeout(resolve, QUIET_MS);
        };
        consumer.on(consumer.events.GROUP_JOIN, listen);
        consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
        const eachMessage = async ({ message: { key, value } }) => {
          listen();
          if (value === null) found.delete(key.toString());
          else found.set(key.toString(), value);
        };
        // By the batch: what stands last may be the end of a transaction, which is no message.
        consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
          if (BigInt(payload.lastOffset) + 1n < BigInt(high)) return;
          clearTimeout(quiet);
          resolve();
        });
        consumer.run({ autoCommit: false, eachMessage }).catch(reject);
      });
    } finally {
      await consumer.disconnect();
    }
    return found;
  }

  /** The broker's newest public key. */
  async brokerKey(kafka) {
    let newest;
    for (const [kid, value] of await this.published(kafka, this.text('topics', 'broker_keys'))) {
      const { created, jwk } = JSON.parse(value.toString('utf8'));
      if (!newest || created > newest.created) newest = { kid, jwk, created };
    }
    if (!newest) throw new Refusal('the broker has published no key; ask its operator');
    return newest;
  }

  /** The private JWK of this id, or null. The id comes from outside: what can be no file name is not looked up. */
  privateKey(kid) {
    const path = join(this.#folder, 'keys', `${kid}.jwk`);
    if (!/^[a-z0-9][a-z0-9.-]{0,83}$/.test(kid) || !existsSync(path)) return null;
    const { jwk } = json(path);
    return jwk?.d ? jwk : null;
  }

  /** The secret of the record keys. */
  recordKeySecret() {
    const path = join(this.#folder, 'keys', 'record-key.secret');
    const text = existsSync(path) ? readFileSync(path, 'ascii').trim() : '';
    if (!/^[0-9a-f]{64}$/.test(text)) throw new Refusal(`${path} is missing or damaged`);
    return Buffer.from(text, 'hex');
  }
}

/** Does something with an admin client: what any user may ask about his own topics. */
export async function withAdmin(kafka, step) {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await step(admin);
  } finally {
    await admin.disconnect();
  }
}

/** A password or a key that others can read is one that they may have. Where files have no modes nothing is said. */
function refuseReadable(folder) {
  if (process.platform === 'win32') return;
  for (const place of ['connection.json', 'kafka', 'keys']) {
    const path = join(folder, place);
    if (!existsSync(path)) continue;
    const files = statSync(path).isDirectory() ? readdirSync(path).sort().map((name) => join(path, name)) : [path];
    for (const file of files) {
      const found = statSync(file);
      if (found.isFile() && found.mode & 0o077) {
        throw new Refusal(`others can read ${file}: it holds a password or a key. Run: chmod -R go= ${folder}. Was the`
          + ' machine shared, then ask the operator for a new password and key');
      }
    }
  }
}

function json(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    throw new Refusal(`${path} is missing or is not JSON`); // no cause: a parser quotes, and this may be a key
  }
}
