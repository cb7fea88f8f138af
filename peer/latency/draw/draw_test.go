package draw_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"p2pcdn/common/timeline"
	"p2pcdn/peer/latency/draw"
	"p2pcdn/peer/latency/report"
)

// row makes up an introduction whose steps take some 50 ms each.
func row(chance *rand.Rand, scenario string, index int) *timeline.Row {
	r := &timeline.Row{
		Scenario: scenario, Index: index, Flow: timeline.Fast, Endpoint: timeline.Go, Role: timeline.Leecher, Mediators: 2,
		ContentBytes: 200_000, Content: 1, Outcome: timeline.Done, Stamps: timeline.Stamps{},
	}
	at := time.Duration(0)
	for _, phase := range timeline.Of(timeline.Leecher) {
		r.Stamps[phase] = at
		at += 40*time.Millisecond + time.Duration(chance.Int64N(int64(20*time.Millisecond)))
	}
	return r
}

func rows(scenario string, n int) (all []*timeline.Row) {
	chance := rand.New(rand.NewPCG(1, uint64(n)))
	for index := range n {
		all = append(all, row(chance, scenario, index+1))
	}
	return all
}

// failedRow stopped after a phase.
func failedRow(r *timeline.Row, after timeline.Phase) *timeline.Row {
	at := r.Stamps[after]
	for phase, stamp := range r.Stamps {
		if stamp > at {
			delete(r.Stamps, phase)
		}
	}
	r.Outcome, r.ErrorCode = timeline.Failed, "connection_failed"
	return r
}

func names(pictures []draw.Picture) (all []string) {
	for _, p := range pictures {
		all = append(all, p.Name)
	}
	return all
}

// texts returns what is written in an SVG, which must be well-formed.
func texts(t *testing.T, svg []byte) (all []string) {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	within := false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			within = token.Name.Local == "text"
		case xml.EndElement:
			within = false
		case xml.CharData:
			if within {
				all = append(all, string(token))
			}
		}
	}
}

func TestPictures(t *testing.T) {
	all := append(rows("One & <two>", 100), rows("", 3)...)
	all = append(all, failedRow(rows("", 4)[3], timeline.AnswerReceived))
	second := row(rand.New(rand.NewPCG(1, 2)), "", 1)
	second.Content = 2
	all = append(all, second)
	pictures := draw.Pictures(report.Summarize(all), 50*time.Millisecond)
	want := []string{
		"phases", "complete", "cdf-one-two-fast-go", "pairs-one-two-fast-go", "cdf-fast-go", "pairs-fast-go",
		"cdf-fast-go-content-2", "pairs-fast-go-content-2",
	}
	if !slices.Equal(names(pictures), want) {
		t.Fatalf("pictures %v instead of %v", names(pictures), want)
	}
	says := map[string][]string{
		"phases":                  {"One & <two>: fast, go leecher, 2 mediators, 200 kB: 100 of 100", "up to complete", "11"},
		"complete":                {"share of introductions"},
		"cdf-fast-go":             {"share of 4 introductions", "fast, go leecher, 2 mediators, 200 kB"},
		"pairs-one-two-fast-go":   {"One & <two>: fast, go leecher, 2 mediators, 200 kB (60 of 100)"},
		"pairs-fast-go":           {"introductions, the fastest on top", "up to ice_connected"},
		"cdf-one-two-fast-go":     {"ms since started (dashed, numbered above: round trips of 50 ms)"},
		"cdf-fast-go-content-2":   {"fast, go leecher, 2 mediators, 200 kB, content 2"},
		"pairs-fast-go-content-2": {"1"},
	}
	for _, p := range pictures {
		svg, err := p.Encode(draw.SVG)
		if err != nil {
			t.Fatal(err)
		}
		written := texts(t, svg)
		for _, text := range says[p.Name] {
			if !slices.Contains(written, text) {
				t.Errorf("%s does not say %q: %q", p.Name, text, written)
			}
		}
		if again, _ := p.Encode(draw.SVG); !bytes.Equal(again, svg) {
			t.Errorf("%s is another one each time", p.Name)
		}
	}
}

func TestPNG(t *testing.T) {
	pictures := draw.Pictures(report.Summarize(rows("", 2)), 0)
	encoded, err := pictures[0].Encode(draw.PNG)
	if err != nil {
		t.Fatal(err)
	}
	image, err := png.Decode(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	colours := make(map[string]bool)
	for x := range image.Bounds().Dx() {
		r, g, b, _ := image.At(x, image.Bounds().Dy()/2).RGBA()
		colours[fmt.Sprintf("%02x%02x%02x", r>>8, g>>8, b>>8)] = true
	}
	for _, colour := range []string{"ffffff", "332288", "000000", "44aa99"} {
		if !colours[colour] {
			t.Errorf("nothing in the middle is of colour #%s", colour)
		}
	}
}

// TestUnusual draws what measurements seldom give: nothing may fail or hang.
func TestUnusual(t *testing.T) {
	at := func(stamps timeline.Stamps) *timeline.Row {
		r := rows(strings.Repeat("a long scenario ", 60), 1)[0]
		r.Stamps = stamps
		return r
	}
	for name, row := range map[string]*timeline.Row{
		"no time at all":        at(timeline.Stamps{timeline.Started: 0, timeline.Complete: 0}),
		"no stamps":             at(timeline.Stamps{}),
		"hours":                 at(timeline.Stamps{timeline.Started: 0, timeline.MediatorOpen: 1, timeline.Complete: 9_999_999 * time.Millisecond}),
		"a microsecond":         at(timeline.Stamps{timeline.Started: 0, timeline.Complete: time.Microsecond}),
		"phases of a seeder":    at(timeline.Stamps{timeline.Started: 0, timeline.Announced: time.Second, timeline.AnswerSent: 2 * time.Second}),
		"an order of their own": at(timeline.Stamps{timeline.Started: 0, timeline.Complete: time.Second, timeline.MediatorOpen: 2 * time.Second}),
	} {
		t.Run(name, func(t *testing.T) {
			usual := rows("another", 1)[0] // so that there is something to compare it with
			for _, p := range draw.Pictures(report.Summarize([]*timeline.Row{row, usual}), time.Millisecond) {
				svg, err := p.Encode(draw.SVG)
				if err != nil || bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
					t.Errorf("%s: %v", p.Name, err)
				}
				if len(svg) > 1<<20 {
					t.Errorf("%s has %d bytes", p.Name, len(svg))
				}
			}
		})
	}
	if pictures := draw.Pictures(report.Summarize([]*timeline.Row{failedRow(rows("", 1)[0], timeline.PeersNamed)}), 0); pictures != nil {
		t.Errorf("where nothing is complete there is %v", names(pictures))
	}
}

// TestCompleteOnly shows that what failed is among all, and has no part in the curves: their medians know nothing of it.
func TestCompleteOnly(t *testing.T) {
	encode := func(all []*timeline.Row) (svgs [][]byte) {
		for _, p := range draw.Pictures(report.Summarize(all), 0) {
			svg, err := p.Encode(draw.SVG)
			if err != nil {
				t.Fatal(err)
			}
			svgs = append(svgs, svg)
		}
		return svgs
	}
	empty := failedRow(rows("", 3)[2], timeline.Started)
	partial := failedRow(rows("", 3)[2], timeline.FirstPiece)
	if !slices.EqualFunc(encode(append(rows("", 2), empty)), encode(append(rows("", 2), partial)), bytes.Equal) {
		t.Error("what a failed introduction reached is drawn")
	}
}

func TestSave(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "pictures")
	files, err := draw.Save(draw.Pictures(report.Summarize(rows("", 2)), 0), folder, draw.SVG)
	if err != nil || len(files) != 3 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		if found, err := os.Stat(file); err != nil || found.Size() == 0 || filepath.Ext(file) != ".svg" {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := draw.Save(nil, filepath.Join(files[0], "x"), draw.SVG); err == nil {
		t.Error("a folder was made within a file")
	}
}
