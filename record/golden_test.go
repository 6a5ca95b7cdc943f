package record

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/compression"
)

// The golden files are batches as clients sent them: testdata/<client>_<codec>.batch, and beside each what they hold,
// as text. Write the kgo ones anew with
//
//	go test ./record -run TestGolden -update
//
// and those of a client that is run by hand against a listening capture with
//
//	go test ./record -run TestCaptureByHand -capture 127.0.0.1:19092 -capture-as java_lz4
var (
	update    = flag.Bool("update", false, "write the golden files of kgo anew, and all the texts")
	capture   = flag.String("capture", "", "address to capture another client's batches on")
	captureAs = flag.String("capture-as", "", "name of the golden file to write")
)

// kgoCodecs are kgo's codecs by our names.
func kgoCodecs() map[compression.Codec]kgo.CompressionCodec {
	return map[compression.Codec]kgo.CompressionCodec{
		compression.None: kgo.NoCompression(), compression.Gzip: kgo.GzipCompression(), compression.Snappy: kgo.SnappyCompression(),
		compression.Lz4: kgo.Lz4Compression(), compression.Zstd: kgo.ZstdCompression(),
	}
}

// goldenRecords are what every client is made to send.
func goldenRecords() (records []*kgo.Record) {
	for i := range 20 {
		r := &kgo.Record{Topic: captureTopic, Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i%7)*1000)}
		r.Value = []byte(strings.Repeat(fmt.Sprintf("value %d; ", i), i))
		if i%3 != 0 {
			r.Key = []byte(fmt.Sprintf("key-%d", i))
		}
		if i%5 == 0 {
			r.Headers = []kgo.RecordHeader{{Key: "h1", Value: []byte{0, 1, byte(i)}}, {Key: "null"}, {Key: "h1", Value: []byte{}}}
		}
		if i == 19 {
			r.Value = nil
		}
		records = append(records, r)
	}
	return records
}

// kgoBatch lets kgo send the golden records in one batch and returns its bytes.
func kgoBatch(t *testing.T, codec kgo.CompressionCodec) []byte {
	t.Helper()
	broker := startCaptureBroker(t, "127.0.0.1:0")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.listener.Addr().String()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(500*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := client.ProduceSync(ctx, goldenRecords()...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return bytes.Join(broker.taken(), nil)
}

// describe prints all that batches hold.
func describe(t *testing.T, data []byte) string {
	t.Helper()
	var out strings.Builder
	for len(data) > 0 {
		b, rest, err := Next(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Validate(ValidateOptions{Strict: true}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "batch codec=%s attributes=%#x base=%d lastDelta=%d epoch=%d baseTime=%d maxTime=%d producer=%d/%d seq=%d count=%d\n",
			b.Codec(), b.Attributes(), b.BaseOffset(), b.LastOffsetDelta(), b.PartitionLeaderEpoch(), b.FirstTimestamp(), b.MaxTimestamp(),
			b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.RecordCount())
		it := b.Records(nil, 0)
		for it.Next() {
			r := it.Record()
			fmt.Fprintf(&out, "%d %d %s %s", it.Offset(), it.Timestamp(), quote(r.Key), quote(r.Value))
			for _, h := range r.Headers {
				fmt.Fprintf(&out, " %s=%s", h.Key, quote(h.Value))
			}
			out.WriteByte('\n')
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		data = rest
	}
	return out.String()
}

// quote tells null from empty.
func quote(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

func TestGolden(t *testing.T) {
	if *update {
		for codec, k := range kgoCodecs() {
			if err := os.WriteFile(filepath.Join("testdata", "kgo_"+codec.String()+".batch"), kgoBatch(t, k), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("testdata/*.batch")
	if err != nil || len(files) < len(allCodecs) {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, text := describe(t, data), strings.TrimSuffix(name, ".batch")+".txt"
		if *update {
			if err := os.WriteFile(text, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(text)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
		if !strings.HasSuffix(name, "_none.batch") {
			continue
		}
		if again := rebuild(data); !bytes.Equal(again, data) {
			t.Errorf("%s: the builder writes\n%x, the client\n%x", name, again, data)
		}
	}
}

// rebuild passes uncompressed batches through the iterator and the builder.
func rebuild(data []byte) (out []byte) {
	for b, rest, _ := Next(data); b != nil; b, rest, _ = Next(rest) {
		builder := NewBuilder()
		builder.SetPartitionLeaderEpoch(b.PartitionLeaderEpoch())
		builder.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
		it := b.Records(nil, 0)
		for it.Next() {
			builder.Append(it.Timestamp(), it.Record().Key, it.Record().Value, it.Record().Headers...)
		}
		out = builder.Finish(out)
	}
	return out
}

// TestKgoSendsTheGolden lets today's kgo send the records and reads the same text out of them.
func TestKgoSendsTheGolden(t *testing.T) {
	for codec, k := range kgoCodecs() {
		want, err := os.ReadFile(filepath.Join("testdata", "kgo_"+codec.String()+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		data := kgoBatch(t, k)
		if got := describe(t, data); recordLines(got) != recordLines(string(want)) {
			t.Errorf("%s:\n got %s\nwant %s", codec, got, want)
		}
	}
}

// recordLines drops the batch lines and the offsets, so that it does not matter how a client cut its batches.
func recordLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if _, record, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "batch ") {
			out.WriteString(record)
		}
	}
	return out.String()
}

// TestCaptureByHand waits for another client's batches; it is no test unless asked for.
func TestCaptureByHand(t *testing.T) {
	if *capture == "" {
		t.Skip("without -capture there is nothing to wait for")
	}
	broker := startCaptureBroker(t, *capture)
	deadline := time.Now().Add(10 * time.Minute)
	for len(broker.taken()) == 0 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	name := filepath.Join("testdata", *captureAs+".batch")
	if err := os.WriteFile(name, broker.taken()[0], 0o644); err != nil {
		t.Fatal(err)
	}
}
