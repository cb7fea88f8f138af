package simulation

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSmall lives through some minutes of small networks in which mediators die:
// one in which each record is everywhere, and one in which it is not.
func TestSmall(t *testing.T) {
	var results []*Result
	sizes := []int{6, 24}
	if raced {
		sizes = []int{4, 6}
	}
	for _, mediators := range sizes {
		config := Default(mediators)
		config.Settle, config.Announcing, config.Measured = time.Minute, time.Minute, 2*time.Minute
		config.Leaving, config.Contents, config.Lookups = 2, 12, 50
		r := run(t, config)
		results = append(results, r)
		t.Log("\n" + Table([]*Result{r}))
		if ok, _, _ := r.Success(); ok != len(r.Lookups) || ok < config.Lookups/3 {
			t.Errorf("%d mediators: %d of %d lookups succeeded: %+v", mediators, ok, len(r.Lookups), r.Lookups)
		}
		for _, l := range r.Lookups {
			// The record of a living mediator, and its answer, with which that of the seeder may come.
			if l.Found <= l.InDHT || l.Reached < l.Found || l.Hops < 0 || l.Hops > 2 || l.Queries < 1 {
				t.Errorf("%d mediators: an implausible lookup: %+v", mediators, l)
			}
		}
		if median := quantile(r.times(found), .5); median < 5*time.Millisecond || median > time.Second {
			t.Errorf("%d mediators: half of the seeders are named within %v", mediators, median)
		}
		if want := float64(config.Contents*min(20, mediators-1)) / float64(mediators); mean(r.Records) < .8*want || mean(r.Records) > 1.5*want {
			t.Errorf("%d mediators hold %v records each, want about %v", mediators, mean(r.Records), want)
		}
		if r.Messages == 0 || r.Bytes < r.Messages || r.Dials < r.FailedDials || len(r.Peers) != mediators {
			t.Errorf("%d mediators: implausible traffic: %+v", mediators, r)
		}
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := Write(dir, results); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"table.md", "results.csv", "lookups.csv", "latency.svg", "hops.svg", "growth.svg"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(name, ".svg"):
			if !strings.Contains(string(text), "</svg>") || !strings.Contains(string(text), fmt.Sprintf("%d mediators", sizes[1])) && name != "growth.svg" {
				t.Errorf("%s is no picture of these results", name)
			}
		case strings.HasSuffix(name, ".csv"):
			rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
			want := 1 + len(results)
			if name == "lookups.csv" {
				want = 1 + len(results[0].Lookups) + len(results[1].Lookups)
			}
			if err != nil || len(rows) != want {
				t.Errorf("%s has %d rows, want %d; %v", name, len(rows), want, err)
			}
		}
	}
	if again, err := Read(dir); err != nil || Table(again) != Table(results) {
		t.Errorf("the results read again are others: %v", err)
	}
	if err := Write(filepath.Join(dir, "table.md", "x"), results); err == nil {
		t.Error("results were written into a file")
	}
}

func TestStatistics(t *testing.T) {
	r := &Result{Config: Config{Mediators: 10, Measured: 2 * time.Hour}, Messages: 200}
	if _, low, high := r.Success(); low != 0 || high != 1 {
		t.Errorf("of no lookups: %v to %v", low, high)
	}
	for i := range 1000 {
		l := Lookup{Found: time.Duration(i+1) * time.Millisecond, Searched: 1, Hops: i % 3}
		if i >= 10 {
			l.Reached = time.Second
		}
		r.Lookups = append(r.Lookups, l)
	}
	// Wilson (1927), eq. 2, for 990 of 1000 and z = 1.96: 0.981690 to 0.994559.
	if ok, low, high := r.Success(); ok != 990 || low < .98168 || low > .98170 || high < .99455 || high > .99457 {
		t.Errorf("990 of 1000: %d, %v to %v", ok, low, high)
	}
	if got := r.PerMediator(r.Messages); got != 10 {
		t.Errorf("200 messages of 10 mediators in two hours: %v each an hour", got)
	}
	if times := r.times(found); quantile(times, .5) != 501*time.Millisecond || quantile(times, 1) != time.Second {
		t.Errorf("quantiles of 1 to 1000 ms: %v, %v", quantile(times, .5), quantile(times, 1))
	}
	if got := (figure{value: -1234567.891, digits: 1}).text(); got != "-1,234,567.9" {
		t.Errorf("a number is written %s", got)
	}
	if _, err := Run(t.Context(), Config{}, nil); err == nil {
		t.Error("nothing was simulated")
	}
}
