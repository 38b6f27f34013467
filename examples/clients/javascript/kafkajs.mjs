// KafkaJS, with what it lacks for this broker: LZ4, and all of read_committed.

import { compressFrame, decompressFrame } from 'lz4-napi';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

// KafkaJS 2.2.4 takes aborted transactions one at a time, as if Kafka gave them in the order in which they began. Kafka
// gives them in the order in which they ended, and many at once: records that were never committed would come through.
const filter = require.resolve('kafkajs/src/consumer/filterAbortedMessages.js');
require(filter);
require.cache[filter].exports = committed;

const kafkajs = require('kafkajs');
export const { CompressionTypes, Kafka, logLevel } = kafkajs;

kafkajs.CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => compressFrame(encoder.buffer),
  decompress: async (buffer) => decompressFrame(buffer),
});

/** The messages of a fetch without those of aborted transactions, as Kafka's own consumer tells them apart. */
export function committed({ messages, abortedTransactions }) {
  const waiting = [...(abortedTransactions ?? [])].sort((one, other) =>
    BigInt(one.firstOffset) < BigInt(other.firstOffset) ? -1 : 1);
  const aborted = new Set(); // producers whose transaction will turn out to be aborted
  return messages.filter(({ offset, key, isControlRecord, batchContext: { producerId, inTransaction } }) => {
    while (waiting.length && BigInt(waiting[0].firstOffset) <= BigInt(offset)) aborted.add(waiting.shift().producerId);
    if (isControlRecord) {
      if (key.readInt16BE(2) === 0) aborted.delete(producerId); // version, then type: 0 is an abort
      return true; // KafkaJS takes these out itself
    }
    return !(inTransaction && aborted.has(producerId));
  });
}
