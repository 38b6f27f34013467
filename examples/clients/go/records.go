package client

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/avro"
)

// Refusal is what was refused, in one sentence that holds nothing of a person and no key.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Refuse makes one.
func Refuse(format string, values ...any) error {
	return Refusal(fmt.Sprintf(format, values...))
}

// Schema is a schema, made ready. Root has its logical types; what is encoded has none, so that dates are days.
type Schema struct {
	Root        *avro.SchemaNode
	Fingerprint []byte
	plain       *avro.Schema
}

// ParseSchema reads the JSON of a schema.
func ParseSchema(document []byte) (*Schema, error) {
	parsed, err := avro.Parse(string(document))
	if err != nil {
		return nil, Refuse("what should be a schema is not one")
	}
	plain, err := avro.Parse(string(parsed.Canonical()))
	if err != nil {
		return nil, Refuse("what should be a schema is not one")
	}
	return &Schema{parsed.Root().ExpandReferences(), Fingerprint(parsed), plain}, nil
}

// Encode writes one record.
func (s *Schema) Encode(record map[string]any) ([]byte, error) {
	out, err := s.plain.Encode(record)
	if err != nil {
		return nil, Refuse("the record is not one of %s", s.Root.Name) // the error may quote the record
	}
	return out, nil
}

// Decode reads one record, and refuses anything after it.
func (s *Schema) Decode(data []byte) (map[string]any, error) {
	var found any
	rest, err := s.plain.Decode(data, &found)
	record, ok := found.(map[string]any)
	if err != nil || len(rest) > 0 || !ok {
		return nil, Refuse("the bytes are not one record of %s", s.Root.Name)
	}
	return record, nil
}

// JSON is a decoded record as JSON takes it; bytes have no place in it.
func (s *Schema) JSON(record map[string]any) map[string]any {
	return toJSON(s.Root, record).(map[string]any)
}

// Family is the family that a schema is of.
func (s *Schema) Family() string {
	family, _ := s.Root.Props["family"].(string)
	return family
}

// Schemas are those that a program was made for.
type Schemas struct {
	Envelope, Subject, Status *Schema
	folder                    string
}

// LoadSchemas reads the folder that is named, else that of the party's folder, else that of the broker's source tree.
func LoadSchemas(folder, bundle string) (*Schemas, error) {
	if folder == "" {
		folder = filepath.Join(bundle, "schemas")
		if _, err := os.Stat(filepath.Join(folder, "envelope.v1.avsc")); err != nil {
			folder = "../../../schemas/avro"
		}
	}
	found := &Schemas{folder: folder}
	for name, schema := range map[string]**Schema{
		"envelope": &found.Envelope, "subject": &found.Subject, "status": &found.Status,
	} {
		read, err := found.file(name)
		if err != nil {
			return nil, err
		}
		*schema = read
	}
	return found, nil
}

// Of gives a family's schema.
func (s *Schemas) Of(family string) (*Schema, error) {
	schema, err := s.file(family)
	if err == nil && schema.Family() != family {
		err = Refuse("%s is not a family", family)
	}
	return schema, err
}

var schemaName = regexp.MustCompile(`^[a-z]+$`)

func (s *Schemas) file(name string) (*Schema, error) {
	document, err := os.ReadFile(filepath.Join(s.folder, name+".v1.avsc"))
	if err != nil || !schemaName.MatchString(name) {
		return nil, Refuse("there is no schema %s.v1.avsc in %s; name its folder with -schemas", name, s.folder)
	}
	return ParseSchema(document)
}

// PublishedSchemas is the topic schemas by fingerprint; each must have the fingerprint that it goes by.
func PublishedSchemas(records map[string][]byte) (map[string]*Schema, error) {
	found := map[string]*Schema{}
	for fingerprint, document := range records {
		schema, err := ParseSchema(document)
		if err != nil {
			return nil, err
		}
		if hex.EncodeToString(schema.Fingerprint) != fingerprint {
			return nil, Refuse("the schema %s on the topic schemas has another fingerprint", fingerprint)
		}
		found[fingerprint] = schema
	}
	return found, nil
}

// ---- JSON lines to Avro records and back: dates and times are ISO 8601 in JSON, days and milliseconds in Avro

var eventFields = []string{
	"event_id", "family", "kind", "school", "sector", "school_year", "created", "sender", "receiver", "correlation",
	"agreement", "subject", "body",
}

// Event is what `broker send` takes as one line, as the three records that are sent; Envelope without its two parts.
type Event struct {
	Envelope, Subject, Body map[string]any
}

// ParseEvent reads one line.
func ParseEvent(line []byte, party string, family *Schema, schemas *Schemas) (*Event, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var given map[string]any
	if err := decoder.Decode(&given); err != nil || given == nil {
		return nil, Refuse("not a JSON object")
	}
	if _, err := decoder.Token(); err != io.EOF { // a second event on the line must not be lost in silence
		return nil, Refuse("more than one JSON object")
	}
	if err := refuseUnknown(given, eventFields, "the event"); err != nil {
		return nil, err
	}
	kind, _ := given["kind"].(string)
	kinds, _ := family.Root.Props["kinds"].(map[string]any)
	if _, known := kinds[kind]; !known {
		return nil, Refuse("kind is not one of %s: %s", family.Family(), listed(slices.Collect(maps.Keys(kinds))))
	}
	if sender := given["sender"]; sender != nil && sender != party {
		return nil, Refuse("sender is another party: an event is sent in the party's own name only")
	}
	envelope := map[string]any{
		"event_id": newID(), "created": time.Now().UTC().Format(time.RFC3339Nano), "school": nil, "sector": nil,
	}
	for name, value := range given {
		if value != nil && name != "subject" && name != "body" {
			envelope[name] = value
		}
	}
	if envelope["school_year"] == nil {
		envelope["school_year"] = schoolYear(fmt.Sprint(envelope["created"]))
	}
	envelope["family"], envelope["sender"], envelope["body_schema"] = family.Family(), party, family.Fingerprint
	envelope["subject"], envelope["body"] = []byte{}, []byte{}
	subject, body := map[string]any{"kind": "NONE"}, map[string]any{}
	if object, ok := family.Root.Props["object"].(string); ok {
		body[object] = newID() // a new object, unless the line names one
	}
	for name, part := range map[string]map[string]any{"subject": subject, "body": body} {
		if given[name] == nil {
			continue
		}
		inside, ok := given[name].(map[string]any)
		if !ok {
			return nil, Refuse("%s is not an object", name)
		}
		maps.Copy(part, inside)
	}
	made := make([]map[string]any, 0, 3)
	for _, one := range []struct {
		schema *Schema
		value  map[string]any
		where  string
	}{{schemas.Envelope, envelope, "envelope"}, {schemas.Subject, subject, "subject"}, {family, body, "body"}} {
		record, err := toAvro(one.schema.Root, one.value, one.where)
		if err != nil {
			return nil, err
		}
		made = append(made, record.(map[string]any))
	}
	return &Event{made[0], made[1], made[2]}, nil
}

// The school year of a time as it is written; it begins on 1 August.
func schoolYear(created string) string {
	day, _, _ := strings.Cut(created, "T")
	parsed, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return "" // created itself is refused
	}
	first := parsed.Year()
	if parsed.Month() < time.August {
		first--
	}
	return fmt.Sprintf("%d-%d", first, first+1)
}

func toAvro(node *avro.SchemaNode, value any, where string) (any, error) {
	switch node.Type {
	case "union":
		if value == nil {
			return nil, nil
		}
		return toAvro(present(node), value, where)
	case "record":
		return recordToAvro(node, value, where)
	case "array":
		items, ok := value.([]any)
		out := make([]any, 0, len(items))
		for i, item := range items {
			made, err := toAvro(node.Items, item, fmt.Sprintf("%s[%d]", where, i))
			if err != nil {
				return nil, err
			}
			out = append(out, made)
		}
		return out, must(ok, where, "a list")
	case "enum":
		text, ok := value.(string)
		return text, must(ok && slices.Contains(node.Symbols, text), where, "one of "+listed(node.Symbols))
	case "string":
		text, ok := value.(string)
		return text, must(ok, where, "a text")
	case "bytes", "fixed":
		raw, ok := value.([]byte)
		return raw, must(ok, where, "bytes")
	case "boolean":
		truth, ok := value.(bool)
		return truth, must(ok, where, "true or false")
	case "int":
		if node.LogicalType == "date" {
			text, _ := value.(string)
			day, err := time.Parse(time.DateOnly, text)
			return int32(day.Unix() / 86400), must(err == nil, where, "a date such as 2026-11-24")
		}
		number, err := whole(value)
		fits := err == nil && number >= math.MinInt32 && number <= math.MaxInt32
		return int32(number), must(fits, where, "a whole number of 32 bits")
	case "long":
		if node.LogicalType == "timestamp-millis" {
			text, _ := value.(string)
			moment, err := time.Parse(time.RFC3339Nano, text)
			return moment.UnixMilli(), must(err == nil, where, "a time with its zone, such as 2026-11-24T09:30:00Z")
		}
		number, err := whole(value)
		return number, must(err == nil, where, "a whole number of 64 bits")
	}
	return nil, Refuse("%s has the Avro type %s, which no family has", where, node.Type)
}

func recordToAvro(node *avro.SchemaNode, value any, where string) (any, error) {
	given, ok := value.(map[string]any)
	if err := must(ok, where, "an object"); err != nil {
		return nil, err
	}
	known := make([]string, 0, len(node.Fields))
	for _, field := range node.Fields {
		known = append(known, field.Name)
	}
	if err := refuseUnknown(given, known, where); err != nil {
		return nil, err
	}
	out := map[string]any{}
	for i := range node.Fields {
		field := &node.Fields[i]
		place := where + "." + field.Name
		inside, there := given[field.Name]
		if !there {
			inside = field.Default
		}
		if err := must(there || field.HasDefault, place, "in it"); err != nil {
			return nil, err
		}
		made, err := toAvro(&field.Type, inside, place)
		if err != nil {
			return nil, err
		}
		out[field.Name] = made
	}
	return out, nil
}

func toJSON(node *avro.SchemaNode, value any) any {
	if value == nil {
		return nil
	}
	switch node.Type {
	case "union":
		return toJSON(present(node), value)
	case "record":
		out := map[string]any{}
		for i := range node.Fields {
			field := &node.Fields[i]
			if field.Type.Type != "bytes" && field.Type.Type != "fixed" {
				out[field.Name] = toJSON(&field.Type, value.(map[string]any)[field.Name])
			}
		}
		return out
	case "array":
		out := []any{}
		for _, item := range value.([]any) {
			out = append(out, toJSON(node.Items, item))
		}
		return out
	case "int":
		if node.LogicalType == "date" {
			return time.Unix(86400*int64(value.(int32)), 0).UTC().Format(time.DateOnly)
		}
	case "long":
		if node.LogicalType == "timestamp-millis" {
			return time.UnixMilli(value.(int64)).UTC().Format(time.RFC3339Nano)
		}
	}
	return value
}

func present(union *avro.SchemaNode) *avro.SchemaNode {
	i := slices.IndexFunc(union.Branches, func(branch avro.SchemaNode) bool { return branch.Type != "null" })
	return &union.Branches[i]
}

func whole(value any) (int64, error) {
	switch found := value.(type) {
	case json.Number:
		return found.Int64()
	case int32: // a schema's default
		return int64(found), nil
	case int64:
		return found, nil
	}
	return 0, Refuse("not a number")
}

func must(holds bool, where, what string) error {
	if holds {
		return nil
	}
	return Refuse("%s must be there and be %s", where, what)
}

func refuseUnknown(value map[string]any, known []string, where string) error {
	for _, name := range slices.Sorted(maps.Keys(value)) {
		if !slices.Contains(known, name) {
			return Refuse("%s has no field %s; it has: %s", where, name, listed(known))
		}
	}
	return nil
}

func listed(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// A random uuid (RFC 9562, version 4).
func newID() string {
	var raw [16]byte
	rand.Read(raw[:])
	raw[6], raw[8] = raw[6]&0x0F|0x40, raw[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}
