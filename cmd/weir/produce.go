package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// produceFlags are the choices of `weir produce`.
type produceFlags struct {
	client    clientFlags
	partition int32
	key       string
	separator string
	headers   []string
	codec     string
	acks      string
	verbose   bool
}

func newProduceCmd() *cobra.Command {
	f := &produceFlags{}
	cmd := &cobra.Command{
		Use:   "produce TOPIC [VALUE...]",
		Short: "Write records: each VALUE, or each line of standard input",
		Example: "  echo hello | weir produce orders\n" +
			"  weir produce orders one two three --key customer-7\n" +
			"  weir produce orders --key-separator : < pairs.txt",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1:]) },
	}
	f.client.add(cmd)
	cmd.Flags().Int32VarP(&f.partition, "partition", "p", -1, "partition to write to; -1 lets the key or chance decide")
	cmd.Flags().StringVarP(&f.key, "key", "k", "", "key of every record")
	cmd.Flags().StringVar(&f.separator, "key-separator", "", "split each line into key and value at this text")
	cmd.Flags().StringArrayVarP(&f.headers, "header", "H", nil, "header of every record, NAME=VALUE; may be given again")
	cmd.Flags().StringVarP(&f.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	cmd.Flags().StringVar(&f.acks, "acks", "all", "0, 1 or all")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "print topic, partition and offset of each record; the offset is -1 with --acks=0")
	return cmd
}

func (f *produceFlags) options() ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	codec, ok := codecs[f.codec]
	if !ok {
		return nil, usageError("--compression=%q: must be none, gzip, snappy, lz4 or zstd", f.codec)
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.RecordDeliveryTimeout(f.client.timeout), kgo.UnknownTopicRetries(2),
		kgo.AllowIdempotentProduceCancellation()} // nothing here writes a record again that it gave up
	switch f.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usageError("--acks=%q: must be 0, 1 or all", f.acks)
	}
	if f.partition < -1 {
		return nil, usageError("--partition=%d: must be a partition's number, or -1", f.partition)
	}
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

func (f *produceFlags) run(cmd *cobra.Command, topic string, values []string) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	var headers []kgo.RecordHeader
	for _, header := range f.headers {
		name, value, ok := strings.Cut(header, "=")
		if !ok {
			return usageError("--header %q: must be NAME=VALUE", header)
		}
		headers = append(headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	largest, err := f.largestBatch(cmd, topic)
	if err != nil {
		return f.client.unreachable(err)
	}
	said := &produceAnswers{}
	if f.acks != "0" {
		opts = append(opts, said.option(f.client.timeout))
	}
	client, err := f.client.connect(append(opts, kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(largest))...)
	if err != nil {
		return err
	}
	defer client.Close()
	p := &producing{flags: f, client: client, topic: topic, headers: headers, out: cmd.OutOrStdout()}
	if len(values) > 0 {
		for _, value := range values {
			p.send(cmd.Context(), []byte(value))
		}
	} else if err := p.standardInput(cmd.Context()); err != nil {
		return err
	}
	if err := client.Flush(cmd.Context()); err != nil {
		return err
	}
	if first := p.failed.Load(); first != nil {
		return f.explain(cmd, topic, first, said)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s written to %s\n", countOf(int(p.written.Load()), "record"), topic)
	return nil
}

// largestBatch is the topic's max.message.bytes as the broker tells it, so that what the broker takes is not refused here; Kafka's default
// when the topic is yet to be made or the broker does not tell. An error means that no broker answers.
func (f *produceFlags) largestBatch(cmd *cobra.Command, topic string) (largest int32, err error) {
	largest = 1048588
	err = withAdmin(cmd, &f.client, func(ctx context.Context, admin *kadm.Client) error {
		configs, err := admin.DescribeTopicConfigs(ctx, topic)
		if silent := net.Error(nil); errors.As(err, &silent) {
			return err
		}
		if err != nil || len(configs) != 1 || configs[0].Err != nil {
			return nil
		}
		for _, config := range configs[0].Configs {
			if n, err := strconv.ParseInt(config.MaybeValue(), 10, 32); config.Key == "max.message.bytes" && err == nil && n > 0 {
				largest = int32(min(n, 64<<20))
			}
		}
		return nil
	})
	return largest, err
}

func (f *produceFlags) explain(cmd *cobra.Command, topic string, failed *produceFailure, said *produceAnswers) error {
	err := failed.err
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("topic %s does not exist, or lacks the partition; `weir topic create %s` makes it", topic, topic)
	}
	if f.partition >= 0 && !errors.Is(err, kgo.ErrRecordTimeout) && cmd.Context().Err() == nil { // the client does not name what it found
		reading := consumeFlags{client: f.client, partition: f.partition}
		missing := withAdmin(cmd, &f.client, func(ctx context.Context, admin *kadm.Client) error {
			_, err := reading.partitions(ctx, admin, topic)
			return err
		})
		if no := (*noPartitionError)(nil); errors.As(missing, &no) {
			return no
		}
	}
	if errors.Is(err, kgo.ErrRecordTimeout) {
		err = said.why(failed.partition, f.client.timeout, err)
	}
	return fmt.Errorf("writing to %s at %s: %w", topic, f.client.brokers, err)
}

// producing is one run of `weir produce`.
type producing struct {
	flags   *produceFlags
	client  *kgo.Client
	topic   string
	headers []kgo.RecordHeader
	out     io.Writer
	written atomic.Int64
	failed  atomic.Pointer[produceFailure] // the first
}

// produceFailure is a record that was not written.
type produceFailure struct {
	err       error
	partition int32
}

// standardInput sends the lines of standard input. A signal ends it also while nothing comes there, which no read can be woken from.
func (p *producing) standardInput(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- p.lines(ctx, os.Stdin) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *producing) lines(ctx context.Context, in io.Reader) error {
	reader := bufio.NewReaderSize(in, 1<<20)
	for ctx.Err() == nil && p.failed.Load() == nil {
		line, err := reader.ReadBytes('\n')
		if len(line) > 0 {
			p.send(ctx, bytes.TrimSuffix(line, []byte("\n")))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading standard input: %w", err)
		}
	}
	return ctx.Err()
}

func (p *producing) send(ctx context.Context, value []byte) {
	rec := &kgo.Record{Topic: p.topic, Value: value, Headers: p.headers, Partition: max(p.flags.partition, 0)}
	if p.flags.key != "" {
		rec.Key = []byte(p.flags.key)
	}
	if separator := p.flags.separator; separator != "" {
		if key, rest, ok := bytes.Cut(value, []byte(separator)); ok {
			rec.Key, rec.Value = key, rest
		}
	}
	p.client.Produce(ctx, rec, func(r *kgo.Record, err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &produceFailure{err, r.Partition})
			return
		}
		p.written.Add(1)
		if p.flags.acks == "0" {
			r.Offset = -1 // nobody said which one it got
		}
		if p.flags.verbose {
			fmt.Fprintf(p.out, "%s %d %d\n", r.Topic, r.Partition, r.Offset)
		}
	})
}
