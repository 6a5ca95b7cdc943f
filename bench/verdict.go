package bench

import (
	"fmt"
	"strings"
	"time"
)

// verdict says in one sentence what a series showed.
func verdict(r *Results) string {
	if r.Faults > 0 {
		return fmt.Sprintf("FAILED: %d records were lost, duplicated, reordered or corrupt; no other number matters.", r.Faults)
	}
	total, valid, reason := r.CountValid()
	switch {
	case total == 0:
		return "Nothing was measured."
	case valid == 0:
		return fmt.Sprintf("No result: all %d runs are INVALID, most often because of this: %s.", total, reason)
	}
	says := verdictSingle(r)
	if len(r.Targets) > 1 {
		says = verdictCompared(r)
	} else if s := verdictFsync(r); s != "" {
		says = s
	}
	if valid < total {
		says = strings.TrimSuffix(says, ".") + fmt.Sprintf("; %d of %d runs are INVALID and left out.", total-valid, total)
	}
	return says
}

// verdictCompared counts wins and losses per metric over the points.
func verdictCompared(r *Results) string {
	var parts []string
	for _, t := range r.Targets[1:] {
		var said []string
		for _, metric := range []string{"throughput", "broker CPU per GB", "response p99", "memory"} {
			var ratios []float64
			better, worse, n := 0, 0, 0
			for _, p := range r.Points {
				for _, c := range p.Comparisons {
					if c.Metric != metric || c.Target != t.Name || c.Pairs == 0 {
						continue
					}
					n++
					ratios = append(ratios, 1/c.Ratio)
					if c.Differ && c.Word == "better" {
						better++
					} else if c.Differ {
						worse++
					}
				}
			}
			if n > 0 {
				said = append(said, fmt.Sprintf("%s %.2fx (lower at %d, higher at %d of %d points)", metric, median(ratios),
					pick(metric == "throughput", better, worse), pick(metric == "throughput", worse, better), n))
			}
		}
		if len(said) > 0 {
			parts = append(parts, fmt.Sprintf("%s against %s, median ratios: %s.", r.Targets[0].Name, t.Name, strings.Join(said, "; ")))
		}
	}
	if len(parts) == 0 {
		return "No point had a valid pair of runs."
	}
	return strings.Join(parts, " ")
}

func pick(cond bool, a, b int) int {
	if cond {
		return a
	}
	return b
}

// verdictFsync compares commit with never at acks=all, without compression, when the series has both.
func verdictFsync(r *Results) string {
	find := func(fsync string) *PointResult {
		for _, acks := range []string{"all", "1"} {
			for _, p := range r.Points {
				if p.Spec["fsync"] == fsync && p.Spec["acks"] == acks && len(p.Summary) > 0 && p.Summary[0].Response != nil {
					return p
				}
			}
		}
		return nil
	}
	commit, never := find("commit"), find("never")
	if commit == nil || never == nil {
		return ""
	}
	a, b := commit.Summary[0].Response, never.Summary[0].Response
	s := fmt.Sprintf("An fsync before every acknowledgement (commit) costs %s at the median and %s at p99 here, "+
		"against %s and %s without (never)",
		micros(a.P50), micros(a.P99), micros(b.P50), micros(b.P99))
	if rate := commit.Summary[0].Records; rate > 0 {
		s += fmt.Sprintf(", at %s records/s", countText(rate))
	}
	return s + "."
}

// verdictSingle names the highest throughput and its latency.
func verdictSingle(r *Results) string {
	var best *Summary
	var at *PointResult
	for _, p := range r.Points {
		for _, s := range p.Summary {
			if best == nil || s.ValueBytes+s.ReadBytes > best.ValueBytes+best.ReadBytes {
				best, at = s, p
			}
		}
	}
	if best == nil {
		return "Nothing was measured."
	}
	s := fmt.Sprintf("%s moved %s MB/s in and %s MB/s out at its highest point (%s)", best.Target, mb(best.ValueBytes),
		mb(best.ReadBytes), at.Label)
	if best.Response != nil {
		s += fmt.Sprintf(", response p99 %s", micros(best.Response.P99))
	}
	if best.CPUPerGB > 0 {
		s += fmt.Sprintf(", %.2f s of broker CPU per GB", best.CPUPerGB)
	}
	return s + "."
}

// micros formats microseconds with three digits.
func micros(us float64) string {
	d := time.Duration(us * 1e3)
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case us >= 100_000:
		return fmt.Sprintf("%.0f ms", us/1e3)
	case us >= 10_000:
		return fmt.Sprintf("%.1f ms", us/1e3)
	case us >= 1000:
		return fmt.Sprintf("%.2f ms", us/1e3)
	}
	return fmt.Sprintf("%.0f us", us)
}

// countText formats a count with a unit.
func countText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}
