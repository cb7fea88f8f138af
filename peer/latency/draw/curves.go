package draw

import (
	"fmt"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"p2pcdn/common/timeline"
	"p2pcdn/peer/latency/report"
)

// curve is how many of all had come so far after which time.
type curve struct {
	look look
	at   []float64 // ms, sorted
	of   int       // how many there are in all
}

// curves draws some, over each other.
type curves []curve

// Plot implements [plot.Plotter].
func (all curves) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, curve := range all {
		if len(curve.at) == 0 {
			continue
		}
		points := []vg.Point{{X: x(0), Y: y(0)}}
		for i, at := range curve.at {
			share := func(n int) vg.Length { return y(float64(n) / float64(curve.of)) }
			points = append(points, vg.Point{X: x(at), Y: share(i)}, vg.Point{X: x(at), Y: share(i + 1)})
		}
		end := points[len(points)-1]
		points = append(points, vg.Point{X: x(p.X.Max), Y: end.Y})
		c.StrokeLines(curve.look.line(), points)
	}
}

// last is the time of the last that came.
func (all curves) last() (last float64) {
	for _, curve := range all {
		if n := len(curve.at); n > 0 {
			last = max(last, curve.at[n-1])
		}
	}
	return last
}

// reached returns when the rows reached the phase, in ms and sorted.
func reached(rows []*timeline.Row, phase timeline.Phase) (at []float64) {
	for _, row := range rows {
		if stamp, is := row.Stamps[phase]; is {
			at = append(at, report.Milliseconds(stamp))
		}
	}
	slices.Sort(at)
	return at
}

// distributionPlot is a plot of curves.
func distributionPlot(title, share string, all curves, rtt float64) *plot.Plot {
	p := newPlot(title, rtt)
	p.Y.Label.Text = share
	p.Y.Min, p.Y.Max = 0, 1
	p.Y.Tick.Marker = plot.ConstantTicks{
		{Value: 0, Label: "0"}, {Value: 0.25, Label: "0.25"}, {Value: 0.5, Label: "0.5"}, {Value: 0.75, Label: "0.75"}, {Value: 1, Label: "1"},
	}
	p.X.Max = room(all.last(), rtt)
	p.Add(grid{rtt}, all)
	return p
}

// room returns where the axis of times ends: a little behind the last one.
func room(last, rtt float64) float64 {
	if last <= 0 {
		return max(1, rtt)
	}
	return last * 1.03
}

// distribution is the picture of a group's phases: of those that are complete, as their medians are, among all.
func distribution(g *report.Group, name string, rtt float64) Picture {
	var all curves
	var entries []entry
	for _, phase := range g.Phases {
		look := phaseLooks[phase.Phase]
		all = append(all, curve{look, reached(g.Done(), phase.Phase), len(g.Rows)})
		entries = append(entries, entry{look: look, text: fmt.Sprintf("%s  %.1f", phase.Phase, phase.SinceStarted.P50.Value)})
	}
	return Picture{name, pictureWidth, 13 * vg.Centimeter, func(c draw.Canvas) {
		inner := paper(c)
		const side = 5.2 * vg.Centimeter
		p := distributionPlot(g.Name(), "share of "+strconv.Itoa(len(g.Rows))+" introductions", all, rtt)
		p.Draw(draw.Crop(inner, 0, -side, 0, 0))
		beside := draw.Crop(inner, inner.Max.X-inner.Min.X-side+0.5*vg.Centimeter, 0, 0, -1*vg.Centimeter)
		legend(beside, append(entries, entry{look: look{color: rgb(0xffffff)}, text: "(median, ms)"}))
	}}
}

// complete is the picture of all groups' ends.
func complete(groups []*report.Group, rtt float64) Picture {
	var all curves
	var entries []entry
	for i, g := range groups {
		look := groupLooks[i%len(groupLooks)]
		at := reached(g.Done(), timeline.Complete)
		all = append(all, curve{look, at, len(g.Rows)})
		text := fmt.Sprintf("%s: %d of %d", short(g.Name()), g.Complete, len(g.Rows))
		if len(at) > 0 { // a row may be complete without saying when
			text += fmt.Sprintf(", median %.1f ms", report.Percentile(at, 0.5))
		}
		entries = append(entries, entry{look: look, text: text})
	}
	below := lineHeight * vg.Length(len(entries))
	return Picture{"complete", pictureWidth, 12*vg.Centimeter + below, func(c draw.Canvas) {
		inner := paper(c)
		p := distributionPlot("Complete", "share of introductions", all, rtt)
		p.Draw(draw.Crop(inner, 0, 0, below+0.4*vg.Centimeter, 0))
		legend(draw.Crop(inner, 1.5*vg.Centimeter, 0, 0, -(inner.Max.Y-inner.Min.Y-below)), entries)
	}}
}
