package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// damagedTopic starts a broker with a topic of two partitions. Of partition 0 the records from offset 100 on are damaged; partition 1 is whole.
func damagedTopic(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	s := serve(t, dir)
	must(t, "", "topic", "create", "c", "--partitions", "2", "--brokers", s.address)
	log := filepath.Join(dir, "c-0", "00000000000000000000.log")
	sound := int64(0)
	for _, records := range []int{100, 50} {
		if info, err := os.Stat(log); err == nil {
			sound = info.Size()
		}
		for _, p := range []string{"0", "1"} {
			must(t, strings.Repeat(strings.Repeat("x", 1000)+"\n", records), "produce", "c", "--partition", p, "--brokers", s.address)
		}
	}
	s.stop()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[(sound+int64(len(b)))/2:], "ZZ")
	if err := os.WriteFile(log, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return serve(t, dir)
}

// TestConsumeTellsOfADamagedPartition: what can be read is printed, also of the other partitions, and then the command says where it stands.
func TestConsumeTellsOfADamagedPartition(t *testing.T) {
	s := damagedTopic(t)
	for _, c := range []struct {
		args    []string
		records int
		from    string
	}{
		{[]string{"--from-beginning", "--until-end"}, 250, "from offset 100 on"},
		{[]string{"--from-beginning"}, 250, "from offset 100 on"},
		{[]string{"--partition", "0", "--offset", "120"}, 0, "from offset 120 on"},
		{[]string{"--partition", "0", "--offset", "-10", "--until-end"}, 0, "from offset 140 on"},
	} {
		start := time.Now()
		stdout, stderr, status := run(t, "", append([]string{"consume", "c", "--timeout", "2s", "--brokers", s.address}, c.args...)...)
		if n := strings.Count(stdout, "\n"); n != c.records {
			t.Errorf("%v: %d records, want %d", c.args, n, c.records)
		}
		for _, want := range []string{"partition 0 of topic c " + c.from, s.address, "KAFKA_STORAGE_ERROR", "within 2s", "weir topic describe c"} {
			if status != 1 || !strings.Contains(stderr, want) {
				t.Errorf("%v: exit status %d, %q; want 1 and %q", c.args, status, stderr, want)
			}
		}
		if took := time.Since(start); took < 2*time.Second || took > time.Minute {
			t.Errorf("%v: took %s, want --timeout", c.args, took)
		}
	}
	if out := must(t, "", "consume", "c", "--partition", "1", "--from-beginning", "--until-end", "--brokers", s.address); strings.Count(out, "\n") != 150 {
		t.Errorf("%d records of the whole partition, want 150", strings.Count(out, "\n"))
	}
}

// TestConsumeStopsAtTheEnd: what is written to a partition after it was read to its end is neither printed nor waited for, and does not keep the command
// from giving a damaged partition up.
func TestConsumeStopsAtTheEnd(t *testing.T) {
	s := damagedTopic(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for range 300 { // half a minute at least
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				_, _, _ = run(t, "live\n", "produce", "c", "--partition", "1", "--brokers", s.address)
			}
		}
	}()
	started := time.Now()
	stdout, stderr, status := run(t, "", "consume", "c", "--timeout", "2s", "--brokers", s.address, "--from-beginning", "--until-end")
	took := time.Since(started)
	close(stop)
	<-stopped
	if status != 1 || !strings.Contains(stderr, "partition 0 of topic c from offset 100 on") || took > 20*time.Second {
		t.Errorf("exit status %d after %s, %q; want 1 after 2s, and the damaged partition", status, took, stderr)
	}
	if n := strings.Count(stdout, "live\n"); n > 2 {
		t.Errorf("%d records printed that were written meanwhile, want those up to the end that was seen first", n)
	}
}

// TestConsumeGivesUpInTime: when a reading ends by itself, and what it says.
func TestConsumeGivesUpInTime(t *testing.T) {
	const timeout = 10 * time.Second
	f := func(name string, untilEnd bool, want string, test func(r *reading, at func(after time.Duration) time.Time)) {
		t.Run(name, func(t *testing.T) {
			r := newReading(&consumeFlags{untilEnd: untilEnd, client: clientFlags{brokers: "b:1", timeout: timeout}}, "c",
				map[int32]kgo.Offset{0: kgo.NewOffset().At(7)}, map[int32]int64{0: 9})
			test(r, func(after time.Duration) time.Time { return r.progress.Add(after) })
			at := func(after time.Duration) string { return fmt.Sprint(r.overdue(r.progress.Add(after))) }
			if early := at(timeout - time.Second); early != "<nil>" {
				t.Errorf("before the time is up: %s", early)
			}
			if got := at(timeout); !strings.Contains(got, want) {
				t.Errorf("got %s, want %q", got, want)
			}
		})
	}
	refuse := func(r *reading, err error, now time.Time) error {
		return r.note([]kgo.FetchError{{Topic: "c", Partition: 0, Err: err}}, now)
	}
	steadily := func(from time.Duration) func(r *reading, at func(time.Duration) time.Time) {
		return func(r *reading, at func(time.Duration) time.Time) {
			for after := from; after <= timeout; after += time.Second {
				if err := refuse(r, kerr.CorruptMessage, at(after)); err != nil {
					panic(err)
				}
			}
		}
	}
	const nothing = "nothing came within 10s, and no refusal"
	const refused = "partition 0 of topic c from offset 7 on at b:1: nothing came within 10s; the broker's last answer was CORRUPT_MESSAGE"
	f("silence", true, nothing, func(*reading, func(time.Duration) time.Time) {})
	f("silence of a log that nobody writes", false, "<nil>", func(*reading, func(time.Duration) time.Time) {})
	f("errors", true, refused, steadily(0))
	f("errors without an end", false, refused, steadily(0))
	f("errors that began later", true, refused, steadily(5*time.Second))
	f("errors that began later, without an end", false, "<nil>", steadily(5*time.Second))
	f("an error that passed", false, "<nil>", func(r *reading, at func(time.Duration) time.Time) {
		for _, after := range []time.Duration{0, 9 * time.Second} {
			if err := refuse(r, kerr.LeaderNotAvailable, at(after)); err != nil {
				panic(err)
			}
		}
	})
	r := newReading(&consumeFlags{}, "c", nil, nil)
	if err := refuse(r, kerr.TopicAuthorizationFailed, time.Now()); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("an error that stays: %v", err)
	}
}
