package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Patience is how long is waited for an answer of Kafka's.
const Patience = 15 * time.Second

// Bundle is the folder that the operator gave to a party: where Kafka is, its login and its keys.
type Bundle struct {
	Party       string `json:"party"`
	GroupPrefix string `json:"group_prefix"`
	Topics      struct {
		In         string            `json:"in"`
		Status     string            `json:"status"`
		Out        map[string]string `json:"out"`
		Schemas    string            `json:"schemas"`
		BrokerKeys string            `json:"broker_keys"`
	} `json:"topics"`
	folder string
}

// LoadBundle reads party.json.
func LoadBundle(folder string) (*Bundle, error) {
	bundle := &Bundle{folder: folder}
	if err := refuseReadable(folder); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(folder, "party.json"))
	if err != nil || json.Unmarshal(raw, bundle) != nil {
		return nil, Refuse("party.json in %s is missing or is not JSON", folder)
	}
	needed := []string{
		bundle.Party, bundle.GroupPrefix, bundle.Topics.In, bundle.Topics.Status, bundle.Topics.Schemas,
		bundle.Topics.BrokerKeys,
	}
	for _, name := range needed {
		if name == "" {
			return nil, Refuse("party.json in %s is not complete: party, group_prefix and topics must be there", folder)
		}
	}
	return bundle, nil
}

// A password or a key that others can read is one that they may have. Where files have no modes nothing is said.
func refuseReadable(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	files := []string{filepath.Join(folder, "connection.json")}
	for _, place := range []string{"kafka", "keys"} {
		entries, err := os.ReadDir(filepath.Join(folder, place))
		if err != nil {
			return Refuse("%s in %s can not be read", place, folder)
		}
		for _, entry := range entries {
			files = append(files, filepath.Join(folder, place, entry.Name()))
		}
	}
	for _, file := range files {
		found, err := os.Stat(file) // of what a link leads to
		if err == nil && found.Mode().IsRegular() && found.Mode().Perm()&0o077 != 0 {
			return Refuse("others can read %s: it holds a password or a key. Run: chmod -R go= %s. Was the machine shared,"+
				" then ask the operator for a new password and key", file, folder)
		}
	}
	return nil
}

// Out is the topic on which a family arrives.
func (b *Bundle) Out(family string) (string, error) {
	if topic := b.Topics.Out[family]; topic != "" {
		return topic, nil
	}
	return "", Refuse("%s receives no %s: party.json has no such topic", b.Party, family)
}

// Kafka makes a client: TLS, with the host's name held against its certificate, and a login. Nothing else is taken.
func (b *Bundle) Kafka(options ...kgo.Opt) (*kgo.Client, error) {
	path := filepath.Join(b.folder, "kafka", "librdkafka.properties")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, Refuse("%s can not be read", path)
	}
	var servers, protocol, user, password, ca string
	var mechanism func(scram.Auth) sasl.Mechanism
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case name == "" || strings.HasPrefix(name, "#"):
		case name == "bootstrap.servers":
			servers = value
		case name == "security.protocol":
			protocol = strings.ToLower(value)
		case name == "sasl.mechanism" && strings.EqualFold(value, "SCRAM-SHA-512"):
			mechanism = func(auth scram.Auth) sasl.Mechanism { return auth.AsSha512Mechanism() }
		case name == "sasl.mechanism" && strings.EqualFold(value, "SCRAM-SHA-256"):
			mechanism = func(auth scram.Auth) sasl.Mechanism { return auth.AsSha256Mechanism() }
		case name == "sasl.username":
			user = value
		case name == "sasl.password":
			password = value
		case name == "ssl.ca.location":
			ca = value
		default:
			return nil, Refuse("%s has a setting that is not known here: %s", path, name)
		}
	}
	if protocol != "sasl_ssl" || mechanism == nil {
		return nil, Refuse("%s must have security.protocol=sasl_ssl and a SCRAM mechanism: nothing else is taken", path)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12} // without a file of its own, what the system trusts
	if ca != "" {
		if !filepath.IsAbs(ca) {
			ca = filepath.Join(b.folder, ca)
		}
		pem, err := os.ReadFile(ca)
		trust.RootCAs = x509.NewCertPool()
		if err != nil || !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, Refuse("%s is not the PEM file of an authority", ca)
		}
	}
	settings := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(servers, ",")...), kgo.ClientID(b.Party), kgo.DialTLSConfig(trust),
		kgo.SASL(mechanism(scram.Auth{User: user, Pass: password})), kgo.RetryTimeout(Patience),
	}
	return kgo.NewClient(append(settings, options...)...)
}

// Consumer are the options of a consumer that sees only what was committed.
func (b *Bundle) Consumer() []kgo.Opt {
	return []kgo.Opt{
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}
}

// Published is a compacted topic of one partition, from its beginning to its present end.
func (b *Bundle) Published(ctx context.Context, topic string) (map[string][]byte, error) {
	place := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}
	client, err := b.Kafka(append(b.Consumer(), kgo.ConsumePartitions(place), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := ends.Error(); err != nil {
		return nil, err
	}
	start, _ := starts.Lookup(topic, 0)
	end, there := ends.Lookup(topic, 0)
	if !there {
		return nil, Refuse("there is no topic %s for %s", topic, b.Party)
	}
	found := map[string][]byte{}
	for next := start.Offset; next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil && next > start.Offset {
			break // what stood last was compacted away: no record says that this is the end
		}
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for _, record := range fetches.Records() {
			next = record.Offset + 1
			switch {
			case record.Attrs.IsControl():
			case record.Value == nil:
				delete(found, string(record.Key))
			default:
				found[string(record.Key)] = record.Value
			}
		}
	}
	return found, nil
}

// BrokerKey is the broker's newest public key.
func (b *Bundle) BrokerKey(ctx context.Context) (*jose.JSONWebKey, error) {
	records, err := b.Published(ctx, b.Topics.BrokerKeys)
	if err != nil {
		return nil, err
	}
	var newest *jose.JSONWebKey
	var newestCreated int64
	for kid, value := range records {
		var document struct {
			Created int64           `json:"created"`
			JWK     json.RawMessage `json:"jwk"`
		}
		if json.Unmarshal(value, &document) != nil {
			return nil, Refuse("the key %s of the broker is not JSON", kid)
		}
		if newest == nil || document.Created > newestCreated {
			if newest, err = ParseKey(document.JWK, kid); err != nil {
				return nil, err
			}
			newestCreated = document.Created
		}
	}
	if newest == nil {
		return nil, Refuse("the broker has published no key; ask its operator")
	}
	return newest, nil
}

var kidForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,83}$`)

// PrivateKey is the key of this id, or nil. The id comes from outside: what can be no file name is not looked up.
func (b *Bundle) PrivateKey(kid string) (*jose.JSONWebKey, error) {
	if !kidForm.MatchString(kid) {
		return nil, nil
	}
	raw, err := os.ReadFile(filepath.Join(b.folder, "keys", kid+".jwk"))
	if err != nil {
		return nil, nil
	}
	var document struct {
		JWK json.RawMessage `json:"jwk"`
	}
	if json.Unmarshal(raw, &document) != nil {
		return nil, Refuse("the key file of %s is damaged", kid) // no cause: a parser quotes, and this is a key
	}
	key, err := ParseKey(document.JWK, kid)
	if err != nil || key.IsPublic() {
		return nil, err
	}
	return key, nil
}

// RecordKeySecret is the secret of the record keys.
func (b *Bundle) RecordKeySecret() ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(b.folder, "keys", "record-key.secret"))
	if err == nil {
		if secret, err := hex.DecodeString(strings.TrimSpace(string(raw))); err == nil && len(secret) == secretBytes {
			return secret, nil
		}
	}
	return nil, Refuse("keys/record-key.secret in %s is missing or damaged", b.folder)
}
