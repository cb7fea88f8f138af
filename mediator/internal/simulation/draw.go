package simulation

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// palette is Okabe and Ito's, which the colour blind tell apart too.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
	{0xcc, 0x79, 0xa7, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

func colorOf(i int) color.Color { return palette[i%len(palette)] }

const (
	width  = 16 * vg.Centimeter
	height = 10 * vg.Centimeter
)

// newPlot returns an empty picture with a grid.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White // readable on a dark page too
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = 3 * vg.Millimeter
	p.X.Padding, p.Y.Padding = 0, 0
	p.X.Label.Padding, p.Y.Label.Padding = vg.Millimeter, vg.Millimeter
	for style, size := range map[*draw.TextStyle]vg.Length{
		&p.Title.TextStyle: 11, &p.X.Label.TextStyle: 10, &p.Y.Label.TextStyle: 10,
		&p.X.Tick.Label: 9, &p.Y.Tick.Label: 9, &p.Legend.TextStyle: 9,
	} {
		style.Font.Variant, style.Font.Size = "Sans", vg.Points(float64(size))
	}
	p.Legend.Padding, p.Legend.ThumbnailWidth = vg.Millimeter, 6*vg.Millimeter
	p.Legend.XOffs, p.Legend.YOffs = 3*vg.Millimeter, -2*vg.Millimeter
	p.Y.Tick.Marker = plainTicks{}
	grid := plotter.NewGrid()
	for _, line := range []*draw.LineStyle{&grid.Horizontal, &grid.Vertical} {
		line.Color, line.Width = color.Gray{0xdd}, vg.Points(.5)
	}
	p.Add(grid)
	return p
}

// save draws pictures beside each other.
func save(w io.Writer, plots ...*plot.Plot) error {
	canvas := vgsvg.New(width*vg.Length(max(1, float64(len(plots))*.6)), height)
	paper := draw.New(canvas)
	paper.SetColor(color.White)
	paper.Fill(paper.Rectangle.Path())
	tiles := draw.Tiles{
		Rows: 1, Cols: len(plots), PadX: 8 * vg.Millimeter,
		PadTop: 3 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 3 * vg.Millimeter, PadRight: 6 * vg.Millimeter,
	}
	for i, tile := range plot.Align([][]*plot.Plot{plots}, tiles, paper)[0] {
		plots[i].Draw(tile)
	}
	_, err := canvas.WriteTo(w)
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// drawLatency draws how many of the lookups had named a living seeder after what time; those
// that never did count as not yet.
func drawLatency(w io.Writer, results []*Result) error {
	p := newPlot("From get_peers to a living seeder, and to its answer (dashed)", "time, ms", "lookups, %")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, logTicks{}
	p.Y.Min, p.Y.Max = 0, 100
	least, longest := math.Inf(1), 1.0
	for i, r := range results {
		for j, get := range []func(Lookup) time.Duration{found, reached} {
			times := r.times(get)
			if len(times) == 0 {
				continue
			}
			points := make(plotter.XYs, 0, len(times))
			for n, d := range times {
				points = append(points, plotter.XY{X: max(1, milliseconds(d)), Y: 100 * float64(n+1) / float64(len(r.Lookups))})
			}
			least, longest = min(least, points[0].X), max(longest, points[len(points)-1].X)
			line, err := plotter.NewLine(thinned(points))
			if err != nil {
				return err
			}
			line.Color, line.Width = colorOf(i), vg.Points(1.5)
			if j == 1 {
				line.Width, line.Dashes = vg.Points(1), []vg.Length{vg.Points(4), vg.Points(3)}
			} else {
				p.Legend.Add(fmt.Sprintf("%d mediators", r.Config.Mediators), line)
			}
			p.Add(line)
		}
	}
	if least > longest {
		least = longest / 10
	}
	p.X.Min, p.X.Max = least, 1.1*longest
	p.Legend.Left, p.Legend.Top = true, true
	return save(w, p)
}

// thinned keeps some thousand points of a curve, the last one included.
func thinned(points plotter.XYs) plotter.XYs {
	step := max(1, len(points)/1000)
	var out plotter.XYs
	for i := 0; i < len(points); i += step {
		out = append(out, points[i])
	}
	return append(out, points[len(points)-1])
}

// drawHops draws how many lookups found the record at which level.
func drawHops(w io.Writer, results []*Result) error {
	p := newPlot("Levels of queries until the record was found (0: it was at home)", "hops", "lookups, %")
	most := 0
	for _, r := range results {
		most = max(most, quantile(r.hops(), 1))
	}
	bar := vg.Points(min(28, 300/float64(len(results)*(most+1))))
	for i, r := range results {
		values := make(plotter.Values, most+1)
		hops := r.hops()
		for _, h := range hops {
			values[h] += 100 / float64(len(hops))
		}
		bars, err := plotter.NewBarChart(values, bar)
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle.Width = colorOf(i), 0
		bars.Offset = bar * vg.Length(float64(i)-float64(len(results)-1)/2)
		p.Add(bars)
		p.Legend.Add(fmt.Sprintf("%d mediators", r.Config.Mediators), bars)
	}
	names := make([]string, most+1)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -.6, float64(most)+.6
	p.Y.Min, p.Y.Max = 0, 100
	p.Legend.Top, p.Legend.XOffs, p.Legend.Padding = true, -p.Legend.XOffs, 3*vg.Millimeter
	return save(w, p)
}

// drawGrowth draws how things grow with the number of mediators.
func drawGrowth(w io.Writer, results []*Result) error {
	curve := func(p *plot.Plot, i int, name string, get func(*Result) float64) error {
		var points plotter.XYs
		for _, r := range results {
			if y := get(r); y > 0 {
				points = append(points, plotter.XY{X: float64(r.Config.Mediators), Y: y})
				p.Y.Max = max(p.Y.Max, 1.15*y)
			}
		}
		if len(points) == 0 {
			return nil
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = colorOf(i), vg.Points(1.5)
		dots.Color, dots.Shape, dots.Radius = colorOf(i), draw.CircleGlyph{}, vg.Points(2.5)
		p.Add(line, dots)
		p.Legend.Add(name, line, dots)
		return nil
	}
	at := func(get func(Lookup) time.Duration, part float64) func(*Result) float64 {
		return func(r *Result) float64 { return milliseconds(quantile(r.times(get), part)) }
	}
	latency := newPlot("Latency", "mediators", "ms")
	traffic := newPlot("Sent by a mediator in an hour", "mediators", "messages, thousands; MB")
	state := newPlot("Kept by a mediator, on average", "mediators", "number")
	var plots []*plot.Plot
	for _, set := range []struct {
		plot   *plot.Plot
		curves []struct {
			name string
			get  func(*Result) float64
		}
	}{
		{latency, []struct {
			name string
			get  func(*Result) float64
		}{
			{"seeder named, median", at(found, .5)},
			{"seeder named, 99 %", at(found, .99)},
			{"record found, median", at(inDHT, .5)},
		}},
		{traffic, []struct {
			name string
			get  func(*Result) float64
		}{
			{"messages, thousands", func(r *Result) float64 { return r.PerMediator(r.Messages) / 1000 }},
			{"MB", func(r *Result) float64 { return r.PerMediator(r.Bytes) / 1e6 }},
		}},
		{state, []struct {
			name string
			get  func(*Result) float64
		}{
			{"records", func(r *Result) float64 { return mean(r.Records) }},
			{"routing table", func(r *Result) float64 { return mean(r.Peers) }},
			{"connections", func(r *Result) float64 { return mean(r.Connections) }},
		}},
	} {
		set.plot.X.Scale, set.plot.X.Tick.Marker = plot.LogScale{}, logTicks{}
		for i, c := range set.curves {
			if err := curve(set.plot, i, c.name, c.get); err != nil {
				return err
			}
		}
		first, last := results[0].Config.Mediators, results[0].Config.Mediators
		for _, r := range results {
			first, last = min(first, r.Config.Mediators), max(last, r.Config.Mediators)
		}
		set.plot.X.Min, set.plot.X.Max = float64(first)*.8, float64(last)*1.25
		set.plot.Y.Min = 0
		set.plot.Y.Max *= 1.25 // room for the legend
		set.plot.Legend.Left, set.plot.Legend.Top = true, true
		plots = append(plots, set.plot)
	}
	return save(w, plots...)
}

// plainTicks are those of gonum, without digits that say nothing.
type plainTicks struct{}

// Ticks implements [plot.Ticker].
func (plainTicks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range ticks {
		if !ticks[i].IsMinor() {
			ticks[i].Label = strconv.FormatFloat(ticks[i].Value, 'f', -1, 64)
		}
	}
	return ticks
}

// logTicks are 1, 2 and 5 of each power of ten, written out.
type logTicks struct{}

// Ticks implements [plot.Ticker].
func (logTicks) Ticks(low, high float64) (ticks []plot.Tick) {
	for power := math.Floor(math.Log10(low)); power <= math.Ceil(math.Log10(high)); power++ {
		for _, digit := range []float64{1, 2, 5} {
			if value := digit * math.Pow(10, power); value >= low && value <= high {
				ticks = append(ticks, plot.Tick{Value: value, Label: strconv.FormatFloat(value, 'f', -1, 64)})
			}
		}
	}
	return ticks
}
