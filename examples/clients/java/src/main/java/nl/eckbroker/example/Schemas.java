package nl.eckbroker.example;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.Schema;

/** The schemas that a program was made for (schemas/avro), and those that the broker wrote with (topic `schemas`). */
final class Schemas {
    final Schema envelope;
    final Schema subject;
    final Schema status;
    private final Path folder;
    private final Map<String, Schema> families = new HashMap<>();

    Schemas(Path folder) {
        this.folder = folder;
        this.envelope = file("envelope");
        this.subject = file("subject");
        this.status = file("status");
    }

    Schema family(String family) {
        return families.computeIfAbsent(family, name -> {
            Schema schema = file(name);
            if (!name.equals(schema.getProp("family"))) {
                throw new Refusal(name + " is not a family");
            }
            return schema;
        });
    }

    /** The field that identifies what the family's events are about, such as usage_id; or null. */
    String object(String family) {
        return family(family).getProp("object");
    }

    private Schema file(String name) {
        Path path = folder.resolve(name + ".v1.avsc");
        if (!name.matches("[a-z]+") || !Files.isRegularFile(path)) {
            throw new Refusal(
                    "there is no schema " + name + ".v1.avsc in " + folder + "; name its folder with --schemas");
        }
        try {
            return parse(Files.readString(path));
        } catch (IOException unreadable) {
            throw new Refusal(path + " can not be read");
        }
    }

    /** The topic `schemas` by fingerprint; each must have the fingerprint that it goes by. */
    static Map<String, Schema> published(Map<String, byte[]> records) {
        Map<String, Schema> found = new HashMap<>();
        records.forEach((fingerprint, json) -> {
            Schema schema = parse(new String(json, StandardCharsets.UTF_8));
            if (!hex(schema).equals(fingerprint)) {
                throw new Refusal("the schema " + fingerprint + " on the topic schemas has another fingerprint");
            }
            found.put(fingerprint, schema);
        });
        return found;
    }

    static String hex(Schema schema) {
        return HexFormat.of().formatHex(Wire.fingerprint(schema));
    }

    private static Schema parse(String json) {
        try {
            return new Schema.Parser().parse(json);
        } catch (AvroRuntimeException notOne) {
            throw new Refusal("what should be a schema is not one");
        }
    }
}
