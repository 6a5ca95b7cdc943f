package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Acks is the number of acknowledgements that a produce request asks for, as on the wire: 0, 1 or -1 (all).
type Acks int16

// String gives "0", "1" or "all".
func (a Acks) String() string {
	if a == -1 {
		return "all"
	}
	return strconv.Itoa(int(a))
}

// Verify says how much of what was read a consumer checks.
type Verify string

// The verify modes, from the dearest to the cheapest.
const (
	VerifyFull    Verify = "full"    // batch CRC, every record decoded, its own CRC, sequence of the batch
	VerifyHeader  Verify = "header"  // batch header and sequence stamp; record bytes are received but not looked at
	VerifyOffsets Verify = "offsets" // as header, but record bytes are dropped inside the kernel (MSG_TRUNC)
)

// RateKind says how a Rate's value is meant.
type RateKind uint8

// The kinds of offered load.
const (
	RateAbsolute RateKind = iota // records per second
	RateMax                      // as fast as InFlight allows (closed loop: latency is service time)
	RatePercent                  // per cent of the maximum found beforehand on the first target
	RateSearch                   // highest rate that meets the rule documented at search
)

// Rate is an offered load.
type Rate struct {
	Kind  RateKind
	Value float64 // records/s for RateAbsolute, per cent for RatePercent
}

// String gives the profile's notation: "20000", "max", "80%" or "search".
func (r Rate) String() string {
	switch r.Kind {
	case RateMax:
		return "max"
	case RateSearch:
		return "search"
	case RatePercent:
		return strconv.FormatFloat(r.Value, 'f', -1, 64) + "%"
	}
	return strconv.FormatFloat(r.Value, 'f', -1, 64)
}

// Spec is one load: everything that decides what is sent, how fast, and what is checked. The zero value is not usable; call
// EnsureDefaults and Validate. Field names in profiles and flags are listed in fields.go.
type Spec struct {
	Case       string            // label of the profile's section; Default: "main"
	Engine     string            // "raw" (pre-encoded, cheap) or "kgo" (franz-go, what an application sees); Default: raw
	Acks       Acks              // 0, 1 or -1; Default: -1
	Fsync      string            // commit, interval, never, or default (the target's own); Default: default
	Codec      string            // none, gzip, snappy, lz4, zstd; Default: none
	Partitions int               // partitions of the topic; Default: 6
	Conns      int               // producer connections; 0 = no producers; Default: 2
	IdleConns  int               // connections that only hold a socket open; Default: 0
	Consumers  int               // tail readers, each reading every record; Default: 0
	CatchUp    int               // readers that start at the first offset when the measurement starts; Default: 0
	ValueBytes int               // bytes of each record's value, at least 8; Default: 1024
	Records    int               // records per batch; Default: 64
	Payload    string            // random, text, or file:PATH; Default: random
	Rate       Rate              // offered load in records/s over all connections; Default: max
	InFlight   int               // requests in flight per connection when Rate is max; Default: 5
	Schedule   ScheduleKind      // uniform, poisson, burst; Default: uniform
	Burst      int               // requests per burst; Default: 16
	Verify     Verify            // what consumers check; Default: header
	FetchBytes int               // fetch.max.bytes and per partition limit; Default: 8 MiB
	FetchWait  time.Duration     // fetch.max.wait; Default: 500ms
	FetchMin   int               // fetch.min.bytes; Default: 1
	FillBytes  int64             // bytes of values written at full speed before the measurement; Default: 0
	Warmup     time.Duration     // least warm-up; as much again is added until two windows agree; Default: 5s
	Duration   time.Duration     // measured time; Default: 30s
	Drain      time.Duration     // how long to wait for answers and readers at the end; Default: 30s
	Congestion string            // TCP congestion control of the generator's sockets, "system" to leave it; Default: system
	Seed       uint64            // seed of schedules and payloads; Default: 1
	TopicConf  map[string]string // further topic configuration, from fields named topic.KEY
	P99Limit   time.Duration     // limit of the search rule; Default: 50ms
	DropCaches bool              // drop the host's page cache before the measurement (needs root); Default: false
}

// EnsureDefaults fills every zero field that has a default. Conns stays 0 when consumers were asked for with FillBytes.
func (s *Spec) EnsureDefaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defS := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	defD := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	defS(&s.Case, "main")
	defS(&s.Engine, "raw")
	defS(&s.Fsync, "default")
	defS(&s.Codec, "none")
	defS(&s.Payload, "random")
	defS(&s.Congestion, "system")
	defS((*string)(&s.Verify), string(VerifyHeader))
	defS((*string)(&s.Schedule), string(ScheduleUniform))
	def(&s.Partitions, 6)
	def(&s.ValueBytes, 1024)
	def(&s.Records, 64)
	def(&s.InFlight, 5)
	def(&s.Burst, 16)
	def(&s.FetchBytes, 8<<20)
	def(&s.FetchMin, 1)
	defD(&s.FetchWait, 500*time.Millisecond)
	defD(&s.Warmup, 5*time.Second)
	defD(&s.Duration, 30*time.Second)
	defD(&s.Drain, 30*time.Second)
	defD(&s.P99Limit, 50*time.Millisecond)
	if s.Seed == 0 {
		s.Seed = 1
	}
	if s.Rate.Kind == RateAbsolute && s.Rate.Value == 0 {
		s.Rate.Kind = RateMax
	}
}

// FieldError says which field of a Spec is impossible.
type FieldError struct {
	Field string // the profile's name of the field
	Value string // what was given
	Want  string // what is allowed
}

// Error names field, value and range.
func (e *FieldError) Error() string { return fmt.Sprintf("%s: %q is not %s", e.Field, e.Value, e.Want) }

// Validate returns a *FieldError for the first impossible field, nil when the Spec can run. Call EnsureDefaults first.
func (s *Spec) Validate() error {
	if err := s.validateNames(); err != nil {
		return err
	}
	ranges := []struct {
		field    string
		v        int64
		min, max int64
	}{
		{"partitions", int64(s.Partitions), 1, 100_000}, {"connections", int64(s.Conns), 0, 10_000},
		{"idle_connections", int64(s.IdleConns), 0, 60_000}, {"consumers", int64(s.Consumers), 0, 1000},
		{"catch_up", int64(s.CatchUp), 0, 1000}, {"value_bytes", int64(s.ValueBytes), 8, 64 << 20},
		{"batch_records", int64(s.Records), 1, 1 << 20}, {"in_flight", int64(s.InFlight), 1, 1 << 16},
		{"burst", int64(s.Burst), 1, 1 << 20}, {"fetch_bytes", int64(s.FetchBytes), 1, 1 << 30},
		{"fetch_min", int64(s.FetchMin), 0, 1 << 30}, {"fill_bytes", s.FillBytes, 0, math.MaxInt64},
	}
	for _, r := range ranges {
		if r.v < r.min || r.v > r.max {
			return &FieldError{r.field, strconv.FormatInt(r.v, 10), fmt.Sprintf("between %d and %d", r.min, r.max)}
		}
	}
	if b := int64(s.ValueBytes) * int64(s.Records); b > 256<<20 {
		return &FieldError{"batch_records", strconv.Itoa(s.Records), "small enough: a batch may hold 256 MiB of values"}
	}
	if s.Duration < 0 || s.Warmup < 0 || s.FetchWait < 0 {
		return &FieldError{"duration", s.Duration.String(), "a positive duration"}
	}
	if s.Rate.Value < 0 || math.IsNaN(s.Rate.Value) || math.IsInf(s.Rate.Value, 0) {
		return &FieldError{"rate", s.Rate.String(), "records per second, max, search or a percentage"}
	}
	if s.Conns == 0 && s.Consumers == 0 && s.CatchUp == 0 && s.IdleConns == 0 {
		return &FieldError{"connections", "0", "enough: no producer, consumer or idle connection is asked for"}
	}
	if s.Conns == 0 && s.FillBytes == 0 && s.Consumers+s.CatchUp > 0 {
		return &FieldError{"fill_bytes", "0", "enough: consumers without producers need data to read"}
	}
	return nil
}

func (s *Spec) validateNames() error {
	checks := []struct {
		field, v string
		allowed  []string
	}{
		{"engine", s.Engine, []string{"raw", "kgo"}},
		{"acks", s.Acks.String(), []string{"0", "1", "all"}},
		{"fsync", s.Fsync, []string{"default", "commit", "interval", "never"}},
		{"codec", s.Codec, codecNames},
		{"schedule", string(s.Schedule), []string{"uniform", "poisson", "burst"}},
		{"verify", string(s.Verify), []string{"full", "header", "offsets"}},
	}
	for _, c := range checks {
		ok := false
		for _, a := range c.allowed {
			ok = ok || a == c.v
		}
		if !ok {
			return &FieldError{c.field, c.v, "one of " + strings.Join(c.allowed, ", ")}
		}
	}
	if s.Payload != "random" && s.Payload != "text" && !strings.HasPrefix(s.Payload, "file:") {
		return &FieldError{"payload", s.Payload, "random, text or file:PATH"}
	}
	return nil
}

// BatchValueBytes is the number of value bytes in one batch: the unit in which throughput is counted.
func (s *Spec) BatchValueBytes() int64 { return int64(s.ValueBytes) * int64(s.Records) }

// codecNames is indexed by the codec's number in a batch's attributes.
var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func codecNumber(name string) int {
	for i, n := range codecNames {
		if n == name {
			return i
		}
	}
	return 0
}
