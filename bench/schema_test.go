package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// schemaPaths lists every field of results.json as a path with its JSON type: points[].runs[].valid is a bool.
func schemaPaths() map[string]string {
	out := map[string]string{}
	walkSchema(reflect.TypeOf(Results{}), "", out)
	return out
}

func walkSchema(t reflect.Type, prefix string, out map[string]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			walkSchema(f.Type, prefix, out)
		case f.IsExported() && name != "-":
			schemaField(f.Type, prefix+name, out)
		}
	}
}

func schemaField(t reflect.Type, path string, out map[string]string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeOf(time.Time{}):
		out[path] = "time"
	case t == reflect.TypeOf(Latency{}), t == reflect.TypeOf(SyncSummary{}): // they occur often and are described once
		name := map[bool]string{true: "latency", false: "syncs"}[t == reflect.TypeOf(Latency{})]
		out[path] = name
		walkSchema(t, name+".", out)
	case t.Kind() == reflect.Struct:
		out[path] = "object"
		walkSchema(t, path+".", out)
	case t.Kind() == reflect.Slice:
		schemaField(t.Elem(), path+"[]", out)
	case t.Kind() == reflect.Map:
		out[path] = "object of " + schemaType(t.Elem())
	default:
		out[path] = schemaType(t)
	}
}

func schemaType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	default:
		return "number"
	}
}

// documentedSchema reads the tables of docs/results.md: path, type and meaning.
func documentedSchema(text string) (fields map[string]string, noMeaning []string) {
	fields = map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([a-z ]+) \\| (.*) \\|$")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		fields[m[1]] = m[2]
		if len(m[3]) < 4 {
			noMeaning = append(noMeaning, m[1])
		}
	}
	return fields, noMeaning
}

func TestResultsSchemaIsDocumented(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "docs", "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if want := fmt.Sprintf("`\"schema\": %d`", ResultsSchema); !strings.Contains(text, want) {
		t.Errorf("the document does not say %s", want)
	}
	want := schemaPaths()
	got, noMeaning := documentedSchema(text)
	for path, kind := range want {
		if got[path] != kind {
			t.Errorf("%s is a %s, the document says %q", path, kind, got[path])
		}
	}
	for path := range got {
		if want[path] == "" {
			t.Errorf("%s is documented and does not exist", path)
		}
	}
	if len(noMeaning) > 0 {
		t.Errorf("fields without a meaning: %v", noMeaning)
	}
}

// The words that the document lists are those that the program writes.
func TestBenchmarkingDocumentMatchesTheProgram(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "docs", "benchmarking.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, limit := range []string{limitLoad, limitBroker, limitGenerator, limitHost, limitLatency, limitUnknown} {
		if !strings.Contains(text, "`"+limit+"`") {
			t.Errorf("the limit %q is not explained", limit)
		}
	}
	for what, want := range map[string]string{
		"lag":           fmt.Sprintf("over %.0f %% of the response p99 and over %d us", 100*lagShareMax, lagFloorUS),
		"cores":         fmt.Sprintf("over %.0f %% of its share of the cores", 100*selfCoresShare),
		"pause":         fmt.Sprintf("a collector pause is over %.0f %% of the p99", 100*gcShareMax),
		"steal":         fmt.Sprintf("over %.0f %% of the cores stolen", 100*stealShareMax),
		"others":        fmt.Sprintf("over %.0f %% busy with something other", 100*otherShareMax),
		"cold memory":   fmt.Sprintf("slower than %.1f GB/s", coldMemoryRate/1e9),
		"warmed memory": fmt.Sprintf("slower than %.0f %% of what it was right after warming", 100*coldRateShare),
		"warming again": fmt.Sprintf("at most %.0f %% of the runs' time", 100*rewarmShare),
		"warming":       fmt.Sprintf("(%.0f s at most)", warmLimit.Seconds()),
		"garbage":       fmt.Sprintf("up to %d GiB of growth", heapGrowthMax>>30),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: the document does not say %q", what, want)
		}
	}
	var names []string
	for _, f := range Fields() {
		names = append(names, f.Name)
	}
	_, example, _ := strings.Cut(text, "```\ntitle: my workload")
	example, _, _ = strings.Cut(example, "```")
	p, err := ParseProfile("doc.profile", strings.NewReader("title: my workload"+strings.ReplaceAll(example, "file:/var/log/app.json", "random")))
	if err != nil {
		t.Fatalf("the example is not a profile: %v", err)
	}
	if points, err := p.Points(); err != nil || len(points) != 4 {
		t.Errorf("the example gives %d points, want acks x fsync (%v)", len(points), err)
	}
	text = strings.ReplaceAll(text, "`field: value`", "")
	for _, m := range regexp.MustCompile("`([a-z0-9_]+): [a-z0-9]+`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, m[1]) {
			t.Errorf("the document speaks of a field %q, which does not exist", m[1])
		}
	}
}

// A committed result of this schema is readable, another schema is refused with both numbers.
func TestOldResultsAreReadOrRefused(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "benchmarks", "*", "results.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no committed results (%v)", err)
	}
	for _, file := range files {
		r, err := ReadResults(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if html, err := RenderReport(r); err != nil || len(html) < 1000 {
			t.Errorf("%s: a report of %d bytes (%v)", file, len(html), err)
		}
	}
	newer := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(newer, fmt.Appendf(nil, `{"schema": %d}`, ResultsSchema+1), 0o600); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("schema %d, this program reads %d", ResultsSchema+1, ResultsSchema)
	if _, err := ReadResults(newer); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), newer) {
		t.Errorf("got %v, want %q with the path", err, want)
	}
}
