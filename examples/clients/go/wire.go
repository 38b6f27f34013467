// Package client is an example client of the broker: its wire format, its records, and what a party's folder holds.
package client

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/avro"
)

// The wire format, byte for byte as docs/wire-format.md has it. Nothing in this file knows of Kafka.

const (
	secretBytes = 32
	nonceBytes  = 12
	tagBytes    = 16
	frameBytes  = 10
	maxJWEBytes = 1024
	maxRecords  = 1 << 20
	maxAge      = time.Hour
)

var marker = []byte{0xC3, 0x01}

// Fingerprint is CRC-64-AVRO of the schema's parsing canonical form, little endian.
func Fingerprint(schema *avro.Schema) []byte {
	crc := avro.NewRabin()
	crc.Write(schema.Canonical())
	return binary.LittleEndian.AppendUint64(nil, crc.Sum64())
}

// Frame puts marker and fingerprint before an encoded record.
func Frame(fingerprint, record []byte) []byte {
	return slices.Concat(marker, fingerprint, record)
}

// Unframe gives the record in a framed value that must have this schema.
func Unframe(schema *Schema, value []byte) ([]byte, error) {
	if len(value) < frameBytes || !bytes.HasPrefix(value, marker) {
		return nil, Refuse("the value is not an Avro single object (C3 01)")
	}
	if !bytes.Equal(value[2:frameBytes], schema.Fingerprint) {
		return nil, Refuse("the value has another schema than the %s that is known here", schema.Root.Name)
	}
	return value[frameBytes:], nil
}

// ---- sealed parts

// PartKey is the key of one part under a data secret.
func PartKey(secret []byte, part string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "eck-broker/v1/"+part, 32)
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	return key
}

// Seal encrypts a part: nonce, ciphertext, tag.
func Seal(key, nonce, plain, associated []byte) []byte {
	return gcm(key).Seal(bytes.Clone(nonce), nonce, plain, associated)
}

// Unseal decrypts a part.
func Unseal(key, sealed, associated []byte, part string) ([]byte, error) {
	if len(sealed) >= nonceBytes+tagBytes {
		if plain, err := gcm(key).Open(nil, sealed[:nonceBytes], sealed[nonceBytes:], associated); err == nil {
			return plain, nil
		}
	}
	return nil, Refuse("the %s does not open: it was changed, or belongs to another event", part)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// ---- events

// DataKey is a data secret in clear, and the JWE that carries it.
type DataKey struct {
	Header []byte
	KID    string
	parts  map[string][]byte
}

// NewDataKey derives the keys of the parts.
func NewDataKey(secret, header []byte, kid string) *DataKey {
	parts := map[string][]byte{"subject": PartKey(secret, "subject"), "body": PartKey(secret, "body")}
	return &DataKey{header, kid, parts}
}

// DataKeyMaker makes a sender's data keys for one recipient: a new one after an hour or 2^20 records.
type DataKeyMaker struct {
	Recipient *jose.JSONWebKey
	current   *DataKey
	used      int
	madeAt    time.Time
}

// Current is the key for the next record.
func (m *DataKeyMaker) Current() (*DataKey, error) {
	if m.current == nil || m.used >= maxRecords || time.Since(m.madeAt) >= maxAge {
		secret := random(secretBytes)
		header, err := Wrap(secret, m.Recipient)
		if err != nil {
			return nil, err
		}
		m.current, m.used, m.madeAt = NewDataKey(secret, header, m.Recipient.KeyID), 0, time.Now()
	}
	m.used++
	return m.current, nil
}

// EncodeEvent makes the value of a record: prefix, and the two sealed parts with their lengths.
func EncodeEvent(schema *Schema, envelope map[string]any, subject, body []byte, key *DataKey) ([]byte, error) {
	return encodeEvent(schema, envelope, subject, body, key, random(nonceBytes), random(nonceBytes))
}

// With nonces that are given: for the test vectors only.
func encodeEvent(
	schema *Schema, envelope map[string]any, subject, body []byte, key *DataKey, n1, n2 []byte,
) ([]byte, error) {
	envelope["subject"], envelope["body"] = []byte{}, []byte{}
	empty, err := schema.Encode(envelope)
	if err != nil {
		return nil, err
	}
	prefix := Frame(schema.Fingerprint, empty[:len(empty)-2])
	sealedSubject := Seal(key.parts["subject"], n1, subject, Associated(prefix, "subject"))
	sealedBody := Seal(key.parts["body"], n2, body, Associated(prefix, "body"))
	value := slices.Concat(prefix, varint(len(sealedSubject)), sealedSubject, varint(len(sealedBody)), sealedBody)
	return value, nil
}

// Sealed is an envelope, and the bytes before its two parts.
type Sealed struct {
	Envelope map[string]any
	Prefix   []byte
}

// DecodeEvent takes the value of a record apart.
func DecodeEvent(schema *Schema, value []byte) (*Sealed, error) {
	record, err := Unframe(schema, value)
	if err != nil {
		return nil, err
	}
	envelope, err := schema.Decode(record)
	if err != nil {
		return nil, err
	}
	tail := 0
	for _, part := range []string{"subject", "body"} {
		length := len(envelope[part].([]byte))
		tail += len(varint(length)) + length
	}
	return &Sealed{envelope, value[:len(value)-tail]}, nil
}

// Open decrypts a part.
func (s *Sealed) Open(part string, key *DataKey) ([]byte, error) {
	return Unseal(key.parts[part], s.Envelope[part].([]byte), Associated(s.Prefix, part), part)
}

// Associated is what is authenticated with a part.
func Associated(prefix []byte, part string) []byte {
	return slices.Concat(prefix, []byte(part))
}

func varint(length int) []byte {
	return binary.AppendVarint(nil, int64(length)) // zig-zag, as Avro has it
}

// ---- the data key on its way

// Wrap makes the JWE that carries a data secret to a recipient.
func Wrap(secret []byte, recipient *jose.JSONWebKey) ([]byte, error) {
	public := recipient.Public()
	to := jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: public.Key, KeyID: recipient.KeyID}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, to, nil)
	if err != nil {
		return nil, Refuse("the key %s can not be sealed for", recipient.KeyID)
	}
	jwe, err := encrypter.Encrypt(secret)
	if err != nil {
		return nil, Refuse("the key %s can not be sealed for", recipient.KeyID)
	}
	compact, err := jwe.CompactSerialize()
	return []byte(compact), err
}

// Unwrap opens a data-key header; privateKey gives the key of an id, or nil.
func Unwrap(header []byte, privateKey func(kid string) (*jose.JSONWebKey, error)) (*DataKey, error) {
	if len(header) == 0 || len(header) > maxJWEBytes {
		return nil, Refuse("there is no data-key header, or it is too long")
	}
	algorithms, encryptions := []jose.KeyAlgorithm{jose.ECDH_ES_A256KW}, []jose.ContentEncryption{jose.A256GCM}
	jwe, err := jose.ParseEncryptedCompact(string(header), algorithms, encryptions)
	if err != nil {
		return nil, Refuse("the data-key header is not a compact JWE with ECDH-ES+A256KW and A256GCM")
	}
	first, _, _ := strings.Cut(string(header), ".")
	var parameters map[string]json.RawMessage
	if raw, err := base64.RawURLEncoding.DecodeString(first); err != nil || json.Unmarshal(raw, &parameters) != nil {
		return nil, Refuse("the data-key header is not a compact JWE")
	}
	for _, name := range []string{"alg", "enc", "kid", "epk"} {
		if _, ok := parameters[name]; !ok || len(parameters) != 4 {
			return nil, Refuse("the data-key header has other parameters than alg, enc, kid, epk")
		}
	}
	kid := jwe.Header.KeyID
	key, err := privateKey(kid)
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, Refuse("the event is sealed for %s, a key that is not in keys/", kid)
	}
	secret, err := jwe.Decrypt(key.Key)
	if err != nil || len(secret) != secretBytes {
		return nil, Refuse("the data key does not open with %s", kid)
	}
	return NewDataKey(secret, header, kid), nil
}

// ParseKey takes a JWK only if it is a key on P-256.
func ParseKey(jwk []byte, kid string) (*jose.JSONWebKey, error) {
	var key jose.JSONWebKey
	// The error may quote the key: it goes no further.
	if json.Unmarshal(jwk, &key) == nil && key.Valid() {
		key.KeyID = kid
		switch found := key.Key.(type) {
		case *ecdsa.PublicKey:
			if found.Curve == elliptic.P256() {
				return &key, nil
			}
		case *ecdsa.PrivateKey:
			if found.Curve == elliptic.P256() {
				return &key, nil
			}
		}
	}
	return nil, Refuse("the key %s is no EC key on P-256", kid)
}

// ---- record keys and partitions

// KeyedHash is HMAC-SHA256 over the parts, each with its length in four bytes before it.
func KeyedHash(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// Commitment is what the audit leaf of a delivery says of a record's value: x.value.
func Commitment(salt, value []byte) string {
	return base64.RawURLEncoding.EncodeToString(KeyedHash(salt, []byte("audit/value/v1"), value))
}

// RecordKey is the key of a record: equal for one pupil at one school.
func RecordKey(secret []byte, school string, subject map[string]any) []byte {
	ids := subject["previous_user_ids"].([]any) // of MERGE and REPLACE: the ids that go away
	if len(ids) == 0 {
		ids = subject["user_ids"].([]any)
	}
	var texts []string
	for _, id := range ids {
		one := id.(map[string]any)
		texts = append(texts, one["type"].(string)+"="+one["value"].(string))
	}
	person, _ := subject["eck_id"].(string)
	if len(texts) > 0 {
		person = slices.Min(texts)
	}
	return KeyedHash(secret, []byte(school), []byte(person))
}

// Partition is where a record with this key goes.
func Partition(recordKey []byte, partitions int) int {
	return int(binary.BigEndian.Uint32(recordKey) % uint32(partitions))
}

func random(length int) []byte {
	out := make([]byte, length)
	rand.Read(out) // never fails: the program ends if the system has no randomness
	return out
}
