package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Profile is a workload read from a file: one or more cases, each a Spec with some fields varied.
//
// The format is lines of "field: value"; # starts a comment. Several values, separated by commas, vary the field: the case is
// run for every combination, the first varied field changing slowest. "[name]" starts a case that inherits what stands above
// the first case. Besides the fields of a Spec there are, before the first case only:
//
//	title: one line for the report
//	about: what question the profile answers (may be repeated)
//	repeats: measured runs per point and target
//	prewarm: how long each target is driven at full speed before the first run, for compilers and caches
//	settle: the longest wait before each run for the host's disks to come to rest, so that a run does not pay for the files that the one
//	before it left; 0s, the default, only has them written back
type Profile struct {
	Name    string
	Path    string
	Title   string
	About   string
	Repeats int
	Prewarm time.Duration
	Settle  time.Duration
	Cases   []Case
	// Overrides are fields set by flags, shown with the results.
	Overrides map[string]string
}

// Case is one section of a profile.
type Case struct {
	Name   string
	Fields []CaseField // in the file's order; a later line replaces an earlier one of the same field
}

// CaseField is a field with the values that it takes in turn.
type CaseField struct {
	Name   string
	Values []string
	Line   int // in the profile's file, 0 for an override
}

// ProfileError says where a profile is wrong.
type ProfileError struct {
	Path  string
	Line  int
	Field string
	Err   error
}

// Error names file, line and field.
func (e *ProfileError) Error() string {
	at := fmt.Sprintf("%s:%d", e.Path, e.Line)
	if e.Line == 0 {
		at = e.Path + " with flags"
	}
	if e.Field == "" {
		return at + ": " + e.Err.Error()
	}
	return at + ": field " + shownField(e.Field) + ": " + e.Err.Error()
}

// shownField is a field's name for a terminal: that of a file that is no profile may be anything, and as long as a line.
func shownField(name string) string {
	const most = 40
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` || len(name) > most {
		return fmt.Sprintf("%.40q", name)
	}
	return name
}

// Unwrap gives the cause.
func (e *ProfileError) Unwrap() error { return e.Err }

// LoadProfile reads a profile from a file.
func LoadProfile(path string) (*Profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ParseProfile(path, f)
}

// ParseProfile reads a profile; path is for messages and gives the name. The error is a *ProfileError.
func ParseProfile(path string, r io.Reader) (*Profile, error) {
	p := &Profile{Name: strings.TrimSuffix(filepath.Base(path), ".profile"), Path: path, Repeats: 1}
	var base []CaseField
	lines := bufio.NewScanner(r)
	n, empty := 1, true
	for ; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if i := strings.Index(text, "#"); i >= 0 {
			text = strings.TrimSpace(text[:i])
		}
		if text == "" {
			continue
		}
		empty = false
		fail := func(field string, format string, args ...any) (*Profile, error) {
			return nil, &ProfileError{path, n, field, fmt.Errorf(format, args...)}
		}
		if strings.HasPrefix(text, "[") {
			name := strings.TrimSpace(strings.Trim(text, "[]"))
			if !strings.HasSuffix(text, "]") || name == "" {
				return fail("", "%q is not a section such as [name]", text)
			}
			if slices.ContainsFunc(p.Cases, func(c Case) bool { return c.Name == name }) {
				return fail("", "section %q stands twice", name)
			}
			p.Cases = append(p.Cases, Case{Name: name, Fields: slices.Clone(base)})
			continue
		}
		name, value, ok := strings.Cut(text, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || value == "" {
			return fail(name, "%.80q is not of the form field: value", text)
		}
		done, err := p.setHead(name, value, len(p.Cases) == 0)
		if err != nil {
			return fail(name, "%w", err)
		}
		if done {
			continue
		}
		field := CaseField{Name: name, Line: n}
		if err := field.parse(value); err != nil {
			return fail(name, "%w", err)
		}
		if len(p.Cases) == 0 {
			base = replaceField(base, field)
			continue
		}
		c := &p.Cases[len(p.Cases)-1]
		c.Fields = replaceField(c.Fields, field)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, &ProfileError{path, n, "", fmt.Errorf("the line is longer than %d bytes: not a profile", bufio.MaxScanTokenSize)}
	} else if err != nil {
		return nil, &ProfileError{path, n, "", err}
	}
	if empty {
		return nil, &ProfileError{path, n, "", errors.New("nothing but comments and empty lines up to here: not a profile; " +
			"`weir bench list --show latency-curve` prints one, `weir bench fields` lists the fields")}
	}
	if len(p.Cases) == 0 {
		p.Cases = []Case{{Name: "main", Fields: base}}
	}
	_, err := p.Points()
	return p, err
}

// setHead handles the fields of the profile itself; done is false for a field of a Spec.
func (p *Profile) setHead(name, value string, top bool) (done bool, err error) {
	switch name {
	case "title", "about", "repeats", "prewarm", "settle":
	default:
		return false, nil
	}
	if !top {
		return true, fmt.Errorf("only allowed before the first section")
	}
	switch name {
	case "title":
		p.Title = value
	case "about":
		p.About = strings.TrimSpace(p.About + " " + value)
	case "repeats":
		n, err := parseCount(value)
		if err != nil || n < 1 || n > 1000 {
			return true, fmt.Errorf("%q is not between 1 and 1000", value)
		}
		p.Repeats = int(n)
	case "prewarm", "settle":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return true, fmt.Errorf("%q is not a duration such as 10s", value)
		}
		if name == "prewarm" {
			p.Prewarm = d
		} else {
			p.Settle = d
		}
	}
	return true, nil
}

// parse splits and checks the values of a field.
func (f *CaseField) parse(value string) error {
	field, ok := FieldNamed(f.Name)
	if !ok {
		return fmt.Errorf("unknown; `weir bench fields` lists them")
	}
	f.Name = field.Name
	for v := range strings.SplitSeq(value, ",") {
		v = strings.TrimSpace(v)
		var probe Spec
		if err := field.Set(&probe, v); err != nil {
			return err
		}
		f.Values = append(f.Values, v)
	}
	return nil
}

func replaceField(fields []CaseField, f CaseField) []CaseField {
	fields = slices.DeleteFunc(slices.Clone(fields), func(o CaseField) bool { return o.Name == f.Name })
	return append(fields, f)
}

// Override sets a field in every case, as a flag does; value may vary it with commas.
func (p *Profile) Override(name, value string) error {
	f := CaseField{Name: name}
	if err := f.parse(value); err != nil {
		return &ProfileError{p.Path, 0, name, err}
	}
	for i := range p.Cases {
		p.Cases[i].Fields = replaceField(p.Cases[i].Fields, f)
	}
	if p.Overrides == nil {
		p.Overrides = map[string]string{}
	}
	p.Overrides[f.Name] = value
	return nil
}

// Quick shortens every case: warm-up 1 s, measurement 3 s, a tenth of the fill, one repeat, at most 3 s of prewarming.
func (p *Profile) Quick() {
	p.Repeats, p.Prewarm = 1, min(p.Prewarm, 3*time.Second)
	for i := range p.Cases {
		c := &p.Cases[i]
		fill := ""
		for _, f := range c.Fields {
			if f.Name == "fill_bytes" {
				if n, err := parseBytes(f.Values[0]); err == nil {
					fill = fmt.Sprint(n / 10)
				}
			}
		}
		c.Fields = replaceField(c.Fields, CaseField{Name: "warmup", Values: []string{"1s"}})
		c.Fields = replaceField(c.Fields, CaseField{Name: "duration", Values: []string{"3s"}})
		if fill != "" {
			c.Fields = replaceField(c.Fields, CaseField{Name: "fill_bytes", Values: []string{fill}})
		}
	}
	if p.Overrides == nil {
		p.Overrides = map[string]string{}
	}
	p.Overrides["quick"] = "true"
}

// Point is one combination of a case's varied fields.
type Point struct {
	Spec   Spec
	Params []Param // the varied fields with this point's values
}

// Param is a varied field's value at a point.
type Param struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Label joins the case's name and the varied values.
func (p *Point) Label() string {
	var b strings.Builder
	if p.Spec.Case != "main" {
		b.WriteString(p.Spec.Case)
	}
	for _, v := range p.Params {
		if b.Len() > 0 {
			b.WriteString(" ")
		}
		b.WriteString(v.Name + "=" + v.Value)
	}
	if b.Len() == 0 {
		return p.Spec.Case
	}
	return b.String()
}

// Points expands every case. The error is a *ProfileError for the first impossible combination.
func (p *Profile) Points() ([]Point, error) {
	var out []Point
	for _, c := range p.Cases {
		total := 1
		for _, f := range c.Fields {
			total *= len(f.Values)
			if total > 10_000 {
				return nil, &ProfileError{p.Path, f.Line, f.Name, fmt.Errorf("more than 10000 combinations in case %s", c.Name)}
			}
		}
		for i := range total {
			pt, err := p.point(&c, i, total)
			if err != nil {
				return nil, err
			}
			out = append(out, pt)
		}
	}
	return out, nil
}

// point builds combination i of total of a case.
func (p *Profile) point(c *Case, i, total int) (Point, error) {
	pt := Point{Spec: Spec{Case: c.Name, Conns: 2, Acks: -1}}
	lines := map[string]int{}
	for _, f := range c.Fields {
		total /= len(f.Values)
		v := f.Values[i/total%len(f.Values)]
		field, _ := FieldNamed(f.Name)
		if err := field.Set(&pt.Spec, v); err != nil {
			return pt, &ProfileError{p.Path, f.Line, f.Name, err}
		}
		if len(f.Values) > 1 {
			pt.Params = append(pt.Params, Param{f.Name, v})
		}
		lines[f.Name] = f.Line
	}
	pt.Spec.EnsureDefaults()
	if path, ok := strings.CutPrefix(pt.Spec.Payload, "file:"); ok {
		if info, err := os.Stat(path); err != nil {
			return pt, &ProfileError{p.Path, lines["payload"], "payload", err}
		} else if !info.Mode().IsRegular() || info.Size() == 0 {
			return pt, &ProfileError{p.Path, lines["payload"], "payload", fmt.Errorf("%s is not a file with something in it", path)}
		}
	}
	if err := pt.Spec.Validate(); err != nil {
		fe, _ := err.(*FieldError)
		return pt, &ProfileError{p.Path, lines[fe.Field], fe.Field, fmt.Errorf("%q is not %s (case %s)", fe.Value, fe.Want, c.Name)}
	}
	return pt, nil
}
