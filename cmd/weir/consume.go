package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeFlags are the choices of `weir consume`.
type consumeFlags struct {
	client        clientFlags
	partition     int32
	offset        string
	timestamp     string
	fromBeginning bool
	count         int
	untilEnd      bool
	format        string
}

func newConsumeCmd() *cobra.Command {
	f := &consumeFlags{}
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read records and print them",
		Example: "  weir consume orders --from-beginning --count 10\n" +
			"  weir consume orders --partition 2 --offset 1500 --format key-value\n" +
			"  weir consume orders --timestamp 2026-01-31T12:00:00Z --until-end --format json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.client.add(cmd)
	cmd.Flags().Int32VarP(&f.partition, "partition", "p", -1, "partition to read; -1 is all")
	cmd.Flags().StringVarP(&f.offset, "offset", "o", "", "offset to start at; a negative one counts back from the end")
	cmd.Flags().StringVar(&f.timestamp, "timestamp", "", "time to start at: RFC 3339, or milliseconds since 1970")
	cmd.Flags().BoolVar(&f.fromBeginning, "from-beginning", false, "start at the first record instead of the end")
	cmd.Flags().IntVarP(&f.count, "count", "n", 0, "stop after this many records; 0 goes on")
	cmd.Flags().BoolVarP(&f.untilEnd, "until-end", "e", false, "stop at the end that the log has now")
	cmd.Flags().StringVarP(&f.format, "format", "f", "value", "value, key-value, headers or json")
	return cmd
}

// start turns the flags into the offset to begin at.
func (f *consumeFlags) start() (kgo.Offset, error) {
	set := 0
	for _, given := range []bool{f.offset != "", f.timestamp != "", f.fromBeginning} {
		if given {
			set++
		}
	}
	if set > 1 {
		return kgo.Offset{}, usageError("--offset, --timestamp and --from-beginning exclude each other")
	}
	switch {
	case f.fromBeginning:
		return kgo.NewOffset().AtStart(), nil
	case f.offset != "":
		n, err := strconv.ParseInt(f.offset, 10, 64)
		if err != nil {
			return kgo.Offset{}, usageError("--offset=%q: must be a whole number", f.offset)
		}
		if n < 0 {
			return kgo.NewOffset().AtEnd().Relative(n), nil
		}
		return kgo.NewOffset().At(n), nil
	case f.timestamp != "":
		ms, _, err := f.startTime()
		return kgo.NewOffset().AfterMilli(ms), err
	}
	return kgo.NewOffset().AtEnd(), nil
}

// startTime is --timestamp in milliseconds since 1970, and whether it was given.
func (f *consumeFlags) startTime() (ms int64, given bool, err error) {
	if f.timestamp == "" {
		return 0, false, nil
	}
	if n, err := strconv.ParseInt(f.timestamp, 10, 64); err == nil && n >= 0 {
		return n, true, nil
	}
	at, err := time.Parse(time.RFC3339, f.timestamp)
	if err != nil || at.UnixMilli() < 0 { // negative times are Kafka's way to name the ends of the log
		return 0, true, usageError("--timestamp=%q: must be RFC 3339, such as 2026-01-31T12:00:00Z, or milliseconds since 1970", f.timestamp)
	}
	return at.UnixMilli(), true, nil
}

func (f *consumeFlags) run(cmd *cobra.Command, topic string) error {
	start, err := f.start()
	if err != nil {
		return err
	}
	if f.partition < -1 {
		return usageError("--partition=%d: must be a partition's number, or -1 for all", f.partition)
	}
	if f.count < 0 {
		return usageError("--count=%d: must not be negative; 0 goes on", f.count)
	}
	print, err := printerOf(f.format)
	if err != nil {
		return err
	}
	starts, ends, err := f.plan(cmd, topic, start)
	if err != nil || len(starts) == 0 {
		return err
	}
	client, err := f.client.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}),
		kgo.KeepRetryableFetchErrors(), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
	defer out.Flush()
	return newReading(f, topic, starts, ends).run(cmd.Context(), client, out, print)
}

// plan asks for the partitions and where to start in each; for --until-end also where each ends now, leaving out those
// with nothing to read.
func (f *consumeFlags) plan(cmd *cobra.Command, topic string, start kgo.Offset) (map[int32]kgo.Offset, map[int32]int64, error) {
	starts, ends := map[int32]kgo.Offset{}, map[int32]int64{}
	err := withAdmin(cmd, &f.client, func(ctx context.Context, admin *kadm.Client) error {
		partitions, err := f.partitions(ctx, admin, topic)
		if err != nil {
			return err
		}
		for _, p := range partitions {
			starts[p] = start
		}
		if !f.untilEnd && (f.offset == "" || strings.HasPrefix(f.offset, "-")) {
			return nil
		}
		return f.bound(ctx, admin, topic, starts, ends)
	})
	return starts, ends, err
}

func (f *consumeFlags) partitions(ctx context.Context, admin *kadm.Client, topic string) ([]int32, error) {
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, f.client.unreachable(err)
	}
	detail, ok := topics[topic]
	if !ok || errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
		return nil, f.client.missing(topic)
	}
	if detail.Err != nil {
		return nil, topicError("reading", topic, detail.Err, "")
	}
	var partitions []int32
	for _, p := range detail.Partitions.Numbers() {
		if f.partition < 0 || f.partition == p {
			partitions = append(partitions, p)
		}
	}
	if len(partitions) == 0 {
		return nil, &noPartitionError{topic, f.partition, len(detail.Partitions)}
	}
	return partitions, nil
}

// noPartitionError is a partition that a topic does not have.
type noPartitionError struct {
	topic     string
	partition int32
	count     int
}

func (e *noPartitionError) Error() string {
	return fmt.Sprintf("topic %s has no partition %d; it has %s, numbered from 0", e.topic, e.partition, countOf(e.count, "partition"))
}

// bound checks --offset against what there is. For --until-end it also replaces the starts by offsets and fills the ends; a partition
// with nothing between the two leaves both maps.
func (f *consumeFlags) bound(ctx context.Context, admin *kadm.Client, topic string, starts map[int32]kgo.Offset, ends map[int32]int64) error {
	last, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return f.client.unreachable(err)
	}
	first, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return f.client.unreachable(err)
	}
	after := first
	if ms, given, _ := f.startTime(); given {
		if after, err = admin.ListOffsetsAfterMilli(ctx, ms, topic); err != nil {
			return f.client.unreachable(err)
		}
	}
	for p := range starts {
		end, _ := last.Lookup(topic, p)
		begin, _ := first.Lookup(topic, p)
		found, _ := after.Lookup(topic, p)
		if err := cmp.Or(end.Err, begin.Err, found.Err); err != nil { // else the partition would seem to have nothing to read
			return fmt.Errorf("asking where partition %d of topic %s starts and ends at %s: %s; `weir topic describe %s` shows its state",
				p, topic, f.client.brokers, errorText(err), topic)
		}
		at := end.Offset
		switch {
		case f.fromBeginning:
			at = begin.Offset
		case f.timestamp != "":
			at = found.Offset
		case f.offset != "":
			if at, _ = strconv.ParseInt(f.offset, 10, 64); at < 0 {
				at = max(begin.Offset, end.Offset+at)
			}
			if behind := at > end.Offset && (f.partition >= 0 || !f.untilEnd); behind || at < begin.Offset {
				return fmt.Errorf("--offset=%d is out of range: partition %d of topic %s goes from %d to %d", at, p, topic, begin.Offset, end.Offset)
			}
		}
		if !f.untilEnd {
			continue
		}
		if at < 0 || at >= end.Offset {
			delete(starts, p)
			continue
		}
		starts[p], ends[p] = kgo.NewOffset().At(at), end.Offset
	}
	return nil
}

func printerOf(format string) (func(*bufio.Writer, *kgo.Record), error) {
	switch format {
	case "value":
		return func(w *bufio.Writer, r *kgo.Record) { w.Write(r.Value); w.WriteByte('\n') }, nil
	case "key-value":
		return func(w *bufio.Writer, r *kgo.Record) { fmt.Fprintf(w, "%s\t%s\n", r.Key, r.Value) }, nil
	case "headers":
		return func(w *bufio.Writer, r *kgo.Record) {
			var pairs []string
			for _, h := range r.Headers {
				pairs = append(pairs, h.Key+"="+string(h.Value))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", strings.Join(pairs, ","), r.Key, r.Value)
		}, nil
	case "json":
		return printRecordJSON, nil
	}
	return nil, usageError("--format=%q: must be value, key-value, headers or json", format)
}

// recordJSON is one line of --format json. Key and value are null where the record has none. What is not UTF-8 is there twice: as far
// as it is text, and whole in base64.
type recordJSON struct {
	Topic     string              `json:"topic"`
	Partition int32               `json:"partition"`
	Offset    int64               `json:"offset"`
	Timestamp int64               `json:"timestamp_ms"`
	Headers   []map[string]string `json:"headers"`
	Key       *string             `json:"key"`
	KeyBase64 string              `json:"key_base64,omitempty"`
	Value     *string             `json:"value"`
	Base64    string              `json:"value_base64,omitempty"`
}

// base64Unless is b in base64, or "" when b is UTF-8.
func base64Unless(b []byte) string {
	if utf8.Valid(b) {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}

func printRecordJSON(w *bufio.Writer, r *kgo.Record) {
	text := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	line := recordJSON{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Headers: []map[string]string{},
		Key: text(r.Key), KeyBase64: base64Unless(r.Key), Value: text(r.Value), Base64: base64Unless(r.Value),
	}
	for _, h := range r.Headers {
		header := map[string]string{"key": h.Key, "value": string(h.Value)}
		if whole := base64Unless(h.Value); whole != "" {
			header["value_base64"] = whole
		}
		line.Headers = append(line.Headers, header)
	}
	b, _ := json.Marshal(line)
	w.Write(b)
	w.WriteByte('\n')
}
