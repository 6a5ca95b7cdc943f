package bench

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Field is one field of a Spec as profiles and flags name it.
type Field struct {
	Name string // in profiles; flags write - for _
	Doc  string
	set  func(*Spec, string) error
	get  func(*Spec) string
}

// Set parses value into the field of s. The error names what is allowed, not the field.
func (f *Field) Set(s *Spec, value string) error { return f.set(s, value) }

// Get formats the field of s so that Set reads it back.
func (f *Field) Get(s *Spec) string { return f.get(s) }

func intField(name, doc string, at func(*Spec) *int) Field {
	return Field{name, doc, func(s *Spec, v string) error {
		n, err := parseCount(v)
		if err != nil {
			return err
		}
		*at(s) = int(n)
		return nil
	}, func(s *Spec) string { return strconv.Itoa(*at(s)) }}
}

func bytesField(name, doc string, at func(*Spec) *int) Field {
	return Field{name, doc, func(s *Spec, v string) error {
		n, err := parseBytes(v)
		if err != nil {
			return err
		}
		*at(s) = int(n)
		return nil
	}, func(s *Spec) string { return strconv.Itoa(*at(s)) }}
}

func durationField(name, doc string, at func(*Spec) *time.Duration) Field {
	return Field{name, doc, func(s *Spec, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is not a duration such as 500ms, 30s or 10m", v)
		}
		*at(s) = d
		return nil
	}, func(s *Spec) string { return at(s).String() }}
}

func stringField(name, doc string, at func(*Spec) *string) Field {
	return Field{name, doc, func(s *Spec, v string) error {
		*at(s) = v
		return nil
	}, func(s *Spec) string { return *at(s) }}
}

// Fields lists every field of a Spec, in the order of the documentation. Topic configuration is set by names topic.KEY, which
// FieldNamed makes on demand.
func Fields() []Field {
	fields := []Field{
		stringField("engine", "raw (pre-encoded, cheap) or kgo (franz-go: what an application sees)", func(s *Spec) *string { return &s.Engine }),
		{"acks", "acknowledgements asked for: 0, 1 or all", setAcks, func(s *Spec) string { return s.Acks.String() }},
		stringField("fsync", "durability class of the topic: default, commit, interval or never", func(s *Spec) *string { return &s.Fsync }),
		stringField("codec", "none, gzip, snappy, lz4 or zstd", func(s *Spec) *string { return &s.Codec }),
		intField("partitions", "partitions of the topic", func(s *Spec) *int { return &s.Partitions }),
		intField("connections", "producer connections, 0 for none", func(s *Spec) *int { return &s.Conns }),
		intField("idle_connections", "connections that only stay open", func(s *Spec) *int { return &s.IdleConns }),
		intField("consumers", "tail readers, each reading every record", func(s *Spec) *int { return &s.Consumers }),
		intField("catch_up", "readers that start at the first offset when the measurement starts", func(s *Spec) *int { return &s.CatchUp }),
		bytesField("value_bytes", "size of each record's value", func(s *Spec) *int { return &s.ValueBytes }),
		intField("batch_records", "records per batch", func(s *Spec) *int { return &s.Records }),
		stringField("payload", "random, text (JSON events) or file:PATH", func(s *Spec) *string { return &s.Payload }),
		{"rate", "offered records/s: a number, max, search, or a percentage of the first target's maximum", setRate,
			func(s *Spec) string { return s.Rate.String() }},
		intField("in_flight", "requests in flight per connection when rate is max", func(s *Spec) *int { return &s.InFlight }),
		stringField("schedule", "arrivals: uniform, poisson or burst", func(s *Spec) *string { return (*string)(&s.Schedule) }),
		intField("burst", "requests per burst", func(s *Spec) *int { return &s.Burst }),
		stringField("verify", "what readers check: full, header or offsets", func(s *Spec) *string { return (*string)(&s.Verify) }),
		bytesField("fetch_bytes", "largest fetch, in all and per partition", func(s *Spec) *int { return &s.FetchBytes }),
		durationField("fetch_wait", "how long a fetch may wait for data", func(s *Spec) *time.Duration { return &s.FetchWait }),
		bytesField("fetch_min", "least bytes of a fetch", func(s *Spec) *int { return &s.FetchMin }),
		{"fill_bytes", "value bytes written before the measurement", setFill, func(s *Spec) string { return strconv.FormatInt(s.FillBytes, 10) }},
		durationField("warmup", "least warm-up", func(s *Spec) *time.Duration { return &s.Warmup }),
		durationField("duration", "measured time", func(s *Spec) *time.Duration { return &s.Duration }),
		durationField("drain", "how long to wait for answers at the end", func(s *Spec) *time.Duration { return &s.Drain }),
		stringField("congestion", "TCP congestion control of our sockets, system to leave it", func(s *Spec) *string { return &s.Congestion }),
		{"seed", "seed of schedules and payloads", setSeed, func(s *Spec) string { return strconv.FormatUint(s.Seed, 10) }},
		durationField("p99_limit", "latency bound of rate: search", func(s *Spec) *time.Duration { return &s.P99Limit }),
		{"drop_caches", "drop the page cache before the measurement (root only): true or false", setDrop,
			func(s *Spec) string { return strconv.FormatBool(s.DropCaches) }},
	}
	return fields
}

// FieldNamed finds a field; names may be written with - for _.
func FieldNamed(name string) (Field, bool) {
	if key, ok := strings.CutPrefix(name, "topic."); ok && key != "" {
		return Field{Name: name, Doc: "topic configuration", set: func(s *Spec, v string) error {
			conf := map[string]string{key: v}
			for k, v := range s.TopicConf {
				if k != key {
					conf[k] = v
				}
			}
			s.TopicConf = conf
			return nil
		}, get: func(s *Spec) string { return s.TopicConf[key] }}, true
	}
	name = strings.ReplaceAll(name, "-", "_")
	for _, f := range Fields() {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

func setAcks(s *Spec, v string) error {
	switch v {
	case "0":
		s.Acks = 0
	case "1":
		s.Acks = 1
	case "all", "-1":
		s.Acks = -1
	default:
		return fmt.Errorf("%q is not 0, 1 or all", v)
	}
	return nil
}

func setRate(s *Spec, v string) error {
	switch {
	case v == "max":
		s.Rate = Rate{Kind: RateMax}
		return nil
	case v == "search":
		s.Rate = Rate{Kind: RateSearch}
		return nil
	}
	if p, ok := strings.CutSuffix(v, "%"); ok {
		n, err := strconv.ParseFloat(p, 64)
		if err != nil || n <= 0 || n > 1000 {
			return fmt.Errorf("%q is not a percentage above 0", v)
		}
		s.Rate = Rate{Kind: RatePercent, Value: n}
		return nil
	}
	n, err := parseCount(strings.TrimSuffix(v, "/s"))
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of records per second, max, search or a percentage", v)
	}
	s.Rate = Rate{Kind: RateAbsolute, Value: float64(n)}
	return nil
}

func setFill(s *Spec, v string) error {
	n, err := parseBytes(v)
	if err == nil {
		s.FillBytes = n
	}
	return err
}

func setSeed(s *Spec, v string) error {
	n, err := strconv.ParseUint(v, 0, 64)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a positive integer", v)
	}
	s.Seed = n
	return nil
}

func setDrop(s *Spec, v string) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%q is not true or false", v)
	}
	s.DropCaches = b
	return nil
}

// parseCount reads a number with an optional k, M or G (powers of 1000) and _ between digits.
func parseCount(v string) (int64, error) {
	return parseUnits(v, map[string]int64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}, "a number such as 500, 20k or 1M")
}

// parseBytes reads a size with an optional unit: B, KiB, MiB, GiB, or kB, MB, GB.
func parseBytes(v string) (int64, error) {
	return parseUnits(v, map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1e3, "MB": 1e6, "GB": 1e9},
		"a size such as 100, 64KiB or 2GiB")
}

func parseUnits(v string, units map[string]int64, want string) (int64, error) {
	digits := strings.TrimRight(v, "BKMGki")
	unit, ok := units[strings.TrimSpace(v[len(digits):])]
	n, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(digits), "_", ""), 64)
	if !ok || err != nil || n < 0 || n*float64(unit) > 1<<60 {
		return 0, fmt.Errorf("%q is not %s", v, want)
	}
	return int64(n * float64(unit)), nil
}

// ParseBytes reads a size such as 512MiB or 8GiB, "" is 0.
func ParseBytes(v string) (int64, error) {
	if v == "" {
		return 0, nil
	}
	return parseBytes(v)
}
