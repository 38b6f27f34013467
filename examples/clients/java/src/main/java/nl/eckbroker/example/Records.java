package nl.eckbroker.example;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import org.apache.avro.JsonProperties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;

/** JSON lines to Avro records and back: dates and times are ISO 8601 in JSON, days and milliseconds in Avro. */
final class Records {
    /** Refuses what stands after the first value: a second event on a line must not be lost in silence. */
    static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private static final Set<String> EVENT = Set.of(
            "event_id", "family", "kind", "school", "sector", "school_year", "created", "sender", "receiver",
            "correlation", "agreement", "subject", "body");

    private Records() {}

    /** What `broker send` takes as one line, as the three records that are sent; `envelope` without its two parts. */
    record Event(GenericRecord envelope, GenericRecord subject, GenericRecord body) {}

    static Event event(JsonNode line, String party, String family, Schemas schemas) {
        if (line == null || !line.isObject()) {
            throw new Refusal("not a JSON object");
        }
        refuseUnknown(line, EVENT, "the event");
        Schema bodySchema = schemas.family(family);
        String kind = line.path("kind").asText();
        JsonNode kinds = JSON.valueToTree(bodySchema.getObjectProp("kinds"));
        if (!kinds.has(kind)) {
            throw new Refusal("kind is not one of " + family + ": " + String.join(", ", names(kinds)));
        }
        if (line.hasNonNull("sender") && !line.get("sender").asText().equals(party)) {
            throw new Refusal("sender is another party: an event is sent in the party's own name only");
        }
        String created = line.hasNonNull("created") ? line.get("created").asText() : Instant.now().toString();
        ObjectNode envelope = JSON.createObjectNode();
        envelope.put("event_id", line.hasNonNull("event_id") ? line.get("event_id").asText() : newId());
        envelope.put("family", family).put("kind", kind).put("sender", party).put("created", created);
        for (String name : List.of("school", "sector", "receiver", "correlation", "agreement")) {
            if (line.hasNonNull(name)) {
                envelope.set(name, line.get(name));
            }
        }
        envelope.put("school_year",
                line.hasNonNull("school_year") ? line.get("school_year").asText() : schoolYear(created));
        envelope.put("body_schema", "").put("subject", "").put("body", ""); // bytes: set below, and by sealing
        ObjectNode subject = JSON.createObjectNode().put("kind", "NONE");
        if (line.hasNonNull("subject")) {
            subject.setAll(object(line.get("subject"), "subject"));
        }
        ObjectNode body = JSON.createObjectNode();
        if (schemas.object(family) != null) {
            body.put(schemas.object(family), newId()); // a new object, unless the line names one
        }
        if (line.hasNonNull("body")) {
            body.setAll(object(line.get("body"), "body"));
        }
        GenericRecord made = (GenericRecord) toAvro(schemas.envelope, envelope, "envelope");
        Schema fixed = schemas.envelope.getField("body_schema").schema();
        made.put("body_schema", new GenericData.Fixed(fixed, Wire.fingerprint(bodySchema)));
        return new Event(made, (GenericRecord) toAvro(schemas.subject, subject, "subject"),
                (GenericRecord) toAvro(bodySchema, body, "body"));
    }

    private static ObjectNode object(JsonNode node, String where) {
        if (node instanceof ObjectNode found) {
            return found;
        }
        throw new Refusal(where + " is not an object");
    }

    private static Object toAvro(Schema schema, JsonNode value, String where) {
        switch (schema.getType()) {
            case UNION:
                if (value.isNull()) {
                    return null;
                }
                return toAvro(present(schema), value, where);
            case RECORD:
                return record(schema, value, where);
            case ARRAY:
                require(value.isArray(), where, "a list");
                List<Object> items = new ArrayList<>();
                for (JsonNode item : value) {
                    items.add(toAvro(schema.getElementType(), item, where + "[" + items.size() + "]"));
                }
                return items;
            case ENUM:
                require(value.isTextual() && schema.hasEnumSymbol(value.asText()), where,
                        "one of " + String.join(", ", schema.getEnumSymbols()));
                return new GenericData.EnumSymbol(schema, value.asText());
            case STRING:
                require(value.isTextual(), where, "a text");
                return value.asText();
            case BYTES:
                return java.nio.ByteBuffer.allocate(0);
            case FIXED:
                return new GenericData.Fixed(schema, new byte[schema.getFixedSize()]);
            case BOOLEAN:
                require(value.isBoolean(), where, "true or false");
                return value.asBoolean();
            case INT:
                if (is(schema, "date")) {
                    return (int) date(value, where).toEpochDay();
                }
                require(value.canConvertToInt() && value.isIntegralNumber(), where, "a whole number of 32 bits");
                return value.asInt();
            case LONG:
                if (is(schema, "timestamp-millis")) {
                    return moment(value, where).toEpochMilli();
                }
                require(value.canConvertToLong() && value.isIntegralNumber(), where, "a whole number of 64 bits");
                return value.asLong();
            default:
                throw new Refusal(where + " has the Avro type " + schema.getType() + ", which no family has");
        }
    }

    private static GenericRecord record(Schema schema, JsonNode value, String where) {
        require(value.isObject(), where, "an object");
        Set<String> known = new TreeSet<>();
        schema.getFields().forEach(field -> known.add(field.name()));
        refuseUnknown(value, known, where);
        GenericRecord out = new GenericData.Record(schema);
        for (Schema.Field field : schema.getFields()) {
            String place = where + "." + field.name();
            if (value.has(field.name())) {
                out.put(field.name(), toAvro(field.schema(), value.get(field.name()), place));
            } else {
                require(field.hasDefaultValue(), place, "required");
                Object given = field.defaultVal();
                JsonNode standard = given == JsonProperties.NULL_VALUE ? JsonNodeFactory.instance.nullNode()
                        : JSON.valueToTree(given);
                out.put(field.name(), toAvro(field.schema(), standard, place));
            }
        }
        return out;
    }

    /** A record, or a value in one, as JSON; bytes have no place in it. */
    static JsonNode toJson(Schema schema, Object value) {
        JsonNodeFactory make = JsonNodeFactory.instance;
        if (value == null) {
            return make.nullNode();
        }
        switch (schema.getType()) {
            case UNION:
                return toJson(present(schema), value);
            case RECORD:
                ObjectNode object = make.objectNode();
                for (Schema.Field field : schema.getFields()) {
                    Schema.Type type = field.schema().getType();
                    if (type != Schema.Type.BYTES && type != Schema.Type.FIXED) {
                        object.set(field.name(), toJson(field.schema(), ((GenericRecord) value).get(field.pos())));
                    }
                }
                return object;
            case ARRAY:
                ArrayNode array = make.arrayNode();
                ((List<?>) value).forEach(item -> array.add(toJson(schema.getElementType(), item)));
                return array;
            case INT:
                return is(schema, "date") ? make.textNode(LocalDate.ofEpochDay((Integer) value).toString())
                        : make.numberNode((Integer) value);
            case LONG:
                return is(schema, "timestamp-millis") ? make.textNode(Instant.ofEpochMilli((Long) value).toString())
                        : make.numberNode((Long) value);
            case BOOLEAN:
                return make.booleanNode((Boolean) value);
            default:
                return make.textNode(value.toString());
        }
    }

    private static Schema present(Schema union) {
        return union.getTypes().stream().filter(type -> type.getType() != Schema.Type.NULL).findFirst().orElseThrow();
    }

    private static boolean is(Schema schema, String logicalType) {
        return schema.getLogicalType() != null && schema.getLogicalType().getName().equals(logicalType);
    }

    private static LocalDate date(JsonNode value, String where) {
        try {
            return LocalDate.parse(value.isTextual() ? value.asText() : "");
        } catch (DateTimeException notOne) {
            throw new Refusal(where + " is not a date such as 2026-11-24");
        }
    }

    private static Instant moment(JsonNode value, String where) {
        try {
            return OffsetDateTime.parse(value.isTextual() ? value.asText() : "").toInstant();
        } catch (DateTimeException notOne) {
            throw new Refusal(where + " is not a time with its zone, such as 2026-11-24T09:30:00Z");
        }
    }

    /** The school year of a time as it is written; it begins on 1 August. */
    private static String schoolYear(String created) {
        LocalDate day = date(JsonNodeFactory.instance.textNode(created.split("T", 2)[0]), "created");
        int first = day.getMonthValue() >= 8 ? day.getYear() : day.getYear() - 1;
        return first + "-" + (first + 1);
    }

    private static String newId() {
        return UUID.randomUUID().toString();
    }

    private static void require(boolean holds, String where, String what) {
        if (!holds) {
            throw new Refusal(where + " must be there and be " + what);
        }
    }

    private static void refuseUnknown(JsonNode value, Set<String> known, String where) {
        for (String name : names(value)) {
            if (!known.contains(name)) {
                throw new Refusal(where + " has no field " + name + "; it has: "
                        + String.join(", ", new TreeSet<>(known)));
            }
        }
    }

    private static List<String> names(JsonNode value) {
        List<String> found = new ArrayList<>();
        for (Iterator<String> each = value.fieldNames(); each.hasNext(); ) {
            found.add(each.next());
        }
        return found;
    }
}
