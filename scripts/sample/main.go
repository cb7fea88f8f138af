// Command sample draws a picture for the demonstration and writes it to its
// standard output as PNG: peers, and the lines between them. Every picture is
// another one, so nobody can have it already; its grain makes it a few MiB large.
package main

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
)

const (
	width, height = 1440, 900
	peers         = 70
	reach         = 190 // pixels within which two peers are joined
	grain         = 5.0 // of 255; what PNG cannot compress away
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	if err := draw(out, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))); err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

type point struct{ x, y float64 }

// draw writes one picture; the same random numbers give the same one.
func draw(out *bufio.Writer, random *rand.Rand) error {
	points := make([]point, peers)
	for i := range points {
		points[i] = point{random.Float64() * width, random.Float64() * height}
	}
	light := make([]float64, width*height) // 0 is ground, 1 is a line's full colour
	for i, a := range points {
		disc(light, a, 3+4*random.Float64())
		for _, b := range points[:i] {
			if distance := math.Hypot(a.x-b.x, a.y-b.y); distance < reach {
				line(light, a, b, distance)
			}
		}
	}
	if err := encode(out, light, random); err != nil {
		return err
	}
	return out.Flush()
}

// disc and line lay light on the picture; what lies outside is left out.

func disc(light []float64, centre point, radius float64) {
	for y := centre.y - radius - 1; y <= centre.y+radius+1; y++ {
		for x := centre.x - radius - 1; x <= centre.x+radius+1; x++ {
			edge := radius - math.Hypot(math.Round(x)-centre.x, math.Round(y)-centre.y)
			lay(light, x, y, min(1, max(0, edge+0.5)))
		}
	}
}

func line(light []float64, a, b point, length float64) {
	for step := 0.0; step <= length; step += 0.5 {
		t := step / length
		lay(light, a.x+t*(b.x-a.x), a.y+t*(b.y-a.y), 0.55*(1-length/reach))
	}
}

func lay(light []float64, x, y, amount float64) {
	column, row := int(math.Round(x)), int(math.Round(y))
	if column >= 0 && column < width && row >= 0 && row < height {
		light[row*width+column] = max(light[row*width+column], amount)
	}
}

func encode(out io.Writer, light []float64, random *rand.Rand) error {
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			down, lit := float64(y)/height, light[y*width+x]
			mix := func(top, bottom, line float64) uint8 {
				ground := top + (bottom-top)*down
				return uint8(min(255, max(0, ground+(line-ground)*lit+grain*random.NormFloat64())))
			}
			picture.SetNRGBA(x, y, color.NRGBA{mix(9, 16, 190), mix(46, 120, 244), mix(52, 116, 232), 255})
		}
	}
	return png.Encode(out, picture)
}
