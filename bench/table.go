package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// WriteTable prints a series as a table for a terminal, with the configuration in force, reasons and notes below it.
func WriteTable(w io.Writer, r *Results) {
	rows := [][]string{tableHead(r)}
	for _, p := range r.Points {
		for _, s := range p.Summary {
			rows = append(rows, tableRow(r, p, s))
		}
	}
	printColumns(w, rows, len(paramNames(r)))
	fmt.Fprintln(w)
	writeComparisons(w, r)
	writeInForce(w, r)
	for _, line := range reasonLines(r) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w, r.Verdict)
}

// paramNames lists the varied fields of all points, in order of appearance; the case comes first when there is more than one.
func paramNames(r *Results) []string {
	var names []string
	cases := map[string]bool{}
	for _, p := range r.Points {
		cases[p.Case] = true
		for _, v := range p.Params {
			if !slices.Contains(names, v.Name) {
				names = append(names, v.Name)
			}
		}
	}
	if len(cases) > 1 || len(names) == 0 {
		names = append([]string{"case"}, names...)
	}
	if len(r.Targets) > 1 {
		names = append(names, "target")
	}
	return names
}

// columns are the measured columns of the table.
type column struct {
	head string
	text func(*Summary) string
	show func(*Summary) bool
}

var columns = []column{
	{"records/s", func(s *Summary) string { return countText(s.Records) }, func(s *Summary) bool { return s.Records > 0 }},
	{"in MB/s", func(s *Summary) string { return mb(s.ValueBytes) }, func(s *Summary) bool { return s.ValueBytes > 0 }},
	{"out MB/s", func(s *Summary) string { return mb(s.ReadBytes) }, func(s *Summary) bool { return s.ReadBytes > 0 }},
	{"p50", func(s *Summary) string { return micros(s.Response.P50) }, hasResponse},
	{"p90", func(s *Summary) string { return micros(s.Response.P90) }, hasResponse},
	{"p99", func(s *Summary) string { return micros(s.Response.P99) }, hasResponse},
	{"p99.9", func(s *Summary) string { return micros(s.Response.P999) }, hasResponse},
	{"max", func(s *Summary) string { return micros(s.Response.Max) }, hasResponse},
	{"e2e p99", func(s *Summary) string { return micros(s.EndToEnd.P99) }, func(s *Summary) bool { return s.EndToEnd != nil }},
	{"CPU s/GB", func(s *Summary) string { return costText(s.CPUPerGB) }, func(s *Summary) bool { return s.CPUPerGB > 0 }},
	{"gen s/GB", func(s *Summary) string { return costText(s.Generator) }, func(s *Summary) bool { return s.Generator > 0 }},
	{"cores", func(s *Summary) string { return costText(s.Cores) }, func(s *Summary) bool { return s.Cores > 0 }},
	{"gen cores", func(s *Summary) string { return costText(s.GeneratorCores) }, func(s *Summary) bool { return s.GeneratorCores > 0 }},
	{"limit", func(s *Summary) string { return s.Limit }, func(s *Summary) bool { return s.Limit != "" && s.Limit != limitLoad }},
	{"RSS", func(s *Summary) string { return sizeText(s.RSSBytes) }, func(s *Summary) bool { return s.RSSBytes > 0 }},
	{"errors", func(s *Summary) string { return fmt.Sprint(s.Errors) }, func(s *Summary) bool { return true }},
}

// costText formats CPU seconds per GB.
func costText(v float64) string { return fmt.Sprintf("%.*f", precision(v), v) }

func hasResponse(s *Summary) bool { return s.Response != nil }

func mb(v float64) string { return fmt.Sprintf("%.*f", precision(v/1e6), v/1e6) }

// shown are the columns that any row has something in.
func shown(r *Results) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		for _, p := range r.Points {
			for _, s := range p.Summary {
				if c.show(s) {
					return false
				}
			}
		}
		return true
	})
}

func tableHead(r *Results) []string {
	row := paramNames(r)
	for _, c := range shown(r) {
		row = append(row, c.head)
	}
	return append(row, "")
}

func tableRow(r *Results, p *PointResult, s *Summary) []string {
	var row []string
	for _, name := range paramNames(r) {
		row = append(row, paramValue(p, s.Target, name))
	}
	for _, c := range shown(r) {
		if c.show(s) {
			row = append(row, c.text(s))
		} else {
			row = append(row, "-")
		}
	}
	switch {
	case s.Faults > 0:
		return append(row, "FAULTS")
	case s.ValidRuns == 0:
		return append(row, "INVALID")
	case s.ValidRuns < s.Runs:
		return append(row, fmt.Sprintf("%d/%d valid", s.ValidRuns, s.Runs))
	}
	return append(row, "")
}

func paramValue(p *PointResult, target, name string) string {
	switch name {
	case "case":
		return p.Case
	case "target":
		return target
	}
	for _, v := range p.Params {
		if v.Name == name {
			return v.Value
		}
	}
	return "-"
}

// printColumns aligns rows: the first left columns to the left, the others to the right.
func printColumns(w io.Writer, rows [][]string, left int) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if i < left || i == len(row)-1 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString(pad + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func writeComparisons(w io.Writer, r *Results) {
	rows := [][]string{{"point", "metric", "against " + first(r.targetNames()), "ratio", "95 % interval", "A/A noise", ""}}
	for _, p := range r.Points {
		for _, c := range p.Comparisons {
			row := []string{p.Label, c.Metric, c.Target, "-", c.interval(), "-", c.Word}
			if c.Pairs > 0 {
				row[3], row[5] = fmt.Sprintf("%.3f", c.Ratio), fmt.Sprintf("%.1f %%", 100*c.Noise)
			}
			rows = append(rows, row)
		}
	}
	if len(rows) > 1 {
		printColumns(w, rows, 3)
		fmt.Fprintln(w)
	}
}

func (c *Comparison) interval() string {
	if c.Low == 0 && c.High == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f to %.3f", c.Low, c.High)
}

func first(xs []string) string {
	if len(xs) == 0 {
		return ""
	}
	return xs[0]
}

// writeInForce prints the configuration read back from each target where it is the same at every point, else by point.
func writeInForce(w io.Writer, r *Results) {
	for _, t := range r.Targets {
		same, varied := inForceOf(r, t.Name)
		fmt.Fprintf(w, "in force at %s: %s\n", t.Name, strings.Join(same, ", "))
		if len(varied) > 0 {
			fmt.Fprintf(w, "  by point: %s\n", strings.Join(varied, "; "))
		}
		if t.FileSystem != "" {
			fmt.Fprintf(w, "  data on %s\n", t.FileSystem)
		}
	}
	if s := r.Environment.Sync; s != nil {
		fmt.Fprintf(w, "bare 4 KiB append + fdatasync there: p50 %s, p99 %s", micros(s.P50), micros(s.P99))
		if s.Note != "" {
			fmt.Fprintf(w, " (%s)", s.Note)
		}
		fmt.Fprintln(w)
	}
}

// inForceOf splits the keys read back from a target into those with one value and those that varied.
func inForceOf(r *Results, target string) (same, varied []string) {
	values := map[string][]string{}
	for _, p := range r.Points {
		for _, run := range p.Runs {
			if run.Target != target {
				continue
			}
			for k, v := range run.InForce {
				if !slices.Contains(values[k], v) {
					values[k] = append(values[k], v)
				}
			}
		}
	}
	for _, k := range append([]string{"replication.factor"}, inForceKeys...) {
		switch vs := values[k]; len(vs) {
		case 0:
		case 1:
			same = append(same, k+"="+vs[0])
		default:
			varied = append(varied, k+"="+strings.Join(vs, "|"))
		}
	}
	return same, varied
}

// reasonLines lists why runs are invalid, and notes, once each with a count.
func reasonLines(r *Results) []string {
	var lines []string
	count := map[string]int{}
	add := func(line string) {
		if count[line] == 0 {
			lines = append(lines, line)
		}
		count[line]++
	}
	for _, p := range r.Points {
		for _, run := range p.Runs {
			for _, reason := range run.Reasons {
				add(fmt.Sprintf("INVALID %s on %s: %s", p.Label, run.Target, reason))
			}
			for _, note := range run.Notes {
				add(fmt.Sprintf("note: %s on %s: %s", p.Label, run.Target, note))
			}
		}
	}
	for i, line := range lines {
		if n := count[line]; n > 1 {
			lines[i] = fmt.Sprintf("%s (%d times)", line, n)
		}
	}
	return lines
}
