package nl.eckbroker.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.nimbusds.jose.jwk.ECKey;
import java.io.IOException;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.time.Duration;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The folder that the operator gave to a party: where Kafka is, its login and its keys. */
final class Bundle {
    static final int PATIENCE_MS = 15_000;

    final String party;
    private final Path folder;
    private final JsonNode document;

    Bundle(Path folder) {
        this.folder = folder;
        refuseReadable(folder);
        this.document = json(folder.resolve("party.json"));
        this.party = text("party");
    }

    String text(String... path) {
        JsonNode node = document;
        for (String name : path) {
            node = node.path(name);
        }
        if (!node.isTextual()) {
            throw new Refusal("party.json in " + folder + " does not name " + String.join(".", path));
        }
        return node.asText();
    }

    /** The topic on which a family arrives. */
    String out(String family) {
        if (!document.path("topics").path("out").path(family).isTextual()) {
            throw new Refusal(party + " receives no " + family + ": party.json has no such topic");
        }
        return text("topics", "out", family);
    }

    /** How to reach Kafka: TLS, with the host's name held against its certificate, and a login. Nothing else is taken. */
    Properties kafka() {
        Properties settings = new Properties();
        try (Reader reader = Files.newBufferedReader(folder.resolve("kafka/java.properties"))) {
            settings.load(reader);
        } catch (IOException missing) {
            throw new Refusal("kafka/java.properties in " + folder + " can not be read");
        }
        String algorithm = settings.getProperty("ssl.endpoint.identification.algorithm", "https");
        if (!"SASL_SSL".equals(settings.getProperty("security.protocol")) || !"https".equalsIgnoreCase(algorithm)
                || !settings.getProperty("sasl.mechanism", "").startsWith("SCRAM-SHA-")) {
            throw new Refusal("kafka/java.properties must have security.protocol=SASL_SSL, a SCRAM mechanism and the"
                    + " host's name checked: this program does not connect otherwise");
        }
        settings.computeIfPresent("ssl.truststore.location", (name, path) -> folder.resolve((String) path).toString());
        settings.put("default.api.timeout.ms", PATIENCE_MS);
        settings.put("request.timeout.ms", PATIENCE_MS - 1000);
        return settings;
    }

    /** Settings of a consumer that sees only what was committed, and decides itself what counts as read. */
    Properties consumer() {
        Properties settings = kafka();
        settings.put("key.deserializer", ByteArrayDeserializer.class);
        settings.put("value.deserializer", ByteArrayDeserializer.class);
        settings.put("isolation.level", "read_committed");
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "earliest");
        settings.put("allow.auto.create.topics", false);
        return settings;
    }

    /** A compacted topic of one partition, from its beginning to its present end. */
    Map<String, byte[]> published(String topic) {
        Map<String, byte[]> found = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consumer())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    String key = record.key() == null ? "" : new String(record.key(), StandardCharsets.UTF_8);
                    if (record.value() == null) {
                        found.remove(key);
                    } else {
                        found.put(key, record.value());
                    }
                }
            }
        }
        return found;
    }

    /** The broker's newest public key. */
    ECKey brokerKey() {
        ECKey newest = null;
        long newestCreated = Long.MIN_VALUE;
        for (Map.Entry<String, byte[]> record : published(text("topics", "broker_keys")).entrySet()) {
            JsonNode key;
            try {
                key = Records.JSON.readTree(record.getValue());
            } catch (IOException notJson) {
                throw new Refusal("the key " + record.getKey() + " of the broker is not JSON");
            }
            if (key.path("created").asLong() > newestCreated) {
                newestCreated = key.path("created").asLong();
                newest = Wire.key(key.path("jwk").toString(), record.getKey()).toPublicJWK();
            }
        }
        if (newest == null) {
            throw new Refusal("the broker has published no key; ask its operator");
        }
        return newest;
    }

    /** The private key of this id, or null. The id comes from outside: what can be no file name is not looked up. */
    ECKey privateKey(String kid) {
        Path path = folder.resolve("keys").resolve(kid + ".jwk");
        if (!kid.matches("[a-z0-9][a-z0-9.-]{0,83}") || !Files.isRegularFile(path)) {
            return null;
        }
        ECKey key = Wire.key(json(path).path("jwk").toString(), kid);
        return key.isPrivate() ? key : null;
    }

    /** The secret of the record keys. */
    byte[] recordKeySecret() {
        try {
            byte[] secret = HexFormat.of().parseHex(Files.readString(folder.resolve("keys/record-key.secret")).strip());
            if (secret.length == Wire.SECRET_BYTES) {
                return secret;
            }
        } catch (IOException | IllegalArgumentException damaged) {
            // Refused below, without a word of what stands in it.
        }
        throw new Refusal("keys/record-key.secret in " + folder + " is missing or damaged");
    }

    /** A password or a key that others can read is one that they may have. Where files have no modes nothing is said. */
    private static void refuseReadable(Path folder) {
        if (!folder.getFileSystem().supportedFileAttributeViews().contains("posix")) {
            return;
        }
        Set<PosixFilePermission> owner =
                Set.of(PosixFilePermission.OWNER_READ, PosixFilePermission.OWNER_WRITE, PosixFilePermission.OWNER_EXECUTE);
        for (String place : List.of("connection.json", "kafka", "keys")) {
            Path path = folder.resolve(place);
            try (Stream<Path> files = Files.isDirectory(path) ? Files.list(path) : Stream.of(path)) {
                for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
                    if (!owner.containsAll(Files.getPosixFilePermissions(file))) {
                        throw new Refusal("others can read " + file + ": it holds a password or a key. Run: chmod -R go= "
                                + folder + ". Was the machine shared, then ask the operator for a new password and key");
                    }
                }
            } catch (IOException unreadable) {
                throw new Refusal(path + " can not be read");
            }
        }
    }

    private static JsonNode json(Path path) {
        try {
            return Records.JSON.readTree(Files.readAllBytes(path));
        } catch (IOException damaged) {
            throw new Refusal(path + " is missing or is not JSON"); // no cause: a parser quotes, and this may be a key
        }
    }
}
