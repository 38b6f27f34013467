package nl.eckbroker.example;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends events from JSON lines, sealed for the broker. */
public final class Send {
    private static final String USAGE = "Send BUNDLE FAMILY FILE|- [--schemas FOLDER]";

    private Send() {}

    public static void main(String[] given) {
        Arguments.run(() -> send(new Arguments(given, USAGE, 3, List.of("schemas"))));
    }

    private static void send(Arguments arguments) throws Exception {
        Path folder = Path.of(arguments.words.get(0));
        Bundle bundle = new Bundle(folder);
        Schemas schemas = arguments.schemas(folder);
        String family = arguments.words.get(1);
        // All lines first: with an error in one, nothing is sent.
        List<Records.Event> events = read(arguments.words.get(2), bundle.party, family, schemas);
        String fingerprint = Schemas.hex(schemas.family(family));
        if (!bundle.published(bundle.text("topics", "schemas")).containsKey(fingerprint)) {
            throw new Refusal(
                    "the broker does not know this " + family + " schema (" + fingerprint + "): take its files");
        }
        Wire.DataKeyMaker keys = new Wire.DataKeyMaker(bundle.brokerKey());
        byte[] secret = bundle.recordKeySecret();
        String topic = bundle.text("topics", "in");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings(bundle))) {
            int partitions = producer.partitionsFor(topic).size();
            List<Future<RecordMetadata>> queued = new ArrayList<>();
            for (Records.Event event : events) {
                GenericRecord envelope = event.envelope();
                byte[] subject = Wire.encode(schemas.subject, event.subject());
                byte[] body = Wire.encode(schemas.family(family), event.body());
                Wire.DataKey dataKey = keys.current();
                byte[] value = Wire.encodeEvent(envelope, subject, body, dataKey);
                byte[] key = Wire.recordKey(secret, envelope.get("school").toString(), event.subject());
                ProducerRecord<byte[], byte[]> record =
                        new ProducerRecord<>(topic, Wire.partition(key, partitions), key, value);
                record.headers().add("data-key", dataKey.header);
                queued.add(producer.send(record));
            }
            for (int i = 0; i < queued.size(); i++) {
                RecordMetadata where = queued.get(i).get(); // on all replicas in sync
                System.out.println(Records.JSON.createObjectNode()
                        .put("event_id", events.get(i).envelope().get("event_id").toString())
                        .put("topic", topic).put("partition", where.partition()).put("offset", where.offset()));
            }
        }
    }

    private static Properties settings(Bundle bundle) {
        Properties settings = bundle.kafka();
        settings.put("key.serializer", ByteArraySerializer.class);
        settings.put("value.serializer", ByteArraySerializer.class);
        settings.put("acks", "all");
        settings.put("enable.idempotence", true);
        settings.put("compression.type", "lz4");
        settings.put("max.block.ms", Bundle.PATIENCE_MS);
        settings.put("linger.ms", 5);
        settings.put("delivery.timeout.ms", 2 * Bundle.PATIENCE_MS);
        return settings;
    }

    private static List<Records.Event> read(String file, String party, String family, Schemas schemas)
            throws IOException {
        List<Records.Event> events = new ArrayList<>();
        if (!file.equals("-") && !Files.isReadable(Path.of(file))) {
            throw new Refusal("there is no file " + file);
        }
        try (BufferedReader reader = file.equals("-")
                ? new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
                : Files.newBufferedReader(Path.of(file))) {
            int number = 0;
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                number++;
                if (line.isBlank()) {
                    continue;
                }
                try {
                    JsonNode document = Records.JSON.readTree(line);
                    events.add(Records.event(document, party, family, schemas));
                } catch (JsonProcessingException notJson) {
                    throw new Refusal("line " + number + ": not JSON; nothing was sent");
                } catch (Refusal refusal) {
                    throw new Refusal("line " + number + ": " + refusal.getMessage() + "; nothing was sent");
                }
            }
        }
        return events;
    }
}
