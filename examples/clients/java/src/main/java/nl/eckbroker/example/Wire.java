package nl.eckbroker.example;

import com.nimbusds.jose.EncryptionMethod;
import com.nimbusds.jose.JOSEException;
import com.nimbusds.jose.JWEAlgorithm;
import com.nimbusds.jose.JWEHeader;
import com.nimbusds.jose.JWEObject;
import com.nimbusds.jose.Payload;
import com.nimbusds.jose.crypto.ECDHDecrypter;
import com.nimbusds.jose.crypto.ECDHEncrypter;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.text.ParseException;
import java.util.Arrays;
import java.util.Base64;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.function.Function;
import javax.crypto.AEADBadTagException;
import javax.crypto.Cipher;
import javax.crypto.Mac;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** The wire format, byte for byte as docs/wire-format.md has it. Nothing here knows of Kafka. */
final class Wire {
    static final String SUBJECT = "subject";
    static final String BODY = "body";
    static final int SECRET_BYTES = 32;

    private static final byte[] MARKER = {(byte) 0xC3, 0x01};
    private static final int FRAME_BYTES = 10;
    private static final int NONCE_BYTES = 12;
    private static final int TAG_BYTES = 16;
    private static final int MAX_JWE_BYTES = 1024;
    private static final int MAX_RECORDS = 1 << 20;
    private static final long MAX_AGE_NANOS = 3_600_000_000_000L;
    private static final Set<String> JWE_HEADER = Set.of("alg", "enc", "kid", "epk");
    private static final SecureRandom RANDOM = new SecureRandom();

    private Wire() {}

    // ---- Avro

    /** CRC-64-AVRO of the schema's parsing canonical form, little endian. */
    static byte[] fingerprint(Schema schema) {
        try {
            return SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema);
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    static byte[] encode(Schema schema, GenericRecord record) {
        try {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
            new GenericDatumWriter<GenericRecord>(schema).write(record, encoder);
            encoder.flush();
            return out.toByteArray();
        } catch (IOException impossible) {
            throw new UncheckedIOException(impossible);
        }
    }

    /** Reads one record, and refuses anything after it. */
    static GenericRecord decode(Schema schema, byte[] bytes) {
        try {
            BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(bytes, null);
            GenericRecord record = new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
            if (decoder.isEnd()) {
                return record;
            }
        } catch (IOException | AvroRuntimeException notThisSchema) {
            // The exception may quote what it read: it goes no further.
        }
        throw new Refusal("the bytes are not one record of " + schema.getFullName());
    }

    static byte[] frame(byte[] fingerprint, byte[] record) {
        return join(MARKER, fingerprint, record);
    }

    /** The record in a framed value that must have this schema. */
    static byte[] unframe(Schema schema, byte[] value) {
        if (value == null || value.length < FRAME_BYTES || !Arrays.equals(value, 0, 2, MARKER, 0, 2)) {
            throw new Refusal("the value is not an Avro single object (C3 01)");
        }
        if (!Arrays.equals(value, 2, FRAME_BYTES, fingerprint(schema), 0, 8)) {
            throw new Refusal("the value has another schema than the " + schema.getName() + " that is known here");
        }
        return Arrays.copyOfRange(value, FRAME_BYTES, value.length);
    }

    // ---- sealed parts

    /** HKDF-SHA256 with an empty salt; 32 bytes are one block of its output. */
    static byte[] partKey(byte[] secret, String part) {
        byte[] pseudorandom = hmac(new byte[32], secret);
        return hmac(pseudorandom, join(("eck-broker/v1/" + part).getBytes(StandardCharsets.US_ASCII), new byte[] {1}));
    }

    static byte[] seal(byte[] key, byte[] nonce, byte[] plain, byte[] associated) {
        try {
            return join(nonce, gcm(Cipher.ENCRYPT_MODE, key, nonce, plain, associated));
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException("this Java has no AES-256-GCM");
        }
    }

    static byte[] unseal(byte[] key, byte[] sealed, byte[] associated, String part) {
        if (sealed.length >= NONCE_BYTES + TAG_BYTES) {
            try {
                byte[] nonce = Arrays.copyOf(sealed, NONCE_BYTES);
                byte[] rest = Arrays.copyOfRange(sealed, NONCE_BYTES, sealed.length);
                return gcm(Cipher.DECRYPT_MODE, key, nonce, rest, associated);
            } catch (AEADBadTagException changed) {
                // Refused below.
            } catch (GeneralSecurityException impossible) {
                throw new IllegalStateException("this Java has no AES-256-GCM");
            }
        }
        throw new Refusal("the " + part + " does not open: it was changed, or belongs to another event");
    }

    static byte[] nonce() {
        return random(NONCE_BYTES);
    }

    private static byte[] gcm(int mode, byte[] key, byte[] nonce, byte[] text, byte[] associated)
            throws GeneralSecurityException {
        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        cipher.init(mode, new SecretKeySpec(key, "AES"), new GCMParameterSpec(8 * TAG_BYTES, nonce));
        cipher.updateAAD(associated);
        return cipher.doFinal(text);
    }

    // ---- events

    /** A data secret in clear, and the JWE that carries it. */
    static final class DataKey {
        final byte[] header;
        final String kid;
        private final byte[] subject;
        private final byte[] body;

        DataKey(byte[] secret, byte[] header, String kid) {
            this.header = header;
            this.kid = kid;
            this.subject = partKey(secret, SUBJECT);
            this.body = partKey(secret, BODY);
        }

        byte[] of(String part) {
            return part.equals(SUBJECT) ? subject : body;
        }
    }

    /** Makes a sender's data keys for one recipient: a new one after an hour or 2^20 records. */
    static final class DataKeyMaker {
        private final ECKey recipient;
        private DataKey current;
        private int used;
        private long madeAt;

        DataKeyMaker(ECKey recipient) {
            this.recipient = recipient;
        }

        DataKey current() {
            if (current == null || used >= MAX_RECORDS || System.nanoTime() - madeAt >= MAX_AGE_NANOS) {
                byte[] secret = random(SECRET_BYTES);
                current = new DataKey(secret, wrap(secret, recipient), recipient.getKeyID());
                used = 0;
                madeAt = System.nanoTime();
            }
            used++;
            return current;
        }
    }

    /** The value of a record: prefix, and the two sealed parts with their lengths. */
    static byte[] encodeEvent(GenericRecord envelope, byte[] subject, byte[] body, DataKey key) {
        return encodeEvent(envelope, subject, body, key, nonce(), nonce());
    }

    /** With nonces that are given: for the test vectors only. */
    static byte[] encodeEvent(GenericRecord envelope, byte[] subject, byte[] body, DataKey key, byte[] n1, byte[] n2) {
        envelope.put(SUBJECT, ByteBuffer.allocate(0));
        envelope.put(BODY, ByteBuffer.allocate(0));
        byte[] framed = frame(fingerprint(envelope.getSchema()), encode(envelope.getSchema(), envelope));
        byte[] prefix = Arrays.copyOf(framed, framed.length - 2);
        byte[] sealedSubject = seal(key.of(SUBJECT), n1, subject, associated(prefix, SUBJECT));
        byte[] sealedBody = seal(key.of(BODY), n2, body, associated(prefix, BODY));
        return join(prefix, varint(sealedSubject.length), sealedSubject, varint(sealedBody.length), sealedBody);
    }

    /** An envelope, and the bytes before its two parts. */
    record Sealed(GenericRecord envelope, byte[] prefix) {
        byte[] open(String part, DataKey key) {
            return unseal(key.of(part), bytes(envelope.get(part)), associated(prefix, part), part);
        }
    }

    static Sealed decodeEvent(Schema envelopeSchema, byte[] value) {
        GenericRecord envelope = decode(envelopeSchema, unframe(envelopeSchema, value));
        int tail = 0;
        for (String part : List.of(SUBJECT, BODY)) {
            int length = bytes(envelope.get(part)).length;
            tail += varint(length).length + length;
        }
        return new Sealed(envelope, Arrays.copyOf(value, value.length - tail));
    }

    static byte[] associated(byte[] prefix, String part) {
        return join(prefix, part.getBytes(StandardCharsets.US_ASCII));
    }

    static byte[] varint(int length) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        long rest = 2L * length; // zig-zag of a number that is not negative
        for (; rest > 0x7F; rest >>>= 7) {
            out.write((int) (rest & 0x7F | 0x80));
        }
        out.write((int) rest);
        return out.toByteArray();
    }

    // ---- the data key on its way

    static byte[] wrap(byte[] secret, ECKey recipient) {
        try {
            JWEHeader header = new JWEHeader.Builder(JWEAlgorithm.ECDH_ES_A256KW, EncryptionMethod.A256GCM)
                    .keyID(recipient.getKeyID()).build();
            JWEObject jwe = new JWEObject(header, new Payload(secret));
            jwe.encrypt(new ECDHEncrypter(recipient.toPublicJWK()));
            return jwe.serialize().getBytes(StandardCharsets.US_ASCII);
        } catch (JOSEException unusable) {
            throw new Refusal("the key " + recipient.getKeyID() + " can not be sealed for");
        }
    }

    /** Opens a data-key header; `privateKeys` gives the key of an id, or null. */
    static DataKey unwrap(byte[] header, Function<String, ECKey> privateKeys) {
        if (header == null || header.length > MAX_JWE_BYTES) {
            throw new Refusal("there is no data-key header, or it is too long");
        }
        JWEObject jwe;
        try {
            jwe = JWEObject.parse(new String(header, StandardCharsets.US_ASCII));
        } catch (ParseException notOne) {
            throw new Refusal("the data-key header is not a compact JWE");
        }
        JWEHeader protectedHeader = jwe.getHeader();
        if (!JWEAlgorithm.ECDH_ES_A256KW.equals(protectedHeader.getAlgorithm())
                || !EncryptionMethod.A256GCM.equals(protectedHeader.getEncryptionMethod())
                || !protectedHeader.getIncludedParams().equals(JWE_HEADER)) {
            throw new Refusal("the data-key header has other parameters than alg ECDH-ES+A256KW, enc A256GCM, kid, epk");
        }
        ECKey key = privateKeys.apply(protectedHeader.getKeyID());
        if (key == null) {
            throw new Refusal("the event is sealed for " + protectedHeader.getKeyID() + ", a key that is not in keys/");
        }
        try {
            jwe.decrypt(new ECDHDecrypter(key));
        } catch (JOSEException damaged) {
            throw new Refusal("the data key does not open with " + protectedHeader.getKeyID());
        }
        byte[] secret = jwe.getPayload().toBytes();
        if (secret.length != SECRET_BYTES) {
            throw new Refusal("the data key does not open with " + protectedHeader.getKeyID());
        }
        return new DataKey(secret, header, protectedHeader.getKeyID());
    }

    /** Takes a JWK only if it is a key on P-256. */
    static ECKey key(String jwk, String kid) {
        try {
            ECKey key = ECKey.parse(jwk);
            if (Curve.P_256.equals(key.getCurve())) {
                return new ECKey.Builder(key).keyID(kid).build();
            }
        } catch (ParseException | RuntimeException notOne) {
            // The exception may quote the key: it goes no further.
        }
        throw new Refusal("the key " + kid + " is no EC key on P-256");
    }

    // ---- record keys and partitions

    /** HMAC-SHA256 over the parts, each with its length in four bytes before it. */
    static byte[] keyedHash(byte[] key, byte[]... parts) {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            message.writeBytes(ByteBuffer.allocate(4).putInt(part.length).array());
            message.writeBytes(part);
        }
        return hmac(key, message.toByteArray());
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** What the audit leaf of a delivery says of a record's value: `x.value`. */
    static String commitment(byte[] salt, byte[] value) {
        byte[] hash = keyedHash(salt, utf8("audit/value/v1"), value);
        return Base64.getUrlEncoder().withoutPadding().encodeToString(hash);
    }

    /** The key of a record: equal for one pupil at one school. */
    static byte[] recordKey(byte[] secret, String school, GenericRecord subject) {
        List<?> ids = (List<?>) subject.get("previous_user_ids"); // of MERGE and REPLACE: the ids that go away
        if (ids.isEmpty()) {
            ids = (List<?>) subject.get("user_ids");
        }
        Object eckId = subject.get("eck_id");
        String person = ids.stream()
                .map(id -> ((GenericRecord) id).get("type") + "=" + ((GenericRecord) id).get("value"))
                .min(Comparator.comparing(Wire::utf8, Arrays::compareUnsigned))
                .orElse(eckId == null ? "" : eckId.toString());
        return keyedHash(secret, utf8(school), utf8(person));
    }

    static int partition(byte[] recordKey, int partitions) {
        return (int) (Integer.toUnsignedLong(ByteBuffer.wrap(recordKey).getInt()) % partitions);
    }

    // ---- bytes

    static byte[] bytes(Object avro) {
        if (avro instanceof GenericData.Fixed fixed) {
            return fixed.bytes();
        }
        ByteBuffer buffer = ((ByteBuffer) avro).duplicate();
        byte[] out = new byte[buffer.remaining()];
        buffer.get(out);
        return out;
    }

    private static byte[] random(int length) {
        byte[] out = new byte[length];
        RANDOM.nextBytes(out);
        return out;
    }

    private static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            out.writeBytes(part);
        }
        return out.toByteArray();
    }

    private static byte[] hmac(byte[] key, byte[] message) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return mac.doFinal(message);
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException("this Java has no HMAC-SHA256");
        }
    }
}
