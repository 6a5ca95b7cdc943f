package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDumpOfTheMetadata: of what a broker wrote, every file is good, and every topic is told, as text and as JSON; of a damaged copy, file and
// position are.
func TestDumpOfTheMetadata(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	must(t, "", "topic", "create", "orders", "--partitions", "3", "--set", "retention.ms=3600000", "--brokers", s.address)
	must(t, "", "topic", "create", "payments", "--brokers", s.address)
	must(t, "", "topic", "create", "gone", "--brokers", s.address)
	must(t, "", "topic", "delete", "gone", "--brokers", s.address)
	must(t, "", "dump", dir, "--records") // beside the broker
	s.stop()
	id := topicID(t, dir, "create topic", "orders")
	image := takeSnapshot(t, dir)
	s = serve(t, dir)
	must(t, "", "topic", "create", "late", "--brokers", s.address)
	s.stop()

	text := must(t, "", "dump", dir, "--records")
	for _, want := range [][]string{
		{"POSITION", "ITEM", "NAME", "WHAT"}, {"quorum state", "term 3 voted for node 1 commit"}, {"snapshot", "voters [1]"},
		{"topic", "orders", "partitions 3: 3 on [1]", `retention.ms="3600000"`, id}, {"topic", "payments", "partitions 1"},
		{"entry", `create topic "late"`, "to 1 partitions"}, {"entry", "a leader begins"}, {"entry", "give out producer ids", "1 to node 1"},
		{image, "metadata-image", "ok"}, {filepath.Join(dir, quorumState), "quorum-state", "ok"},
	} {
		if !lineWith(text, want) {
			t.Errorf("no line has all of %q:\n%s", want, text)
		}
	}
	if got := topicID(t, dir, "", "orders"); got != id {
		t.Errorf("id of orders: %s in the snapshot, %s in the log", got, id)
	}
	if summary := must(t, "", "dump", dir); strings.Contains(summary, "a leader begins") {
		t.Errorf("without being asked to, dump prints entries:\n%s", summary)
	}
	for _, c := range []struct {
		path string
		pos  int // of the byte that is flipped
		want string
	}{
		{quorumState, 20, "corrupt at byte 20: line 2"},
		{quorumState, 40, "corrupt at byte "},
		{strings.TrimPrefix(image, dir+"/"), 3, "corrupt at byte 0: "},
		{strings.TrimPrefix(image, dir+"/"), 15, "corrupt at byte 12: the body has "},
		{strings.TrimPrefix(image, dir+"/"), 60, "corrupt at byte 8: the CRC of the body is "},
		{metadataLog, 80, "corrupt at byte "},
	} {
		damagedDump(t, dir, c.path, c.pos, c.want)
	}
}

// damagedDump dumps a copy of a data directory in which a byte of a file has rotted.
func damagedDump(t *testing.T, dir, name string, pos int, want string) {
	t.Helper()
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(bad, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[pos] ^= 0x20
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{bad, path} {
		out, _, status := run(t, "", "dump", at)
		if status != 1 || !lineWith(out, []string{path, path + ": " + want}) {
			t.Errorf("byte %d of %s: dump of %s: exit status %d, want 1 and %q\n%s", pos, name, at, status, want, out)
		}
		out, _, status = run(t, "", "dump", at, "--json")
		if status != 1 || !strings.Contains(out, `"fault":{"path":"`+path+`","position":`) {
			t.Errorf("byte %d of %s: dump --json of %s: exit status %d\n%s", pos, name, at, status, out)
		}
	}
}

// topicID is what dump --json says of a topic, in an entry that changes it or, with no change named, in the snapshot.
func topicID(t *testing.T, dir, change, topic string) string {
	t.Helper()
	out := must(t, "", "dump", dir, "--records", "--json")
	for line := range bytes.Lines([]byte(out)) {
		var l struct {
			Type string
			Item struct {
				Topic, TopicID string
				Changes        []struct{ Change, Name, TopicID string }
			}
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if change == "" && l.Type == "topic" && l.Item.Topic == topic {
			return l.Item.TopicID
		}
		for _, c := range l.Item.Changes {
			if l.Type == "metadata-entry" && c.Change == change && c.Name == topic {
				return c.TopicID
			}
		}
	}
	t.Fatalf("%s", fmt.Sprintf("no %q of topic %s", change, topic))
	return ""
}

// lineWith says whether a line of text has all the words.
func lineWith(text string, words []string) bool {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return true
		}
	}
	return false
}
