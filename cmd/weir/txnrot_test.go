package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/record"
)

const (
	txnCount      = 60       // transactions of a record each; every other one is aborted
	txnValueBytes = 50 << 10 // of a record, so that there are three segments
	txnEntryBytes = 34       // of a .txnindex
)

// txnTemplate makes a data directory with a partition of transactions in three segments, stopped cleanly or killed. The broker does not
// coordinate transactions, so the engine writes them.
func txnTemplate(t *testing.T, clean bool) string {
	t.Helper()
	dir := t.TempDir()
	s := serve(t, dir)
	must(t, "", "topic", "create", "rot", "--partitions", "2", "--set", fmt.Sprint("segment.bytes=", rotSegmentBytes), "--brokers", s.address)
	s.stop()
	store, err := engine.OpenStore(engine.StoreOptions{Dirs: []string{dir}, NodeID: 1, Logger: slog.New(slog.DiscardHandler),
		Config: func(topic string) engine.LogConfig {
			if topic == cluster.LogTopic {
				return cluster.LogConfig()
			}
			return engine.LogConfig{SegmentBytes: rotSegmentBytes}.EnsureDefaults()
		}})
	if err != nil {
		t.Fatal(err)
	}
	for partition := range int32(2) {
		log, err := store.CreateLog(engine.TopicPartition{Topic: "rot", Partition: partition}, engine.TopicID{}, engine.LogConfig{SegmentBytes: rotSegmentBytes})
		if err != nil {
			t.Fatal(err)
		}
		for i := range txnCount {
			builder := record.NewBuilder()
			builder.SetProducer(int64(100+i), 0, 0)
			builder.SetTransactional(true)
			builder.Append(1, nil, []byte(txnValue(i)))
			marker := record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: txnCommitted(i), ProducerID: int64(100 + i), TimestampMs: 1})
			if _, err = log.Append(builder.Finish(nil), engine.AppendOptions{}); err == nil {
				_, err = log.Append(marker, engine.AppendOptions{Origin: engine.OriginInternal})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !clean {
		serve(t, dir).kill()
	}
	return dir
}

func txnCommitted(i int) bool { return i%2 == 1 }

func txnValue(i int) string {
	return strings.Repeat(fmt.Sprintf("transaction %d committed %t;", i, txnCommitted(i)), txnValueBytes/20)[:txnValueBytes]
}

// readCommitted reads a partition as read_committed. Whatever becomes of it, only committed records may come, each in its place: served is
// how many did.
func (d *rotDir) readCommitted(address string, partition int32) (served int, err error) {
	d.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.KeepRetryableFetchErrors(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"rot": {partition: kgo.NewOffset().At(0)}}))
	if err != nil {
		d.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), faultDeadline)
	defer cancel()
	for served < txnCount/2 && !d.t.Failed() {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			d.t.Fatalf("partition %d: nothing after %d records, and no error", partition, served)
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				if i := 2*served + 1; r.Offset != int64(2*i) || string(r.Value) != txnValue(i) {
					d.t.Errorf("partition %d offset %d: served %.60q; the next one committed is at %d", partition, r.Offset, r.Value, 2*i)
				}
				served++
			}
			if p.Err != nil {
				err = p.Err
			}
		})
		if err != nil {
			return served, err
		}
	}
	return served, nil
}

// TestRotOfTransactionIndexes: aborted records are never served as committed, whatever becomes of the list of them: it is made anew from the
// log, with a warning, and all that was committed is served.
func TestRotOfTransactionIndexes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker for each case")
	}
	for how, template := range map[string]string{"after a stop": txnTemplate(t, true), "after a kill": txnTemplate(t, false)} {
		for _, segment := range []int{0, 2} {
			for _, c := range rotOfTxnIndex() {
				t.Run(fmt.Sprintf("%s of segment %d %s", c.name, segment, how), func(t *testing.T) {
					d := &rotDir{t: t, path: filepath.Join(t.TempDir(), "data")}
					if err := os.CopyFS(d.path, os.DirFS(template)); err != nil {
						t.Fatal(err)
					}
					path := strings.TrimSuffix(d.segments()[segment], ".log") + ".txnindex"
					whole, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					d.change(path, c.damage)
					d.committedOnly(path, whole)
				})
			}
		}
	}
}

// committedOnly starts the broker on a damaged index of partition 0, which has to have the bytes whole again.
func (d *rotDir) committedOnly(path string, whole []byte) {
	d.t.Helper()
	s := serve(d.t, d.path)
	defer s.stop()
	for partition := range int32(2) {
		if served, err := d.readCommitted(s.address, partition); err != nil {
			d.t.Errorf("partition %d: %d records, then %v; want all", partition, served, err)
		}
	}
	d.told(s, "WARN", "index of aborted transactions made anew", "rot-0", path, "reason=")
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
		d.t.Errorf("the file has\n%x, %v\nwant\n%x", got, err, whole)
	}
}

// TestRotOfATransactionIndexAndItsLog: a log that is damaged itself takes the partition offline, with the position in the log.
func TestRotOfATransactionIndexAndItsLog(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker for each case")
	}
	for how, clean := range map[string]bool{"after a stop": true, "after a kill": false} {
		d := &rotDir{t: t, path: filepath.Join(t.TempDir(), "data")}
		if err := os.CopyFS(d.path, os.DirFS(txnTemplate(t, clean))); err != nil {
			t.Fatal(err)
		}
		path := d.segments()[0]
		if err := os.Remove(strings.TrimSuffix(path, ".log") + ".txnindex"); err != nil {
			t.Fatal(err)
		}
		bad := d.batches(path)[2]
		d.flip(path, bad.payload())
		s := serve(t, d.path)
		if served, err := d.readCommitted(s.address, 0); !errors.Is(err, kerr.KafkaStorageError) || served >= txnCount/2 {
			t.Errorf("%s: %d records, then %v; want KAFKA_STORAGE_ERROR", how, served, err)
		}
		d.told(s, "partition offline", "rot-0", fmt.Sprintf("%s: corrupt at byte %d:", path, bad.crcPos()))
		if served, err := d.readCommitted(s.address, 1); err != nil {
			t.Errorf("%s: the other partition: %d records, then %v", how, served, err)
		}
		s.stop()
	}
}

// txnDamage is a way to damage a .txnindex.
type txnDamage struct {
	name   string
	damage func(b []byte) []byte
}

func rotOfTxnIndex() (ways []txnDamage) {
	entry := func(b []byte, where int) []byte {
		return b[where*(len(b)/txnEntryBytes-1)/2*txnEntryBytes:][:txnEntryBytes]
	}
	for where, name := range []string{"head", "middle", "tail"} {
		bit := func(field string, at int) {
			ways = append(ways, txnDamage{"bit in a " + field + " in the " + name, func(b []byte) []byte { entry(b, where)[at] ^= 4; return b }})
		}
		bit("version", 1)
		bit("producer id", 9)
		bit("first offset", 17)
		bit("last offset", 25)
		bit("last stable offset", 30)
		ways = append(ways, txnDamage{"zeros over an entry in the " + name, func(b []byte) []byte { clear(entry(b, where)); return b }})
	}
	return append(ways,
		txnDamage{"zeros over all", clearAll},
		txnDamage{"nothing left", cutToNothing},
		txnDamage{"the last entry cut off", func(b []byte) []byte { return b[:len(b)-txnEntryBytes] }},
		txnDamage{"half an entry cut off", func(b []byte) []byte { return b[:len(b)-txnEntryBytes/2] }},
	)
}
