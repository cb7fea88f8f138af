package simulation

import (
	"flag"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	simulated = flag.String("simulate", "", "numbers of mediators, as 10,100,1000, of which an hour each is lived through")
	hours     = flag.Float64("simulate.hours", 1, "how long lookups are measured, in simulated hours; what comes before is as much shorter")
	lookups   = flag.Int("simulate.lookups", 5000, "lookups of each network, in all")
	leaving   = flag.Float64("simulate.leaving", 0.1, "the part of the mediators that die in an hour")
	seed      = flag.Uint64("simulate.seed", 1, "of who is where, and does what when")
	out       = flag.String("simulate.out", "", "folder for table.md, results.csv, lookups.csv, results.json and the pictures")
	with      = flag.String("simulate.with", "", "folder of an earlier -simulate.out, whose results are drawn too")
	refresh   = flag.Duration("simulate.refresh", 0, "how often a routing table is refreshed; 0: as every mediator does")
)

// run lives through a configuration in a bubble.
func run(t *testing.T, config Config) (result *Result) {
	t.Helper()
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		var err error
		result, err = Run(t.Context(), config, func(text string) {
			t.Logf("%s; %d goroutines", text, runtime.NumGoroutine())
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d mediators took %v of real time", config.Mediators, time.Since(began).Round(time.Second))
	return result
}

// TestSimulate is the experiment: see the package comment.
func TestSimulate(t *testing.T) {
	if *simulated == "" && *with == "" {
		t.Skip("an experiment, not a test: -simulate 10,100,1000 -timeout 300m -v")
	}
	var results []*Result
	if *with != "" {
		var err error
		if results, err = Read(*with); err != nil {
			t.Fatal(err)
		}
	}
	for text := range strings.SplitSeq(*simulated, ",") {
		if text == "" { // only what was read is drawn
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		config := Default(n)
		config.Seed, config.Lookups, config.Leaving, config.Discovery.RefreshAll = *seed, *lookups, *leaving, *refresh
		for _, d := range []*time.Duration{&config.Measured, &config.Announcing, &config.Settle} {
			*d = time.Duration(*hours * float64(*d))
		}
		result := run(t, config)
		results = append(results, result)
		slices.SortFunc(results, func(a, b *Result) int { return a.Config.Mediators - b.Config.Mediators })
		for _, l := range result.Lookups {
			if l.Reached == 0 {
				t.Logf("a lookup failed: %+v", l)
			}
		}
		t.Log("\n" + Table(results))
		if *out != "" { // after each, so that a later one that is ended takes nothing away
			if err := Write(*out, results); err != nil {
				t.Fatal(err)
			}
		}
	}
	if *out != "" && len(results) > 0 {
		if err := Write(*out, results); err != nil {
			t.Fatal(err)
		}
	}
}
