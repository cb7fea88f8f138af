package draw

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"p2pcdn/common/timeline"
	"p2pcdn/peer/latency/report"
)

// bar is a row of steps, each up to when its phase was reached.
type bar struct {
	stamps timeline.Stamps
	title  string // above it; may be ""
}

// bars draws some, the first on top. Bar i lies between -i-1 and -i on the axis of y.
type bars struct {
	all    []bar
	height float64 // of a bar, as a part of its place: the title stands above it
}

// place returns where bar i lies.
func (b bars) place(i int, y func(float64) vg.Length) (low, high vg.Length) {
	if b.all[i].title != "" {
		return y(-float64(i) - 0.95), y(-float64(i) - 0.95 + b.height)
	}
	return y(-float64(i) - 0.5 - b.height/2), y(-float64(i) - 0.5 + b.height/2)
}

// steps calls each for every step of a bar that takes time, with its ends in milliseconds.
func (b bar) steps(each func(fill color.Color, from, to float64)) {
	before := 0.0
	for _, phase := range report.Order(b.stamps) {
		at := report.Milliseconds(b.stamps[phase])
		if at > before {
			each(phaseLooks[phase].color, before, at)
		}
		before = at
	}
}

// Plot implements [plot.Plotter].
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for i, bar := range b.all {
		low, high := b.place(i, y)
		bar.steps(func(fill color.Color, from, to float64) {
			rectangle(&c, fill, x(from), low, x(to), high)
			c.StrokeLine2(draw.LineStyle{Color: color.White, Width: 0.5}, x(to), low, x(to), high)
		})
	}
}

// labels are the texts of bars, over what else there is.
type labels struct{ bars }

// Plot implements [plot.Plotter].
func (l labels) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for i, bar := range l.all {
		low, high := l.place(i, y)
		if bar.title != "" {
			sty, at := style(textSize, text.XLeft, text.YBottom, color.Black), vg.Point{X: x(0) + 2, Y: high + 2}
			size := sty.Rectangle(bar.title).Size()
			rectangle(&c, color.White, at.X, at.Y, at.X+size.X+2, at.Y+size.Y)
			c.FillText(sty, at, bar.title)
		}
		bar.steps(func(fill color.Color, from, to float64) {
			label(&c, fill, x(from), x(to), low, high, to-from)
		})
	}
}

// label writes the length of a step into it, where there is room.
func label(c *draw.Canvas, fill color.Color, left, right, low, high vg.Length, length float64) {
	sty := style(9, text.XCenter, text.YCenter, on(fill))
	told := fmt.Sprintf("%.0f", length)
	if length < 10 {
		told = fmt.Sprintf("%.1f", length)
	}
	if size := sty.Rectangle(told).Size(); size.X+4 <= right-left && size.Y <= high-low {
		c.FillText(sty, vg.Point{X: (left + right) / 2, Y: (low + high) / 2}, told)
	}
}

// barsPlot is a plot of bars.
func barsPlot(title string, b bars, rtt float64) *plot.Plot {
	p := newPlot(title, rtt)
	last := 0.0
	for _, bar := range b.all {
		for _, at := range bar.stamps {
			last = max(last, report.Milliseconds(at))
		}
	}
	p.X.Max = room(last, rtt)
	p.Y.Min, p.Y.Max = -float64(len(b.all)), 0
	p.Add(b, grid{rtt}, labels{b})
	return p
}

// keys returns the legend of bars: the phases that they have, in the order of their medians.
func keys(groups ...*report.Group) (entries []entry) {
	at := make(map[timeline.Phase]float64)
	for _, g := range groups {
		for _, phase := range g.Phases {
			at[phase.Phase] = max(at[phase.Phase], phase.SinceStarted.P50.Value)
		}
	}
	var order []timeline.Phase
	for _, phase := range timeline.Phases {
		if _, is := at[phase]; is {
			order = append(order, phase)
		}
	}
	slices.SortStableFunc(order, func(a, b timeline.Phase) int { return cmp.Compare(at[a], at[b]) })
	for _, phase := range order {
		entries = append(entries, entry{look: phaseLooks[phase], text: "up to " + string(phase), box: true})
	}
	return entries
}

// barsPicture is a picture of bars with their legend beside them.
func barsPicture(name string, height vg.Length, entries []entry, makePlot func() *plot.Plot) Picture {
	height = max(height, lineHeight*vg.Length(len(entries))+2*vg.Centimeter)
	return Picture{name, pictureWidth, height, func(c draw.Canvas) {
		inner := paper(c)
		const side = 5.2 * vg.Centimeter
		makePlot().Draw(draw.Crop(inner, 0, -side, 0, 0))
		legend(draw.Crop(inner, inner.Max.X-inner.Min.X-side+0.5*vg.Centimeter, 0, 0, -1*vg.Centimeter), entries)
	}}
}

// phases is the picture of all groups' medians.
func phases(groups []*report.Group, rtt float64) Picture {
	b := bars{height: 0.5}
	for _, g := range groups {
		stamps := make(timeline.Stamps)
		for _, phase := range g.Phases {
			stamps[phase.Phase] = time.Duration(phase.SinceStarted.P50.Value * float64(time.Millisecond))
		}
		b.all = append(b.all, bar{stamps, fmt.Sprintf("%s: %d of %d", short(g.Name()), g.Complete, len(g.Rows))})
	}
	return barsPicture("phases", 3.2*vg.Centimeter+1.5*vg.Centimeter*vg.Length(len(groups)), keys(groups...), func() *plot.Plot {
		p := barsPlot("Phases, each up to its median", b, rtt)
		p.HideY()
		return p
	})
}

// maxPairs bounds the bars of a picture: with more they would be too thin to be seen.
const maxPairs = 60

// pairs is the picture of a group's introductions.
func pairs(g *report.Group, name string, rtt float64) Picture {
	rows := g.Done()
	slices.SortStableFunc(rows, func(a, b *timeline.Row) int {
		return cmp.Compare(a.Stamps[timeline.Complete], b.Stamps[timeline.Complete])
	})
	title := short(g.Name())
	if all := len(rows); all > maxPairs {
		some := make([]*timeline.Row, maxPairs)
		for i := range some {
			some[i] = rows[int(math.Round(float64(i)*float64(all-1)/(maxPairs-1)))]
		}
		rows, title = some, fmt.Sprintf("%s (%d of %d)", title, maxPairs, all)
	}
	b := bars{height: 0.84}
	for _, row := range rows {
		b.all = append(b.all, bar{stamps: row.Stamps})
	}
	return barsPicture(name, 3*vg.Centimeter+max(4*vg.Centimeter, 0.5*vg.Centimeter*vg.Length(len(rows))), keys(g), func() *plot.Plot {
		p := barsPlot(title, b, rtt)
		p.Y.Label.Text = "introductions, the fastest on top"
		var ticks plot.ConstantTicks
		for i, row := range rows {
			ticks = append(ticks, plot.Tick{Value: -float64(i) - 0.5, Label: strconv.Itoa(row.Index)})
		}
		p.Y.Tick.Marker = ticks
		p.Y.Tick.LineStyle.Width = 0
		return p
	})
}
