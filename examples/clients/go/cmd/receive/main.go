// Receive receives a family's events, or the outcomes of what was sent, as JSON lines.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	client "example.org/eck-broker-client"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const remembered = 1000

type receiver struct {
	bundle     *client.Bundle
	schemas    *client.Schemas
	family     string
	onlySender string
	published  map[string]*client.Schema
	open       map[string]*client.DataKey // by header: records in a row have the same one
	lastOf     map[string]int64
}

func main() {
	group := flag.String("group", "example", "name of the reading group; each has its own position")
	most := flag.Int("max", 0, "end after so many; 0: no limit")
	idle := flag.Int("idle", 0, "end when nothing came for so many seconds; 0: wait for ever")
	sender := flag.String("sender", "", "refuse events of any other party")
	schemas := flag.String("schemas", "", "folder with the broker's schemas; without it, that of BUNDLE")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: receive [options] BUNDLE FAMILY|status")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	quiet := time.Duration(*idle) * time.Second
	if err := receive(flag.Arg(0), flag.Arg(1), *group, *sender, *schemas, *most, quiet); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func receive(folder, family, group, sender, schemasFolder string, most int, idle time.Duration) error {
	ctx := context.Background()
	// Stopped, or left alone by who read the output, it leaves its group first: else its partitions wait for it until
	// its session ends.
	signal.Ignore(syscall.SIGPIPE)
	going, done := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer done()
	bundle, err := client.LoadBundle(folder)
	if err != nil {
		return err
	}
	schemas, err := client.LoadSchemas(schemasFolder, folder)
	if err != nil {
		return err
	}
	topic := bundle.Topics.Status
	if family != "status" {
		if topic, err = bundle.Out(family); err != nil {
			return err
		}
	}
	joined := make(chan struct{}, 1)
	options := append(bundle.Consumer(),
		kgo.ConsumerGroup(bundle.GroupPrefix+group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) {
			select {
			case joined <- struct{}{}:
			default:
			}
		}),
	)
	kafka, err := bundle.Kafka(options...)
	if err != nil {
		return err
	}
	defer kafka.Close()
	patient, cancel := context.WithTimeout(ctx, client.Patience)
	defer cancel()
	topics, err := kadm.NewClient(kafka).ListTopics(patient, topic)
	if err != nil {
		return err
	}
	if err := topics.Error(); err != nil {
		return client.Refuse("there is no topic %s for %s", topic, bundle.Party)
	}
	reader := &receiver{
		bundle, schemas, family, sender, nil, map[string]*client.DataKey{}, map[string]int64{},
	}
	out := json.NewEncoder(os.Stdout)
	count, last, member := 0, time.Now(), false
	for going.Err() == nil && (idle == 0 || time.Since(last) < idle) {
		waiting, stop := context.WithTimeout(going, 200*time.Millisecond)
		fetches := kafka.PollFetches(waiting)
		stop()
		select {
		case <-joined:
			member = true
		default:
		}
		if !member { // still joining the group: nothing can come yet
			last = time.Now()
		}
		err := fetches.Err()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return err
		}
		for _, record := range fetches.Records() {
			found, err := reader.read(ctx, record)
			if err != nil {
				return fmt.Errorf("%s/%d/%d: %w. It does not count as read; tell the operator",
					record.Topic, record.Partition, record.Offset, err)
			}
			if err := out.Encode(found); err != nil {
				return client.Refuse("nobody takes what is printed: the event does not count as read")
			}
			// Read once it was printed, not before: after a crash the last ones come again.
			if err := kafka.CommitRecords(ctx, record); err != nil {
				return err
			}
			last = time.Now()
			if count++; count == most || going.Err() != nil {
				return nil
			}
		}
	}
	return nil
}

func (r *receiver) read(ctx context.Context, record *kgo.Record) (map[string]any, error) {
	if r.family != "status" {
		return r.event(ctx, record)
	}
	data, err := client.Unframe(r.schemas.Status, record.Value)
	if err != nil {
		return nil, err
	}
	status, err := r.schemas.Status.Decode(data)
	if err != nil {
		return nil, err
	}
	return r.schemas.Status.JSON(status), nil
}

func (r *receiver) event(ctx context.Context, record *kgo.Record) (map[string]any, error) {
	sealed, err := client.DecodeEvent(r.schemas.Envelope, record.Value)
	if err != nil {
		return nil, err
	}
	envelope := sealed.Envelope
	if envelope["receiver"] != r.bundle.Party {
		return nil, client.Refuse("the event is for another receiver")
	}
	if envelope["family"] != r.family {
		return nil, client.Refuse("the event is of another family than its topic")
	}
	if r.onlySender != "" && envelope["sender"] != r.onlySender {
		return nil, client.Refuse("the event is of sender %s, not of %s", envelope["sender"], r.onlySender)
	}
	headers, err := headersOf(record, "data-key", "key-id", "policy", "flow", "flow-seq", "audit-salt")
	if err != nil {
		return nil, err
	}
	key := r.open[string(headers["data-key"])]
	if key == nil {
		if key, err = client.Unwrap(headers["data-key"], r.bundle.PrivateKey); err != nil {
			return nil, err
		}
		if len(r.open) >= remembered {
			clear(r.open)
		}
		r.open[string(headers["data-key"])] = key
	}
	if string(headers["key-id"]) != key.KID {
		return nil, client.Refuse("the header key-id names another key than the data key")
	}
	subject, err := open(sealed, "subject", key, r.schemas.Subject)
	if err != nil {
		return nil, err
	}
	writer, err := r.writer(ctx, hex.EncodeToString(envelope["body_schema"].([]byte)))
	if err != nil {
		return nil, err
	}
	body, err := open(sealed, "body", key, writer)
	if err != nil {
		return nil, err
	}
	flow := string(headers["flow"])
	seq, err := r.follow(fmt.Sprintf("%s/%s/%d", flow, record.Topic, record.Partition), string(headers["flow-seq"]))
	if err != nil {
		return nil, err
	}
	if len(headers["audit-salt"]) != 32 {
		return nil, client.Refuse("the header audit-salt has not 32 bytes")
	}
	out := r.schemas.Envelope.JSON(envelope)
	out["subject"], out["body"] = subject, body
	out["policy"], out["flow"], out["seq"] = string(headers["policy"]), flow, seq
	out["topic"], out["partition"], out["offset"] = record.Topic, record.Partition, record.Offset
	return out, nil
}

func open(sealed *client.Sealed, part string, key *client.DataKey, schema *client.Schema) (map[string]any, error) {
	plain, err := sealed.Open(part, key)
	if err != nil {
		return nil, err
	}
	record, err := schema.Decode(plain)
	if err != nil {
		return nil, err
	}
	return schema.JSON(record), nil
}

// The schema that the body was written with: on the topic schemas before the first record that has it.
func (r *receiver) writer(ctx context.Context, fingerprint string) (*client.Schema, error) {
	if r.published[fingerprint] == nil {
		records, err := r.bundle.Published(ctx, r.bundle.Topics.Schemas)
		if err != nil {
			return nil, err
		}
		if r.published, err = client.PublishedSchemas(records); err != nil {
			return nil, err
		}
	}
	if writer := r.published[fingerprint]; writer != nil && writer.Family() == r.family {
		return writer, nil
	}
	return nil, client.Refuse("the body's schema %s is not one of %s on the topic schemas", fingerprint, r.family)
}

// Numbers are consecutive in a flow: a gap is a record that did not come.
func (r *receiver) follow(flow, text string) (int64, error) {
	seq, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seq < 1 {
		return 0, client.Refuse("the header flow-seq is not a number")
	}
	if last, seen := r.lastOf[flow]; seen && seq > last+1 {
		fmt.Fprintf(os.Stderr, "warning: %s went from %d to %d; tell the operator\n", flow, last, seq)
	}
	r.lastOf[flow] = seq
	return seq, nil
}

func headersOf(record *kgo.Record, names ...string) (map[string][]byte, error) {
	found, times := map[string][]byte{}, map[string]int{}
	for _, header := range record.Headers {
		found[header.Key] = header.Value
		times[header.Key]++
	}
	for _, name := range names {
		if times[name] != 1 {
			return nil, client.Refuse("the record has not one header %s", name)
		}
	}
	return found, nil
}
