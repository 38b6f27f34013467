// Send sends events from JSON lines, sealed for the broker.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	client "example.org/eck-broker-client"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	schemas := flag.String("schemas", "", "folder with the broker's schemas; without it, that of BUNDLE")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: send [-schemas FOLDER] BUNDLE FAMILY FILE|-")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 3 {
		flag.Usage()
		os.Exit(2)
	}
	if err := send(context.Background(), flag.Arg(0), flag.Arg(1), flag.Arg(2), *schemas); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func send(ctx context.Context, folder, family, file, schemasFolder string) error {
	bundle, err := client.LoadBundle(folder)
	if err != nil {
		return err
	}
	schemas, err := client.LoadSchemas(schemasFolder, folder)
	if err != nil {
		return err
	}
	schema, err := schemas.Of(family)
	if err != nil {
		return err
	}
	events, err := read(file, bundle.Party, schema, schemas) // all first: with an error in one, nothing is sent
	if err != nil {
		return err
	}
	published, err := bundle.Published(ctx, bundle.Topics.Schemas)
	if err != nil {
		return err
	}
	known, err := client.PublishedSchemas(published)
	if err != nil {
		return err
	}
	if fingerprint := hex.EncodeToString(schema.Fingerprint); known[fingerprint] == nil {
		return client.Refuse("the broker does not know this %s schema (%s): take its files", family, fingerprint)
	}
	recipient, err := bundle.BrokerKey(ctx)
	if err != nil {
		return err
	}
	secret, err := bundle.RecordKeySecret()
	if err != nil {
		return err
	}
	// Idempotent with acks of all replicas in sync, as franz-go does unless told otherwise.
	partition := func(record *kgo.Record, partitions int) int { return client.Partition(record.Key, partitions) }
	producer, err := bundle.Kafka(
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RecordDeliveryTimeout(2*client.Patience), kgo.UnknownTopicRetries(0),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int { return partition })),
	)
	if err != nil {
		return err
	}
	defer producer.Close()
	topics, err := kadm.NewClient(producer).ListTopics(ctx, bundle.Topics.In)
	if err != nil {
		return err
	}
	if err := topics.Error(); err != nil {
		return err
	}
	keys := &client.DataKeyMaker{Recipient: recipient}
	records := make([]*kgo.Record, 0, len(events))
	for _, event := range events {
		record, err := seal(event, schema, schemas, keys)
		if err != nil {
			return err
		}
		record.Topic = bundle.Topics.In
		record.Key = client.RecordKey(secret, event.Envelope["school"].(string), event.Subject)
		records = append(records, record)
	}
	if err := producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for i, record := range records {
		where := map[string]any{
			"event_id": events[i].Envelope["event_id"], "topic": record.Topic, "partition": record.Partition,
			"offset": record.Offset,
		}
		if err := out.Encode(where); err != nil {
			return err
		}
	}
	return nil
}

func seal(
	event *client.Event, family *client.Schema, schemas *client.Schemas, keys *client.DataKeyMaker,
) (*kgo.Record, error) {
	subject, err := schemas.Subject.Encode(event.Subject)
	if err != nil {
		return nil, err
	}
	body, err := family.Encode(event.Body)
	if err != nil {
		return nil, err
	}
	key, err := keys.Current()
	if err != nil {
		return nil, err
	}
	value, err := client.EncodeEvent(schemas.Envelope, event.Envelope, subject, body, key)
	return &kgo.Record{Value: value, Headers: []kgo.RecordHeader{{Key: "data-key", Value: key.Header}}}, err
}

func read(file, party string, family *client.Schema, schemas *client.Schemas) ([]*client.Event, error) {
	raw, err := readAll(file)
	if err != nil {
		return nil, client.Refuse("there is no file %s", file)
	}
	var events []*client.Event
	number := 0
	for line := range bytes.Lines(raw) {
		number++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		event, err := client.ParseEvent(line, party, family, schemas)
		if err != nil {
			return nil, client.Refuse("line %d: %v; nothing was sent", number, err)
		}
		events = append(events, event)
	}
	return events, nil
}

func readAll(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}
