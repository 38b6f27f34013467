package nl.eckbroker.example;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;

/** Receives a family's events, or the outcomes of what was sent, as JSON lines. */
public final class Receive {
    private static final String USAGE = "Receive BUNDLE FAMILY|status [--group NAME] [--max NUMBER] [--idle SECONDS]"
            + " [--sender PARTY] [--schemas FOLDER]";
    private static final int REMEMBERED = 1000;

    private final Bundle bundle;
    private final Schemas schemas;
    private final String family;
    private final String onlySender;
    private volatile boolean stopped;
    private Map<String, Schema> published = Map.of();
    private final Map<String, Long> lastOf = new HashMap<>();
    /** Open data keys by their header: records in a row have the same one. */
    private final Map<String, Wire.DataKey> open = new LinkedHashMap<>(16, 0.75f, true) {
        private static final long serialVersionUID = 1L;

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Wire.DataKey> eldest) {
            return size() > REMEMBERED;
        }
    };

    private Receive(Bundle bundle, Schemas schemas, String family, String onlySender) {
        this.bundle = bundle;
        this.schemas = schemas;
        this.family = family;
        this.onlySender = onlySender;
    }

    public static void main(String[] given) {
        Arguments.run(() -> {
            Arguments arguments = new Arguments(given, USAGE, 2, List.of("group", "max", "idle", "sender", "schemas"));
            Path folder = Path.of(arguments.words.get(0));
            Bundle bundle = new Bundle(folder);
            String sender = arguments.option("sender", null);
            new Receive(bundle, arguments.schemas(folder), arguments.words.get(1), sender).run(arguments);
        });
    }

    private void run(Arguments arguments) {
        long most = arguments.number("max");
        long idleNanos = arguments.number("idle") * 1_000_000_000L;
        boolean outcomes = family.equals("status");
        String topic = outcomes ? bundle.text("topics", "status") : bundle.out(family);
        Properties settings = bundle.consumer();
        settings.put("group.id", bundle.text("group_prefix") + arguments.option("group", "example"));
        CountDownLatch left = leaveWhenStopped();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            if (!consumer.listTopics().containsKey(topic)) {
                throw new Refusal("there is no topic " + topic + " for " + bundle.party);
            }
            consumer.subscribe(List.of(topic));
            long count = 0;
            long last = System.nanoTime();
            while (!stopped && (idleNanos == 0 || System.nanoTime() - last < idleNanos)) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    String line;
                    try {
                        line = (outcomes ? status(record) : event(record)).toString();
                    } catch (Refusal refusal) {
                        throw new Refusal(record.topic() + "/" + record.partition() + "/" + record.offset() + ": "
                                + refusal.getMessage() + ". It does not count as read; tell the operator");
                    }
                    System.out.println(line);
                    if (System.out.checkError()) { // println itself throws nothing
                        throw new Refusal(Arguments.UNPRINTED);
                    }
                    // Read once it was printed, not before: after a crash the last ones come again.
                    consumer.commitSync(Map.of(new TopicPartition(topic, record.partition()),
                            new OffsetAndMetadata(record.offset() + 1)));
                    last = System.nanoTime();
                    if (++count == most || stopped) {
                        return;
                    }
                }
                if (consumer.assignment().isEmpty()) { // still joining the group: nothing can come yet
                    last = System.nanoTime();
                }
            }
        } finally {
            left.countDown();
        }
    }

    /** Stopped by a signal, the consumer is closed first: else its partitions wait for it until its session ends. */
    private CountDownLatch leaveWhenStopped() {
        CountDownLatch left = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped = true;
            try {
                left.await();
            } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        }));
        return left;
    }

    private ObjectNode status(ConsumerRecord<byte[], byte[]> record) {
        GenericRecord status = Wire.decode(schemas.status, Wire.unframe(schemas.status, record.value()));
        return (ObjectNode) Records.toJson(schemas.status, status);
    }

    private ObjectNode event(ConsumerRecord<byte[], byte[]> record) {
        Wire.Sealed sealed = Wire.decodeEvent(schemas.envelope, record.value());
        GenericRecord envelope = sealed.envelope();
        String sender = envelope.get("sender").toString();
        if (envelope.get("receiver") == null || !envelope.get("receiver").toString().equals(bundle.party)) {
            throw new Refusal("the event is for another receiver");
        }
        if (!envelope.get("family").toString().equals(family)) {
            throw new Refusal("the event is of another family than its topic");
        }
        if (onlySender != null && !onlySender.equals(sender)) {
            throw new Refusal("the event is of sender " + sender + ", not of " + onlySender);
        }
        Wire.DataKey key = dataKey(header(record, "data-key"));
        if (!text(record, "key-id").equals(key.kid)) {
            throw new Refusal("the header key-id names another key than the data key");
        }
        GenericRecord subject = Wire.decode(schemas.subject, sealed.open(Wire.SUBJECT, key));
        byte[] body = sealed.open(Wire.BODY, key);
        Schema writer = writer(HexFormat.of().formatHex(Wire.bytes(envelope.get("body_schema"))));
        ObjectNode out = (ObjectNode) Records.toJson(schemas.envelope, envelope);
        out.set("subject", Records.toJson(schemas.subject, subject));
        out.set("body", Records.toJson(writer, Wire.decode(writer, body)));
        String flow = text(record, "flow");
        long seq = follow(flow + "/" + record.topic() + "/" + record.partition(), text(record, "flow-seq"));
        if (header(record, "audit-salt").length != 32) {
            throw new Refusal("the header audit-salt has not 32 bytes");
        }
        out.put("policy", text(record, "policy")).put("flow", flow).put("seq", seq);
        return out.put("topic", record.topic()).put("partition", record.partition()).put("offset", record.offset());
    }

    private Wire.DataKey dataKey(byte[] header) {
        String name = new String(header, StandardCharsets.ISO_8859_1);
        Wire.DataKey key = open.get(name);
        if (key == null) {
            key = Wire.unwrap(header, bundle::privateKey);
            open.put(name, key);
        }
        return key;
    }

    /** The schema that the body was written with: on the topic `schemas` before the first record that has it. */
    private Schema writer(String fingerprint) {
        if (!published.containsKey(fingerprint)) {
            published = Schemas.published(bundle.published(bundle.text("topics", "schemas")));
        }
        Schema writer = published.get(fingerprint);
        if (writer == null || !family.equals(writer.getProp("family"))) {
            throw new Refusal("the body's schema " + fingerprint + " is not one of " + family + " on the topic schemas");
        }
        return writer;
    }

    /** Numbers are consecutive in a flow: a gap is a record that did not come. */
    private long follow(String flow, String number) {
        if (!number.matches("[0-9]{1,18}")) {
            throw new Refusal("the header flow-seq is not a number");
        }
        long seq = Long.parseLong(number);
        Long last = lastOf.put(flow, seq);
        if (last != null && seq > last + 1) {
            System.err.println("warning: " + flow + " went from " + last + " to " + seq + "; tell the operator");
        }
        return seq;
    }

    private static String text(ConsumerRecord<byte[], byte[]> record, String name) {
        return new String(header(record, name), StandardCharsets.US_ASCII);
    }

    private static byte[] header(ConsumerRecord<byte[], byte[]> record, String name) {
        List<Header> found =
                Arrays.stream(record.headers().toArray()).filter(header -> header.key().equals(name)).toList();
        if (found.size() != 1 || found.get(0).value() == null) {
            throw new Refusal("the record has not one header " + name);
        }
        return found.get(0).value();
    }
}
