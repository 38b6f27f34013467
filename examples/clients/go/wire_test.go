package client

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/avro"
)

// Where the published test vectors are; the environment variable VECTORS names another place.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	folder := "../../../tests/vectors"
	if other := os.Getenv("VECTORS"); other != "" {
		folder = other
	}
	raw, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// Bytes are hex in the vectors.
type Bytes []byte

func (b *Bytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	*b = raw
	return err
}

func same(t *testing.T, what string, expected, found []byte) {
	t.Helper()
	if string(expected) != string(found) {
		t.Errorf("%s is not that of the vector: %x", what, found)
	}
}

func schemasOf(t *testing.T) *Schemas {
	t.Helper()
	schemas, err := LoadSchemas("", ".")
	if err != nil {
		t.Fatal(err)
	}
	return schemas
}

func TestFraming(t *testing.T) {
	var vector struct {
		Fingerprints []struct {
			Canonical string
			Hex       Bytes
		}
		Record struct {
			Canonical   string
			Fingerprint Bytes
			Value       Bytes
		}
	}
	vectors(t, "framing", &vector)
	for _, one := range vector.Fingerprints {
		same(t, one.Canonical, one.Hex, Fingerprint(avro.MustParse(one.Canonical)))
	}
	status := schemasOf(t).Status
	same(t, "the canonical form", []byte(vector.Record.Canonical), status.plain.Canonical())
	same(t, "the fingerprint", vector.Record.Fingerprint, status.Fingerprint)
	data, err := Unframe(status, vector.Record.Value)
	if err != nil {
		t.Fatal(err)
	}
	record, err := status.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := status.Encode(record)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the framed record", vector.Record.Value, Frame(status.Fingerprint, again))
}

func TestKeyedHash(t *testing.T) {
	var vector struct {
		Key   Bytes
		Cases []struct {
			Parts []string
			Hash  Bytes
		}
	}
	vectors(t, "keyed-hash", &vector)
	for _, one := range vector.Cases {
		var parts [][]byte
		for _, part := range one.Parts {
			parts = append(parts, []byte(part))
		}
		same(t, "the hash", one.Hash, KeyedHash(vector.Key, parts...))
	}
}

func TestPartition(t *testing.T) {
	var vector struct {
		Cases []struct {
			Key                   Bytes
			Partitions, Partition int
		}
	}
	vectors(t, "partition", &vector)
	for _, one := range vector.Cases {
		if found := Partition(one.Key, one.Partitions); found != one.Partition {
			t.Errorf("partition %d, not %d", found, one.Partition)
		}
	}
}

func TestCommitment(t *testing.T) {
	var vector struct {
		Salt  Bytes `json:"salt_out"`
		Value struct{ Text, Commitment string }
	}
	vectors(t, "leaf", &vector)
	same(t, "the commitment", []byte(vector.Value.Commitment), []byte(Commitment(vector.Salt, []byte(vector.Value.Text))))
}

func TestSealing(t *testing.T) {
	type part struct{ Avro, Key, Nonce, Associated Bytes }
	var vector struct {
		Secret    Bytes `json:"data_secret"`
		Recipient struct {
			KID string
			JWK json.RawMessage
		}
		Header     string `json:"data_key_header"`
		Associated Bytes
		Subject    part
		Body       part
		Value      Bytes
	}
	vectors(t, "sealing", &vector)
	schemas := schemasOf(t)
	usage, err := schemas.Of("usage")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(vector.Recipient.JWK, vector.Recipient.KID)
	if err != nil {
		t.Fatal(err)
	}
	ours := func(kid string) (*jose.JSONWebKey, error) {
		if kid == key.KeyID {
			return key, nil
		}
		return nil, nil
	}
	dataKey, err := Unwrap([]byte(vector.Header), ours)
	if err != nil {
		t.Fatal(err)
	}
	header, err := Wrap(vector.Secret, key)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := Unwrap(header, ours)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := DecodeEvent(schemas.Envelope, vector.Value)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the prefix", vector.Associated, sealed.Prefix)
	for name, one := range map[string]part{"subject": vector.Subject, "body": vector.Body} {
		same(t, "the key", one.Key, PartKey(vector.Secret, name))
		same(t, "the key from the JWE", one.Key, dataKey.parts[name])
		same(t, "the key from a JWE of ours", one.Key, wrapped.parts[name])
		same(t, "the associated data", one.Associated, Associated(sealed.Prefix, name))
		plain, err := sealed.Open(name, dataKey)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the plain part", one.Avro, plain)
		schema := map[string]*Schema{"subject": schemas.Subject, "body": usage}[name]
		record, err := schema.Decode(plain)
		if err != nil {
			t.Fatal(err)
		}
		again, err := schema.Encode(record)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the encoded part", one.Avro, again)
	}
	made, err := encodeEvent(schemas.Envelope, sealed.Envelope, vector.Subject.Avro, vector.Body.Avro, dataKey,
		vector.Subject.Nonce, vector.Body.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the value", vector.Value, made)
	length := len(vector.Value)
	for _, place := range []int{20, length - 140, length - 1} { // envelope, subject, body
		changed := append([]byte{}, vector.Value...)
		changed[place] ^= 1
		if opens(schemas.Envelope, changed, dataKey) {
			t.Errorf("a value that was changed at %d was opened", place)
		}
	}
	if _, err := Unwrap([]byte(vector.Header), func(string) (*jose.JSONWebKey, error) { return nil, nil }); err == nil {
		t.Error("a data key was opened without its private key")
	}
}

func opens(schema *Schema, value []byte, key *DataKey) bool {
	sealed, err := DecodeEvent(schema, value)
	if err != nil {
		return false
	}
	_, first := sealed.Open("subject", key)
	_, second := sealed.Open("body", key)
	return first == nil && second == nil
}
