package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// describeJSON is `weir topic describe --json`.
func describeJSON(t *testing.T, s *server, topic string) topicDetail {
	t.Helper()
	var detail topicDetail
	if err := json.Unmarshal([]byte(must(t, "", "topic", "describe", topic, "--json", "-b", s.address)), &detail); err != nil {
		t.Fatal(err)
	}
	return detail
}

func TestDescribeShowsDurability(t *testing.T) {
	s := serve(t, t.TempDir())
	b := "--brokers=" + s.address
	must(t, "", "topic", "create", "safe", "lazy", "--partitions", "2", b)
	must(t, "", "topic", "alter", "lazy", "--set", "fsync.policy=never", b)
	for _, topic := range []string{"safe", "lazy"} {
		must(t, "one\ntwo\nthree\n", "produce", topic, "-p", "1", b)
	}
	safe, lazy := describeJSON(t, s, "safe").Partitions[1], describeJSON(t, s, "lazy").Partitions[1]
	d := safe.Durability
	if d == nil || safe.LogStart != 0 || safe.End != 3 || d.Durable != 3 || d.LogEnd != 3 || d.UnsyncedBytes != 0 || d.Syncs < 1 ||
		d.AppendsPerSync <= 0 || d.Dir == "" || d.SyncP50us == nil || d.SyncP99us == nil || *d.SyncP99us < *d.SyncP50us {
		t.Errorf("commit: got %+v, %+v", safe, d)
	}
	d = lazy.Durability
	if d == nil || lazy.End != 3 || d.Durable != 0 || d.LogEnd != 3 || d.UnsyncedBytes <= 0 || d.Syncs != 0 || d.AppendsPerSync != 0 {
		t.Errorf("never: got %+v, %+v", lazy, d)
	}
	table := must(t, "", "topic", "describe", "lazy", b)
	for _, want := range []string{"DURABLE", "LOG END", "UNSYNCED", "FSYNCS", "APPENDS/FSYNC", "FSYNC P50", "FSYNC P99"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %s:\n%s", want, table)
		}
	}
	cells := (*durabilityRow)(nil).columns() // what another broker gets
	if got := strings.Join(cells, " "); got != "- - - - - - -" {
		t.Errorf("columns without weir: %q", got)
	}
	s.stop()
}

// TestExplain holds the words against the settings in force, whoever set them.
func TestExplain(t *testing.T) {
	s := serve(t, t.TempDir(), "--set", "fsync.policy=interval", "--set", "log.disk.used.max.ratio=0.9")
	b := "--brokers=" + s.address
	f := func(topic string, settings, want, not []string) {
		t.Helper()
		args := []string{"topic", "create", topic, b}
		for _, setting := range settings {
			args = append(args, "--set", setting)
		}
		must(t, "", args...)
		must(t, "x\n", "produce", topic, "-k", "k", "--acks", "1", b)
		got := must(t, "", "explain", topic, b)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("explain %s lacks %q:\n%s", topic, w, got)
			}
		}
		for _, n := range not {
			if strings.Contains(got, n) {
				t.Errorf("explain %s says %q:\n%s", topic, n, got)
			}
		}
	}
	f("default", nil,
		[]string{"fsync.policy=interval, every 1s or 64 MiB (fsync.policy of the broker)", "within 1s of the write", "acks=0", "acks=1", "acks=all",
			"fails to write the record back later", "168h0m0s", "more than 90 % of the disk", "100 times now: p50"}, nil)
	f("messages", []string{"flush.messages=1", "retention.ms=-1"},
		[]string{"fsync.policy=commit (flush.messages=1 of the topic)", "its fdatasync has returned", "answered fdatasync without storing the bytes",
			"before the record is on the disk"}, []string{"within 1s", "retention.ms", "90 %"})
	f("flush", []string{"flush.ms=250"}, []string{"fsync.policy=interval, every 250ms", "(flush.ms=250 of the topic)", "within 250ms"}, nil)
	f("never", []string{"fsync.policy=never", "cleanup.policy=compact"},
		[]string{"before the kernel wrote the record back", "compaction keeps the newest record"}, []string{"its fdatasync has returned", "older than"})
	f("delayed", []string{"fsync.policy=commit", "fsync.max.delay.ms=7"},
		[]string{"may wait up to 7ms for company", "fsyncs of the broker in this log directory since its start: p50"}, nil)
	f("strict", []string{"min.insync.replicas=2"}, []string{"every record is refused, min.insync.replicas=2 of 1 replica"}, nil)

	must(t, "", "topic", "alter", "default", "--set", "fsync.policy=commit", b)
	var e explanation
	if err := json.Unmarshal([]byte(must(t, "", "explain", "default", "--json", b)), &e); err != nil {
		t.Fatal(err)
	}
	if e.Policy != "commit" || e.From != "fsync.policy of the topic" || len(e.Acks) != 3 || len(e.Acks[2].Loses) == 0 || e.SyncP50us <= 0 || e.SyncP99us < e.SyncP50us {
		t.Errorf("after a live change: %+v", e)
	}
	s.stop()
}

// TestDoctorFindsAMissingJournal holds the line about the journal against two file systems of the kernel.
func TestDoctorFindsAMissingJournal(t *testing.T) {
	f := func(found, level string, mkfs ...string) {
		t.Helper()
		dir := t.TempDir()
		disk := mountImage(t, dir, filepath.Join(dir, "image"), "64M", mkfs...)
		out, stderr, status := run(t, "", "doctor", "--json", "--data-dir", disk.mount)
		var findings []finding
		if err := json.Unmarshal([]byte(out), &findings); err != nil || status != 0 {
			t.Fatalf("status %d, %v\n%s%s", status, err, out, stderr)
		}
		at := slices.IndexFunc(findings, func(f finding) bool { return f.Check == "journal" })
		if at < 0 || findings[at].Found != found || findings[at].Level != level {
			t.Errorf("mkfs.ext4 %v: want %s, %s in %+v", mkfs, found, level, findings)
		}
	}
	f("there is one", "ok")
	f("none", "warn", "-O", "^has_journal")
}

// TestDoctor looks at every line that it owes.
func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	doctor := func(args ...string) (levels, founds map[string]string, status int) {
		t.Helper()
		out, stderr, status := run(t, "", append([]string{"doctor", "--json", "--data-dir", dir}, args...)...)
		var findings []finding
		if err := json.Unmarshal([]byte(out), &findings); err != nil {
			t.Fatalf("%v\n%s%s", err, out, stderr)
		}
		levels, founds = map[string]string{}, map[string]string{}
		for _, f := range findings {
			levels[f.Check], founds[f.Check] = f.Level, f.Found
			if f.Level != "ok" && f.Level != "skip" && f.Advice == "" {
				t.Errorf("%s is %s without a word of what to change", f.Check, f.Level)
			}
		}
		return levels, founds, status
	}
	s := serve(t, dir)
	levels, founds, _ := doctor("--brokers", s.address)
	for _, check := range []string{"kernel", "processor", "memory", "open files", "clock source", "clock", "congestion control", "data directory", "file system",
		"mount options", "free space", "fdatasync", "broker", "advertised address"} {
		if levels[check] == "" {
			t.Errorf("no line about %s: %v", check, levels)
		}
	}
	if levels["broker"] != "ok" || levels["advertised address"] != "ok" || !strings.Contains(founds["fdatasync"], "p99") {
		t.Errorf("got %v, %v", levels, founds)
	}
	s.stop()
	lost := serve(t, t.TempDir(), "--advertise", "192.0.2.1:9") // nobody's address (RFC 5737)
	if levels, _, status := doctor("--brokers", lost.address, "--timeout", "1s"); levels["advertised address"] != "fail" || status != 1 {
		t.Errorf("an address that nobody answers at: %v, exit status %d", levels, status)
	}
	lost.stop()
	if levels, _, status := doctor("--dial", "--brokers", s.address, "--timeout", "1s"); levels["broker"] != "fail" || status != 1 {
		t.Errorf("a broker that does not run: %v, exit status %d", levels, status)
	}
}

// TestDescribeMarksOfflinePartitions: damage shows once it was met, in the table and in JSON, and where it is.
func TestDescribeMarksOfflinePartitions(t *testing.T) {
	s := damagedTopic(t)
	if _, _, status := run(t, "", "consume", "c", "--partition", "0", "--from-beginning", "--until-end", "--timeout", "1s", "-b", s.address); status != 1 {
		t.Fatalf("consume: exit status %d, want 1", status)
	}
	damaged, whole := describeJSON(t, s, "c").Partitions[0], describeJSON(t, s, "c").Partitions[1]
	if damaged.State != partitionOffline || !strings.Contains(damaged.Error, "c-0/00000000000000000000.log: corrupt at byte ") ||
		strings.Contains(damaged.Error, "engine:") || damaged.End != 150 {
		t.Errorf("the damaged partition: %+v", damaged)
	}
	if whole.State != partitionOnline || whole.Error != "" {
		t.Errorf("the whole partition: %+v", whole)
	}
	table := must(t, "", "topic", "describe", "c", "-b", s.address)
	for _, want := range []string{"\n0          OFFLINE  1 ", "\n1          online   1 ", "\npartition 0 is OFFLINE: " + damaged.Error + "\n"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
}

// A failed log directory tells nothing of the partitions in it: they are those that are in no other.
func TestDescribeMarksPartitionsOfAFailedDirectory(t *testing.T) {
	failed, sound := kmsg.NewDescribeLogDirsResponseDir(), kmsg.NewDescribeLogDirsResponseDir()
	failed.Dir, failed.ErrorCode, sound.Dir = "/disk1", kerr.KafkaStorageError.Code, "/disk2"
	topic := kmsg.NewDescribeLogDirsResponseDirTopic()
	topic.Topic = "c"
	p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
	p.Partition = 1
	topic.Partitions = append(topic.Partitions, p)
	sound.Topics = append(sound.Topics, topic)
	detail := topicDetail{Name: "c"}
	for i, leader := range []int32{1, 1, 2} {
		detail.Partitions = append(detail.Partitions, partitionRow{Partition: int32(i), State: partitionOnline, Leader: leader})
	}
	detail.addLogDirs(1, []kmsg.DescribeLogDirsResponseDir{failed, sound})
	for i, want := range []string{"its log directory has failed: /disk1: KAFKA_STORAGE_ERROR", "", ""} {
		if row := detail.Partitions[i]; !strings.HasPrefix(row.Error, want) || (row.State == partitionOffline) != (want != "") {
			t.Errorf("partition %d: %+v, want %q", i, row, want)
		}
	}
}

// A topic that is not there is told in the same words by all that read it.
func TestMissingTopicsAreToldAlike(t *testing.T) {
	s := serve(t, t.TempDir())
	want := "weir: topic nope does not exist at " + s.address + "; `weir topic list` shows those that do\n"
	for _, args := range [][]string{{"topic", "describe", "nope"}, {"explain", "nope"}, {"consume", "nope"}} {
		if _, stderr, status := run(t, "", append(args, "--brokers", s.address)...); status != 1 || stderr != want {
			t.Errorf("%v: exit status %d, %q; want 1 and %q", args, status, stderr, want)
		}
	}
}
