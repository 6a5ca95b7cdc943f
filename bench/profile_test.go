package bench

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestProfileExpandsVariedFields(t *testing.T) {
	p, err := ParseProfile("x/demo.profile", strings.NewReader(`
title: a demo   # with a comment
about: first
about: second
repeats: 3
acks: 0, all
value_bytes: 2KiB
topic.segment.bytes: 1048576

[slow]
rate: 1k, 50%
[fast]
acks: 1
rate: max
duration: 2m
`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "demo" || p.Title != "a demo" || p.About != "first second" || p.Repeats != 3 {
		t.Fatalf("%+v", p)
	}
	points, err := p.Points()
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, pt := range points {
		labels = append(labels, pt.Label())
		if pt.Spec.ValueBytes != 2048 || pt.Spec.TopicConf["segment.bytes"] != "1048576" {
			t.Fatalf("%s does not inherit: %+v", pt.Label(), pt.Spec)
		}
	}
	want := "slow acks=0 rate=1k|slow acks=0 rate=50%|slow acks=all rate=1k|slow acks=all rate=50%|fast"
	if got := strings.Join(labels, "|"); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	if points[0].Spec.Rate.Value != 1000 || points[1].Spec.Rate.Kind != RatePercent || points[4].Spec.Duration != 2*time.Minute {
		t.Fatalf("%+v", points)
	}
	if err := p.Override("duration", "7s"); err != nil {
		t.Fatal(err)
	}
	if points, _ = p.Points(); points[4].Spec.Duration != 7*time.Second {
		t.Fatal("a flag does not reach a case")
	}
	p.Quick()
	if points, _ = p.Points(); points[4].Spec.Duration != 3*time.Second || p.Repeats != 1 {
		t.Fatal("quick does not shorten")
	}
}

func TestBadProfilesNameFileLineAndField(t *testing.T) {
	cases := []struct{ text, want string }{
		{"acks: 2\n", `bad.profile:1: field acks: "2" is not 0, 1 or all`},
		{"\n\nakcs: 1\n", "bad.profile:3: field akcs: unknown"},
		{"acks 1\n", "bad.profile:1: field acks 1: "},
		{"rate: fast\n", `bad.profile:1: field rate: "fast" is not`},
		{"duration: 10\n", `bad.profile:1: field duration: "10" is not a duration`},
		{"value_bytes: 3 elephants\n", `bad.profile:1: field value_bytes: "3 elephants" is not a size`},
		{"partitions: 0x\n", "bad.profile:1: field partitions"},
		{"acks: 1\npartitions: -1\n", "bad.profile:2: field partitions"},
		{"fsync: sometimes\n", `bad.profile:1: field fsync: "sometimes" is not one of default, commit`},
		{"[one]\nrepeats: 2\n", "bad.profile:2: field repeats: only allowed before"},
		{"[one]\n[one]\n", "bad.profile:2: section \"one\" stands twice"},
		{"[one\n", "bad.profile:1: \"[one\" is not a section"},
		{"connections: 0\nconsumers: 1\n", "field fill_bytes"},
		{"repeats: 0\n", "bad.profile:1: field repeats"},
		{"value_bytes: 1\n", "bad.profile:1: field value_bytes: \"1\" is not between 8"},
		{"seed: 0\n", "bad.profile:1: field seed"},
		{"acks: 1\npayload: file:/nowhere/payload.json\n", "bad.profile:2: field payload: stat /nowhere/payload.json"},
		{"payload: file:/dev\n", "bad.profile:1: field payload: /dev is not a file"},
		{"drop_caches: perhaps\n", "bad.profile:1: field drop_caches"},
		{"", "bad.profile:1: nothing but comments and empty lines up to here: not a profile; `weir bench list --show"},
		{"# only\n\n  # comments\n", "bad.profile:4: nothing but comments"},
		{"\x7fELF\x02\x1b[31m\n", `bad.profile:1: field "\x7fELF\x02\x1b[31m": "\x7fELF\x02\x1b[31m" is not of the form`},
		{"\x1b[31m: 1\n", `bad.profile:1: field "\x1b[31m": unknown`},
		{"acks: \x1b[31m\n", `bad.profile:1: field acks: "\x1b[31m" is not 0`},
		{"acks: 1\n" + strings.Repeat("\x00", 1<<17), "bad.profile:2: the line is longer than 65536 bytes: not a profile"},
	}
	for _, c := range cases {
		_, err := ParseProfile("bad.profile", strings.NewReader(c.text))
		var pe *ProfileError
		if err == nil || !errors.As(err, &pe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200q: got %v, want %q", c.text, err, c.want)
			continue
		}
		if text := err.Error(); len(text) > 300 || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
			t.Errorf("%.200q: %d bytes to print, or control characters: %q", c.text, len(text), text)
		}
	}
}

func TestEveryFieldReadsBackWhatItPrints(t *testing.T) {
	s := testSpec(nil)
	for _, f := range Fields() {
		var other Spec
		if err := f.Set(&other, f.Get(s)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		} else if f.Get(&other) != f.Get(s) {
			t.Errorf("%s: %q became %q", f.Name, f.Get(s), f.Get(&other))
		}
		if f.Doc == "" {
			t.Errorf("%s has no text", f.Name)
		}
	}
}

func TestDefaultProfileFitsIntoAMinute(t *testing.T) {
	p, err := DefaultProfile()
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := p.Estimate(1, 512<<20); d > 50*time.Second {
		t.Fatalf("estimated at %v", d)
	}
}

func TestTargetsAreParsed(t *testing.T) {
	ok := map[string][2]string{"127.0.0.1:9092": {"127.0.0.1-9092", "127.0.0.1:9092"}, "new=host.example:9": {"new", "host.example:9"},
		"x=[::1]:9092,pid=17": {"x", "[::1]:9092"}, "y=:9092": {"y", "127.0.0.1:9092"}}
	for in, want := range ok {
		got, err := ParseTarget(in)
		if err != nil || got.Name() != want[0] || got.Addr() != want[1] {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
	for in, want := range map[string]string{"nope": "field address", "a=b": "field address", "a b=h:1": "field name", "h:1,pid=x": "field pid", "h:0": "field address"} {
		if _, err := ParseTarget(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
}

func TestReadyLineGivesTheAddress(t *testing.T) {
	for line, want := range map[string]string{
		"ready address=127.0.0.1:41234 data=/tmp/x fsync=commit": "127.0.0.1:41234",
		"ready address=[::1]:9092 data=/x":                       "[::1]:9092",
		"time=12:30:00 readyz on 127.0.0.1:9":                    "",
		"starting 127.0.0.1:9092":                                "",
	} {
		if got, ok := parseReady(line); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", line, got, ok)
		}
	}
}
