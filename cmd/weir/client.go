package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientFlags are the flags of every command that talks to a broker as a client.
type clientFlags struct {
	brokers string
	timeout time.Duration
}

func (f *clientFlags) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&f.brokers, "brokers", "b", "127.0.0.1:9092", "brokers to ask, HOST:PORT separated by commas")
	cmd.PersistentFlags().DurationVar(&f.timeout, "timeout", 10*time.Second, "give up when a broker does not answer for this long")
}

// connect makes a client; it does not dial yet.
func (f *clientFlags) connect(opts ...kgo.Opt) (*kgo.Client, error) {
	var seeds []string
	for _, seed := range strings.Split(f.brokers, ",") {
		if seed = strings.TrimSpace(seed); seed == "" {
			continue
		}
		_, port, err := net.SplitHostPort(seed)
		if n, numberErr := strconv.ParseUint(port, 10, 16); err != nil || numberErr != nil || n == 0 {
			return nil, usageError("--brokers=%q: %q must be HOST:PORT, such as 127.0.0.1:9092", f.brokers, seed)
		}
		seeds = append(seeds, seed)
	}
	if len(seeds) == 0 {
		return nil, usageError("--brokers=%q names no broker; give HOST:PORT", f.brokers)
	}
	if f.timeout <= 0 {
		return nil, usageError("--timeout=%s must be positive", f.timeout)
	}
	opts = append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.DialTimeout(f.timeout), kgo.RetryTimeout(f.timeout),
		kgo.RequestTimeoutOverhead(f.timeout), kgo.ClientID("weir-cli")}, opts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, usageError("%v", err)
	}
	return client, nil
}

// missing says that a topic does not exist.
func (f *clientFlags) missing(topic string) error {
	return fmt.Errorf("topic %s does not exist at %s; `weir topic list` shows those that do", topic, f.brokers)
}

// errorText is an error to go on after: Kafka's descriptions end with a full stop.
func errorText(err error) string { return strings.TrimSuffix(err.Error(), ".") }

// unreachable words an error of a request so that it says which broker was asked.
func (f *clientFlags) unreachable(err error) error {
	if shards := (*kadm.ShardErrors)(nil); errors.As(err, &shards) && len(shards.Errs) > 0 {
		err = shards.Errs[0].Err // beside it they tell how many brokers were asked
	}
	return fmt.Errorf("asking %s: %w", f.brokers, err)
}
