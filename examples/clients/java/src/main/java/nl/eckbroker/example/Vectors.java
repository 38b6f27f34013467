package nl.eckbroker.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.nimbusds.jose.jwk.ECKey;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;

/** Holds this code against the published test vectors: framing, keyed hash, partition, sealing, value commitment. */
public final class Vectors {
    private static int held;

    private Vectors() {}

    public static void main(String[] given) {
        Arguments.run(() -> {
            Arguments arguments = new Arguments(given, "Vectors FOLDER [--schemas FOLDER]", 1, List.of("schemas"));
            Path folder = Path.of(arguments.words.get(0));
            Schemas schemas = arguments.schemas(folder);
            framing(read(folder, "framing"), schemas);
            keyedHash(read(folder, "keyed-hash"));
            partition(read(folder, "partition"));
            sealing(read(folder, "sealing"), schemas);
            commitment(read(folder, "leaf"));
            System.out.println(held + " vectors hold");
        });
    }

    private static void framing(JsonNode vector, Schemas schemas) {
        for (JsonNode case1 : vector.get("fingerprints")) {
            Schema schema = new Schema.Parser().parse(case1.get("canonical").asText());
            same("fingerprint", case1.get("hex"), Wire.fingerprint(schema));
        }
        JsonNode found = vector.get("record");
        byte[] value = hex(found.get("value"));
        same("fingerprint of Status", found.get("fingerprint"), Wire.fingerprint(schemas.status));
        byte[] record = Wire.unframe(schemas.status, value);
        GenericRecord status = Wire.decode(schemas.status, record);
        same("event_id of Status", found.get("datum").get("event_id").asText(), status.get("event_id").toString());
        byte[] again = Wire.frame(Wire.fingerprint(schemas.status), Wire.encode(schemas.status, status));
        same("framed Status", found.get("value"), again);
    }

    private static void keyedHash(JsonNode vector) {
        for (JsonNode case1 : vector.get("cases")) {
            byte[][] parts = new byte[case1.get("parts").size()][];
            Arrays.setAll(parts, i -> Wire.utf8(case1.get("parts").get(i).asText()));
            same("keyed hash", case1.get("hash"), Wire.keyedHash(hex(vector.get("key")), parts));
        }
    }

    private static void partition(JsonNode vector) {
        for (JsonNode case1 : vector.get("cases")) {
            int partition = Wire.partition(hex(case1.get("key")), case1.get("partitions").asInt());
            same("partition", case1.get("partition").asText(), String.valueOf(partition));
        }
    }

    private static void sealing(JsonNode vector, Schemas schemas) {
        JsonNode recipient = vector.get("recipient");
        String kid = recipient.get("kid").asText();
        ECKey key = Wire.key(recipient.get("jwk").toString(), kid);
        byte[] header = vector.get("data_key_header").asText().getBytes(StandardCharsets.US_ASCII);
        byte[] secret = hex(vector.get("data_secret"));
        Wire.DataKey dataKey = Wire.unwrap(header, id -> id.equals(kid) ? key : null);
        Wire.DataKey wrapped = Wire.unwrap(Wire.wrap(secret, key.toPublicJWK()), id -> id.equals(kid) ? key : null);
        byte[] value = hex(vector.get("value"));
        Wire.Sealed sealed = Wire.decodeEvent(schemas.envelope, value);
        same("prefix", vector.get("associated"), sealed.prefix());
        GenericRecord[] opened = new GenericRecord[2];
        for (String part : List.of(Wire.SUBJECT, Wire.BODY)) {
            JsonNode one = vector.get(part);
            same("key of " + part, one.get("key"), Wire.partKey(secret, part));
            same("key of " + part + " from the JWE", one.get("key"), dataKey.of(part));
            same("key of " + part + " from a JWE of ours", one.get("key"), wrapped.of(part));
            same("associated data", one.get("associated"), Wire.associated(sealed.prefix(), part));
            byte[] plain = sealed.open(part, dataKey);
            same("plain " + part, one.get("avro"), plain);
            Schema schema = part.equals(Wire.SUBJECT) ? schemas.subject : schemas.family("usage");
            same("encoded " + part, one.get("avro"), Wire.encode(schema, Wire.decode(schema, plain)));
        }
        GenericRecord again = new GenericData.Record((GenericData.Record) sealed.envelope(), true);
        byte[] made = Wire.encodeEvent(again, hex(vector.get("subject").get("avro")), hex(vector.get("body").get("avro")),
                dataKey, hex(vector.get("subject").get("nonce")), hex(vector.get("body").get("nonce")));
        same("value", vector.get("value"), made);
        for (int place : new int[] {20, value.length - 140, value.length - 1}) { // envelope, subject, body
            byte[] changed = value.clone();
            changed[place] ^= 1;
            refused(() -> {
                Wire.Sealed other = Wire.decodeEvent(schemas.envelope, changed);
                other.open(Wire.SUBJECT, dataKey);
                other.open(Wire.BODY, dataKey);
            });
        }
        refused(() -> Wire.unwrap(header, id -> null));
    }

    private static void commitment(JsonNode vector) {
        byte[] value = Wire.utf8(vector.get("value").get("text").asText());
        String made = Wire.commitment(hex(vector.get("salt_out")), value);
        same("commitment to a value", vector.get("value").get("commitment").asText(), made);
    }

    private static void refused(Runnable step) {
        try {
            step.run();
        } catch (Refusal expected) {
            held++;
            return;
        }
        throw new Refusal("a changed value was opened");
    }

    private static void same(String what, JsonNode expected, byte[] found) {
        same(what, expected.asText(), HexFormat.of().formatHex(found));
    }

    private static void same(String what, String expected, String found) {
        if (!expected.equals(found)) {
            throw new Refusal(what + " is not that of the vector");
        }
        held++;
    }

    private static byte[] hex(JsonNode text) {
        return HexFormat.of().parseHex(text.asText());
    }

    private static JsonNode read(Path folder, String name) throws Exception {
        return Records.JSON.readTree(folder.resolve(name + ".json").toFile());
    }
}
