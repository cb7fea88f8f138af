package draw

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"p2pcdn/common/timeline"
)

// Measures of all pictures.
const (
	pictureWidth = 26 * vg.Centimeter
	margin       = 0.4 * vg.Centimeter
	textSize     = 10 // points, as is the next one
	titleSize    = 12
	lineHeight   = 15 * vg.Length(1) // of a legend, in points
)

func rgb(hex uint32) color.Color {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

// looks are the colour and the dashes of each phase, and of each group where groups are compared.
type look struct {
	color  color.Color
	dashes []vg.Length // nil: a line without gaps
}

var (
	solid  = []vg.Length(nil)
	dashed = []vg.Length{6, 3}
	dotted = []vg.Length{2, 2}
	mixed  = []vg.Length{8, 2, 2, 2}
)

var phaseLooks = map[timeline.Phase]look{
	timeline.MediatorOpen:   {rgb(0x332288), solid},
	timeline.LookupSent:     {rgb(0xddcc77), dashed},
	timeline.OfferSent:      {rgb(0x999933), dotted},
	timeline.Established:    {rgb(0x88ccee), solid},
	timeline.PeersNamed:     {rgb(0x117733), dashed},
	timeline.AnswerReceived: {rgb(0xcc6677), solid},
	timeline.ICEConnected:   {rgb(0x882255), dotted},
	timeline.DTLSConnected:  {rgb(0x44aa99), mixed},
	timeline.ChannelOpen:    {rgb(0xaa4499), dashed},
	timeline.FirstPiece:     {rgb(0xe69f00), solid},
	timeline.Complete:       {rgb(0x000000), solid},

	// These are a seeder's; whoever writes them into a leecher's row gets them drawn.
	timeline.Announced:     {rgb(0xbbbbbb), dashed},
	timeline.OfferReceived: {rgb(0x777777), dotted},
	timeline.AnswerSent:    {rgb(0x444444), mixed},
}

var groupLooks = []look{
	{rgb(0x000000), solid}, {rgb(0xcc6677), dashed}, {rgb(0x332288), dotted}, {rgb(0xe69f00), solid}, {rgb(0x117733), mixed},
	{rgb(0x88ccee), dashed}, {rgb(0xaa4499), solid}, {rgb(0x999933), dotted},
}

func (l look) line() draw.LineStyle {
	return draw.LineStyle{Color: l.color, Width: 1.6, Dashes: l.dashes}
}

// style is the text of all pictures.
func style(size font.Length, x text.XAlignment, y text.YAlignment, ink color.Color) text.Style {
	return text.Style{
		Color: ink, Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		XAlign: x, YAlign: y, Handler: plot.DefaultTextHandler,
	}
}

// on returns the colour of text on a background: whichever of black and white is farther from its lightness.
func on(background color.Color) color.Color {
	r, g, b, _ := background.RGBA()
	linear := func(c uint32) float64 { return math.Pow(float64(c)/0xffff, 2.2) }
	if 0.2126*linear(r)+0.7152*linear(g)+0.0722*linear(b) > 0.18 { // WCAG 2, relative luminance
		return color.Black
	}
	return color.White
}

// maxTitle bounds a title, in letters: what fits over a plot.
const maxTitle = 100

// short cuts a title to what fits.
func short(title string) string {
	if letters := []rune(title); len(letters) > maxTitle {
		return string(letters[:maxTitle-1]) + "…"
	}
	return title
}

// newPlot returns a plot in the common style. rtt, in ms, is 0 where round trips are not drawn.
func newPlot(title string, rtt float64) *plot.Plot {
	p := plot.New()
	p.Title.Text = short(title)
	p.Title.TextStyle = style(titleSize, text.XCenter, text.YTop, color.Black)
	p.Title.Padding = 6
	p.X.Label.Text = "ms since started"
	if rtt > 0 {
		p.Title.Padding = 18 // the numbers of the round trips stand there
		p.X.Label.Text += fmt.Sprintf(" (dashed, numbered above: round trips of %s ms)", number(rtt))
	}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = style(textSize, 0, 0, color.Black).Font
		axis.Tick.Label.Font = style(textSize, 0, 0, color.Black).Font
		axis.LineStyle.Width, axis.Tick.LineStyle.Width = 0.6, 0.6
	}
	p.X.Min = 0
	p.X.Tick.Marker = plot.TickerFunc(ticks)
	return p
}

// ticks are round numbers, some eight of them.
func ticks(least, most float64) (all []plot.Tick) {
	const wanted = 8
	step := math.Pow(10, math.Floor(math.Log10((most-least)/wanted)))
	for _, times := range []float64{2, 2.5, 2} { // 2, 5, 10 times the power of ten
		if (most-least)/step > wanted {
			step *= times
		}
	}
	for n := math.Ceil(least / step); n*step <= most; n++ {
		all = append(all, plot.Tick{Value: n * step, Label: strconv.FormatFloat(n*step, 'g', 10, 64)})
	}
	return all
}

// number prints a number without needless zeros.
func number(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

// grid draws a line for each multiple of the round trip, with its number.
type grid struct{ rtt float64 }

// maxGrid bounds the lines of a picture: with more, their numbers would run together.
const maxGrid = 24

// Plot implements [plot.Plotter].
func (g grid) Plot(c draw.Canvas, p *plot.Plot) {
	if g.rtt <= 0 {
		return
	}
	each := 1
	for _, step := range []int{2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000, 1_000_000} {
		if p.X.Max/g.rtt/float64(each) > maxGrid {
			each = step
		}
	}
	x, _ := p.Transforms(&c)
	ink := rgb(0x777777)
	for n := each; float64(n)*g.rtt <= p.X.Max; n += each {
		at := x(float64(n) * g.rtt)
		c.StrokeLine2(draw.LineStyle{Color: ink, Width: 0.5, Dashes: []vg.Length{3, 3}}, at, c.Min.Y, at, c.Max.Y)
		c.FillText(style(8, text.XCenter, text.YBottom, ink), vg.Point{X: at, Y: c.Max.Y + 2}, strconv.Itoa(n))
	}
}

// entry is a line of a legend.
type entry struct {
	look look
	text string
	box  bool // a box, as of a bar; else a line
}

// legend draws the entries from the top left corner of the canvas on, one a line.
func legend(c draw.Canvas, entries []entry) {
	const sample = 20 * vg.Length(1)
	for i, e := range entries {
		y := c.Max.Y - lineHeight*(vg.Length(i)+0.5)
		if e.box {
			rectangle(&c, e.look.color, c.Min.X, y-4, c.Min.X+sample, y+4)
		} else {
			c.StrokeLine2(e.look.line(), c.Min.X, y, c.Min.X+sample, y)
		}
		c.FillText(style(textSize, text.XLeft, text.YCenter, color.Black), vg.Point{X: c.Min.X + sample + 6, Y: y}, e.text)
	}
}

func rectangle(c *draw.Canvas, fill color.Color, x0, y0, x1, y1 vg.Length) {
	c.FillPolygon(fill, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}

// paper makes the canvas white and returns what is within the margins.
func paper(c draw.Canvas) draw.Canvas {
	rectangle(&c, color.White, c.Min.X, c.Min.Y, c.Max.X, c.Max.Y)
	return draw.Crop(c, margin, -margin, margin, -margin)
}
