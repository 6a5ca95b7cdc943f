package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// LiveView prints progress: one line that is redrawn on a terminal, a plain line per run otherwise.
type LiveView struct {
	w        io.Writer
	terminal bool
	width    int
	last     string
}

// NewLiveView writes to w; terminal says whether lines may be redrawn.
func NewLiveView(w io.Writer, terminal bool) *LiveView {
	return &LiveView{w: w, terminal: terminal, width: 20}
}

// Show draws one progress report.
func (v *LiveView) Show(p SeriesProgress) {
	if !v.terminal {
		v.plain(p)
		return
	}
	done := 0.0
	if p.Runs > 0 {
		done = float64(max(0, p.Run-1)) / float64(p.Runs)
		if p.Step == "measure" && p.Total > 0 {
			done += min(1, p.Elapsed.Seconds()/p.Total.Seconds()) / float64(p.Runs)
		}
	}
	full := int(done * float64(v.width))
	gauge := strings.Repeat("#", full) + strings.Repeat(".", v.width-full)
	line := fmt.Sprintf("[%s] %d/%d %s %s: %s", gauge, p.Run, p.Runs, p.Target, p.Label, p.Step)
	if p.Rate > 0 {
		line += fmt.Sprintf(" %s rec/s %s MB/s", countText(p.Rate), mb(p.Bytes))
	}
	if p.P99 > 0 {
		line += " p99 " + micros(float64(p.P99)/1e3)
	}
	line += fmt.Sprintf(", %s left", p.TimeLeft.Round(time.Second))
	const columnsMax = 118
	if len(line) > columnsMax {
		line = line[:columnsMax]
	}
	fmt.Fprintf(v.w, "\r%s\x1b[K", line)
}

// plain prints a line when a run or its step begins, not every second.
func (v *LiveView) plain(p SeriesProgress) {
	key := fmt.Sprint(p.Run, p.Target, p.Step == "measure")
	if key == v.last || (p.Step != "measure" && p.Run > 0) {
		return
	}
	v.last = key
	if p.Run == 0 {
		fmt.Fprintf(v.w, "%s %s\n", p.Step, p.Target)
		return
	}
	fmt.Fprintf(v.w, "run %d of %d: %s %s, about %s left\n", p.Run, p.Runs, p.Target, p.Label, p.TimeLeft.Round(time.Second))
}

// Clear removes the line.
func (v *LiveView) Clear() {
	if v.terminal {
		fmt.Fprint(v.w, "\r\x1b[K")
	}
}
