//go:build unix

package main

import (
	"math"
	"testing"
)

func TestSlope(t *testing.T) {
	for _, c := range []struct {
		name string
		x, y []float64
		want float64
	}{
		{"nothing", nil, nil, 0},
		{"one point", []float64{1}, []float64{5}, 0},
		{"one moment", []float64{1, 1}, []float64{5, 6}, 0},
		{"a line", []float64{0, 1, 2, 3}, []float64{1, 3, 5, 7}, 2},
		{"with an odd sample", []float64{0, 1, 2, 3, 4, 5, 6}, []float64{1, 3, 5, 700, 9, 11, 13}, 2},
		{"two odd ones", []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}, []float64{0, 0, 0, -90, 0, 0, 80, 0, 0}, 0},
	} {
		if got := slope(c.x, c.y); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v instead of %v", c.name, got, c.want)
		}
	}
}

// soaked is what a soak of 1,000 peers of 20 KiB and a goroutine each looks like, of whom ten
// leave each second, where each leaves so much behind.
func soaked(memory, goroutines, files float64) (start, full State, samples []Sample, seconds float64, left int) {
	const peers, perSecond, length = 1000, 10, 600
	start = State{Memory: 40 << 20, Heap: 2 << 20, Goroutines: 40, Files: 16}
	full = State{Memory: start.Memory + peers*20<<10, Heap: 12 << 20, Goroutines: start.Goroutines + peers, Files: start.Files + peers, Connections: peers}
	for at := 5.0; at <= length; at += 5 {
		gone, wave := at*perSecond, math.Sin(at) // what comes and goes
		s := Sample{Seconds: at, State: full}
		s.Connections += math.Round(20 * wave)
		s.Goroutines += s.Connections - peers + math.Round(3*wave) + goroutines*gone
		s.Files += s.Connections - peers + files*gone
		s.Memory += memory*gone + 200<<10*wave
		s.Heap += memory * gone
		samples = append(samples, s)
	}
	return start, full, samples, length, length * perSecond
}

func TestTrends(t *testing.T) {
	for _, c := range []struct {
		name                      string
		memory, goroutines, files float64
		flat                      [4]bool
	}{
		{"nothing is left", 0, 0, 0, [4]bool{true, true, true, true}},
		{"one of 200 leaves everything", 100, 0.005, 0.005, [4]bool{true, true, true, true}},
		{"memory", 1 << 10, 0, 0, [4]bool{false, false, true, true}},
		{"one of 50 leaves a goroutine", 0, 0.02, 0, [4]bool{true, true, false, true}},
		{"one of 50 leaves a file", 0, 0, 0.02, [4]bool{true, true, true, false}},
	} {
		for i, trend := range trends(soaked(c.memory, c.goroutines, c.files)) {
			if trend.Flat != c.flat[i] {
				t.Errorf("%s: %s is %+v", c.name, trend.Name, trend)
			}
		}
	}
}

func TestReturns(t *testing.T) {
	start := State{Goroutines: 40, Files: 16, Heap: 1 << 20}
	if all := returns(start, start, 1000); !allBack(all) {
		t.Errorf("the same is not back: %+v", all)
	}
	for name, end := range map[string]State{
		"goroutines":                   {Goroutines: 41, Files: 16, Heap: 1 << 20},
		"files":                        {Goroutines: 40, Files: 17, Heap: 1 << 20},
		"contents":                     {Goroutines: 40, Files: 16, Heap: 1 << 20, Contents: 1},
		"heap after a collection, MiB": {Goroutines: 40, Files: 16, Heap: 100 << 20},
	} {
		for _, r := range returns(start, end, 1000) {
			if r.Back == (r.Name == name) {
				t.Errorf("where there are more %s: %+v", name, r)
			}
		}
	}
}

func TestFigures(t *testing.T) {
	got := figures("# HELP go_goroutines Number.\n# TYPE go_goroutines gauge\ngo_goroutines 42\nmemory 1.5e+07\nx{code=\"rate_limited\"} 7\nnonsense\n\n")
	for name, want := range map[string]float64{"go_goroutines": 42, "memory": 1.5e7, `x{code="rate_limited"}`: 7} {
		if got[name] != want {
			t.Errorf("%s is %v instead of %v", name, got[name], want)
		}
	}
	if len(got) != 3 {
		t.Errorf("it is %v", got)
	}
}
