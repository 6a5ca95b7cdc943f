package bench

import (
	"fmt"
	"math"
	"strings"
)

// Size of a chart's drawing, in its own units; it scales with the page.
const (
	chartWidth  = 480.0
	chartHeight = 300.0
	plotLeft    = 58.0
	plotRight   = 12.0
	plotTop     = 14.0
	plotBottom  = 42.0
)

// xy is a point of a line, in data units.
type xy struct{ x, y float64 }

// lineSeries is a named line of a chart.
type lineSeries struct {
	Name  string
	Class int // colour and dash, see the report's style sheet
	Dots  bool
	pts   []xy
	Path  string // set by layout
	Marks []xyText
}

// xyText is a position in the drawing with a text.
type xyText struct {
	X, Y   float64
	Text   string
	Anchor string // of marks on the x axis
}

// bound is a horizontal line of a physical limit.
type bound struct {
	Name string
	y    float64
	Y    float64 // set by layout
}

// lineChart is an x-y chart with linear or logarithmic axes.
type lineChart struct {
	ID, Title, Desc string
	XLabel, YLabel  string
	LogX, LogY      bool
	Lines           []lineSeries
	Bounds          []bound
	xTicks          []float64 // given, or chosen
	xText, yText    func(float64) string
	XMarks, YMarks  []xyText // set by layout
	W, H            float64
	Left, Right     float64
	Top, Bottom     float64
}

// scale maps data to the drawing.
type scale struct {
	min, max, from, to float64
	log                bool
}

func (s scale) at(v float64) float64 {
	a, b := s.min, s.max
	if s.log {
		v, a, b = math.Log10(math.Max(v, s.min)), math.Log10(a), math.Log10(b)
	}
	if b == a {
		return s.from
	}
	return s.from + (v-a)/(b-a)*(s.to-s.from)
}

// layout computes paths and marks. It returns false when there is nothing to draw.
func (c *lineChart) layout() bool {
	c.W, c.H, c.Left, c.Right, c.Top, c.Bottom = chartWidth, chartHeight, plotLeft, chartWidth-plotRight, plotTop, chartHeight-plotBottom
	xs := scale{min: math.Inf(1), max: math.Inf(-1), from: c.Left, to: c.Right, log: c.LogX}
	ys := scale{min: math.Inf(1), max: math.Inf(-1), from: c.Bottom, to: c.Top, log: c.LogY}
	n := 0
	for _, l := range c.Lines {
		for _, p := range l.pts {
			if (c.LogX && p.x <= 0) || (c.LogY && p.y <= 0) {
				continue
			}
			xs.min, xs.max = math.Min(xs.min, p.x), math.Max(xs.max, p.x)
			ys.min, ys.max = math.Min(ys.min, p.y), math.Max(ys.max, p.y)
			n++
		}
	}
	if n < 2 {
		return false
	}
	for _, b := range c.Bounds {
		if b.y > 0 {
			ys.min, ys.max = math.Min(ys.min, b.y), math.Max(ys.max, b.y)
		}
	}
	if c.LogY {
		ys.min, ys.max = math.Pow(10, math.Floor(math.Log10(ys.min))), math.Pow(10, math.Ceil(math.Log10(ys.max)+1e-9))
	} else {
		ys.min, ys.max = 0, ys.max*1.05
	}
	if !c.LogX && xs.min > 0 && xs.min < xs.max/2 {
		xs.min = 0
	}
	c.draw(xs, ys)
	return true
}

func (c *lineChart) draw(xs, ys scale) {
	for i := range c.Lines {
		l := &c.Lines[i]
		var b strings.Builder
		for _, p := range l.pts {
			if (c.LogX && p.x <= 0) || (c.LogY && p.y <= 0) {
				continue
			}
			cmd := "L"
			if b.Len() == 0 {
				cmd = "M"
			}
			fmt.Fprintf(&b, "%s%.1f %.1f", cmd, xs.at(p.x), ys.at(p.y))
			if l.Dots {
				l.Marks = append(l.Marks, xyText{X: xs.at(p.x), Y: ys.at(p.y), Text: c.xText(p.x) + ": " + c.yText(p.y)})
			}
		}
		l.Path = b.String()
	}
	for i := range c.Bounds {
		c.Bounds[i].Y = ys.at(c.Bounds[i].y)
	}
	ticks := c.xTicks
	if ticks == nil {
		ticks = niceTicks(xs.min, xs.max, c.LogX)
	}
	for _, v := range ticks {
		if v > xs.max*1.0001 {
			continue
		}
		m := xyText{X: xs.at(v), Y: c.Bottom, Text: c.xText(v), Anchor: "middle"}
		if m.X > c.Right-20 { // or it would be cut off
			m.Anchor = "end"
		}
		c.XMarks = append(c.XMarks, m)
	}
	for _, v := range niceTicks(ys.min, ys.max, c.LogY) {
		c.YMarks = append(c.YMarks, xyText{X: c.Left, Y: ys.at(v), Text: c.yText(v)})
	}
}

// niceTicks chooses round values within a range: powers of ten, or about five steps of 1, 2 or 5.
func niceTicks(low, high float64, log bool) []float64 {
	var out []float64
	if log {
		for v := math.Pow(10, math.Ceil(math.Log10(low)-1e-9)); v <= high*1.0001; v *= 10 {
			out = append(out, v)
		}
		return out
	}
	span := high - low
	if span <= 0 {
		return []float64{low}
	}
	step := math.Pow(10, math.Floor(math.Log10(span/4)))
	for _, m := range []float64{1, 2, 5, 10} {
		if span/(step*m) <= 6 {
			step *= m
			break
		}
	}
	for v := math.Ceil(low/step) * step; v <= high*1.0001; v += step {
		out = append(out, v)
	}
	return out
}

// bar is one bar of a bar chart.
type bar struct {
	Label string
	Class int
	value float64
	bound float64 // drawn as a tick when it is within boundSpan of the longest bar; 0 for none
	Text  string
	Y, W  float64 // set by layout
	Tick  float64 // 0: none
}

// boundSpan is how many times the longest bar a bound may be and still be drawn: beyond it the bars could not be told apart.
const boundSpan = 4

// barChart is a chart of horizontal bars.
type barChart struct {
	ID, Title, Desc string
	Bars            []bar
	W, H            float64
	Left, Row       float64
}

// layout places the bars, labels above them. It returns false when there is nothing to draw.
func (c *barChart) layout() bool {
	peak := 0.0
	for _, b := range c.Bars {
		peak = math.Max(peak, b.value)
	}
	if peak == 0 {
		return false
	}
	c.W, c.Left, c.Row = chartWidth, 4, 34
	shown, room := peak, 110.0 // room is for the texts
	for _, b := range c.Bars {
		if b.bound > 0 && b.bound < boundSpan*peak {
			shown = math.Max(shown, b.bound)
		}
		room = math.Max(room, 7*float64(len(b.Text)))
	}
	for i := range c.Bars {
		b := &c.Bars[i]
		b.Y, b.W = float64(i)*c.Row+18, math.Max(1, b.value/shown*(c.W-room))
		if b.bound > 0 && b.bound <= shown {
			b.Tick = c.Left + b.bound/shown*(c.W-room)
		}
	}
	c.H = float64(len(c.Bars))*c.Row + 6
	return true
}

// heatCell is one cell of a heat map.
type heatCell struct {
	Text  string
	Sub   string
	Heat  int // 0 (lowest) to 6, the style sheet's class
	Empty bool
	// Invalid marks a cell without a valid run.
	Invalid bool
}

// heatMap is a matrix of a value over two fields.
type heatMap struct {
	Title   string
	RowName string
	ColName string
	Cols    []string
	Rows    []heatRow
}

type heatRow struct {
	Name  string
	Cells []heatCell
}

// heatLevel places v on a logarithmic scale of 7 levels.
func heatLevel(v, low, high float64) int {
	if high <= low || v <= 0 || low <= 0 {
		return 0
	}
	return min(6, max(0, int(7*math.Log(v/low)/math.Log(high/low))))
}

// forestRow is one ratio with its interval, drawn on a logarithmic axis around 1.
type forestRow struct {
	Point, Metric, Target      string
	Ratio, Interval, Noise     string
	Word                       string
	Differ                     bool
	X, X1, X2, One             float64
	HasInterval, Good, Skipped bool
}

// forestWidth is the width of the drawing of an interval, forestSpan the largest ratio shown.
const (
	forestWidth = 140.0
	forestSpan  = 8.0
)

func forestX(ratio float64) float64 {
	v := math.Log(math.Min(forestSpan, math.Max(1/forestSpan, ratio))) / math.Log(forestSpan)
	return forestWidth/2 + v*(forestWidth/2-4)
}
