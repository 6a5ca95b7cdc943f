package main

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// TestConsumeOffsetOutOfRange asks for offsets that are not there: an error that says what is, and no other record in their place.
func TestConsumeOffsetOutOfRange(t *testing.T) {
	s := serve(t, t.TempDir())
	b := "--brokers=" + s.address
	must(t, "one\ntwo\nthree\n", "produce", "orders", b)
	for _, args := range [][]string{{"--count", "1"}, {"--until-end"}, {"--count", "1", "--partition", "0"}, {"--until-end", "--partition", "0"}} {
		args = append([]string{"consume", "orders", "--offset", "9", b}, args...)
		out, stderr, status := run(t, "", args...)
		if len(args) == 6 { // of all partitions, those that end before have nothing to tell
			if status != 0 || out != "" {
				t.Errorf("weir %s: exit status %d, output %q; want nothing", strings.Join(args, " "), status, out)
			}
			continue
		}
		if status != 1 || out != "" || !strings.Contains(stderr, "partition 0 of topic orders goes from 0 to 3") {
			t.Errorf("weir %s: exit status %d, output %q, %q; want 1 and the range", strings.Join(args, " "), status, out, stderr)
		}
	}
	if out := must(t, "", "consume", "orders", "--offset", "2", "-n", "1", b); out != "three\n" {
		t.Errorf("from 2: got %q", out)
	}
	for _, timestamp := range []string{"-5", "1969-12-31T23:59:59Z"} {
		if _, stderr, status := run(t, "", "consume", "orders", "--timestamp", timestamp, "-e", b); status != 2 || !strings.Contains(stderr, "since 1970") {
			t.Errorf("--timestamp=%s: exit status %d, %q; want 2", timestamp, status, stderr)
		}
	}
}

// TestBinaryRecordsInJSON finds every byte of what is not text.
func TestBinaryRecordsInJSON(t *testing.T) {
	s := serve(t, t.TempDir())
	b := "--brokers=" + s.address
	const binary = "\x00\xff\x80bin"
	must(t, binary+"|"+binary+"\n", "produce", "orders", "--key-separator", "|", "-H", "h="+"\xfe", "-H", "text=ä", b)
	must(t, "", "produce", "orders", "text", b)
	lines := strings.Split(must(t, "", "consume", "orders", "--from-beginning", "-e", "-f", "json", b), "\n")
	var line recordJSON
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][2]string{
		"key": {line.KeyBase64, binary}, "value": {line.Base64, binary}, "header": {line.Headers[0]["value_base64"], "\xfe"}, "text": {line.Headers[1]["value_base64"], ""},
	} {
		if want := base64.StdEncoding.EncodeToString([]byte(got[1])); got[0] != want {
			t.Errorf("%s: got %q, want %q", name, got[0], want)
		}
	}
	if strings.Contains(lines[1], "base64") {
		t.Errorf("text in base64: %s", lines[1])
	}
}

// TestProduceTakesWhatTheTopicTakes sends a record larger than the client's default, and one larger than the topic's limit.
func TestProduceTakesWhatTheTopicTakes(t *testing.T) {
	s := serve(t, t.TempDir())
	b := "--brokers=" + s.address
	must(t, "", "topic", "create", "large", "--set", "max.message.bytes=3000000", b)
	must(t, strings.Repeat("x", 2_500_000), "produce", "large", b)
	if out := must(t, "", "consume", "large", "--from-beginning", "-e", b); len(out) != 2_500_001 {
		t.Errorf("read %d bytes, want 2500001", len(out))
	}
	if _, stderr, status := run(t, strings.Repeat("x", 3_000_001), "produce", "large", b); status != 1 || !strings.Contains(stderr, "MESSAGE_TOO_LARGE") {
		t.Errorf("exit status %d, %q; want 1 and MESSAGE_TOO_LARGE", status, stderr)
	}
}

// TestProduceTellsNoOffsetWithoutAnAcknowledgement: with acks=0 nobody says which offset a record got.
func TestProduceTellsNoOffsetWithoutAnAcknowledgement(t *testing.T) {
	s := serve(t, t.TempDir())
	if out := must(t, "", "produce", "orders", "a", "--acks", "0", "-v", "--brokers", s.address); out != "orders 0 -1\n" {
		t.Errorf("got %q, want offset -1", out)
	}
}
