package draw

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"p2pcdn/common/timeline"
	"p2pcdn/peer/latency/report"
)

// Format is what a picture is written as.
type Format string

// The formats.
const (
	SVG Format = "svg"
	PNG Format = "png"
)

// dpi of a PNG: sharp on screens of today.
const dpi = 144

// Picture is a picture that can be written.
type Picture struct {
	Name          string // for a file, without its ending
	width, height vg.Length
	draw          func(c draw.Canvas)
}

// Pictures returns all pictures of the groups. rtt is the round trip of the network; 0: it is not known.
func Pictures(groups []*report.Group, rtt time.Duration) (pictures []Picture) {
	var leechers []*report.Group
	for _, g := range groups {
		if g.Role == timeline.Leecher && g.Complete > 0 {
			leechers = append(leechers, g)
		}
	}
	if len(leechers) == 0 {
		return nil
	}
	ms := report.Milliseconds(rtt)
	pictures = append(pictures, phases(leechers, ms))
	if len(leechers) > 1 {
		pictures = append(pictures, complete(leechers, ms))
	}
	taken := make(map[string]int)
	for _, g := range leechers {
		name := slug(g.Key)
		if taken[name]++; taken[name] > 1 {
			name = fmt.Sprintf("%s-%d", name, taken[name])
		}
		pictures = append(pictures, distribution(g, "cdf-"+name, ms), pairs(g, "pairs-"+name, ms))
	}
	return pictures
}

// maxSlug bounds what a scenario adds to the name of a file, in bytes.
const maxSlug = 60

// slug turns a group's name into a part of the name of a file.
func slug(k report.Key) string {
	text := fmt.Sprintf("%s-%s", k.Flow, k.Endpoint)
	if k.Content > 1 {
		text += fmt.Sprintf("-content-%d", k.Content)
	}
	words := strings.FieldsFunc(strings.ToLower(k.Scenario), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	scenario := strings.Join(words, "-")
	if scenario = scenario[:min(len(scenario), maxSlug)]; scenario != "" {
		text = scenario + "-" + text
	}
	return text
}

// Encode returns the picture as a file's content. The same rows give the same bytes.
func (p Picture) Encode(format Format) ([]byte, error) {
	var out bytes.Buffer
	switch format {
	case SVG:
		canvas := vgsvg.New(p.width, p.height)
		p.draw(draw.New(canvas))
		if _, err := canvas.WriteTo(&out); err != nil {
			return nil, fmt.Errorf("drawing %s: %w", p.Name, err)
		}
		// Fonts with the same measures, for whoever does not have this one.
		return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arimo,Arial,Helvetica,sans-serif;")), nil
	case PNG:
		canvas := vgimg.NewWith(vgimg.UseWH(p.width, p.height), vgimg.UseDPI(dpi))
		p.draw(draw.New(canvas))
		if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(&out); err != nil {
			return nil, fmt.Errorf("drawing %s: %w", p.Name, err)
		}
		return out.Bytes(), nil
	}
	return nil, fmt.Errorf("there is no format %q", format)
}

// Save writes the pictures into a folder, which is made where it is missing, and returns the names of the files.
func Save(pictures []Picture, folder string, format Format) (files []string, err error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fmt.Errorf("making the folder of the pictures: %w", err)
	}
	for _, p := range pictures {
		content, err := p.Encode(format)
		if err != nil {
			return files, err
		}
		file := filepath.Join(folder, p.Name+"."+string(format))
		if err := os.WriteFile(file, content, 0o666); err != nil {
			return files, fmt.Errorf("keeping a picture: %w", err)
		}
		files = append(files, file)
	}
	return files, nil
}
