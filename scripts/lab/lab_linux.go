package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/network"
	"p2pcdn/scripts/lab/plan"
	"p2pcdn/scripts/lab/results"
	labrun "p2pcdn/scripts/lab/run"
)

// tempVariable tells the isolated process which folder is removed after it.
const tempVariable = "P2PCDN_LAB_TEMP"

// usualPings is how many round trips are measured between two hosts of which a run makes use.
const usualPings = 20

// pingLeeway is how much longer than its links say a round trip is waited for: a queue, and a machine that is busy.
const pingLeeway = time.Second

// do runs the lab, in a process that is apart from this one.
func (o *options) do(ctx context.Context, p *plan.Plan, root string, stdout, stderr io.Writer) int {
	if network.Isolated() {
		return o.isolated(ctx, p, root, stdout, stderr)
	}
	if missing := o.missing(p, root); len(missing) > 0 {
		fmt.Fprintln(stderr, "lab: this machine lacks what the lab needs:")
		for _, what := range missing {
			fmt.Fprintln(stderr, "  -", what)
		}
		return exitUsage
	}
	temp, err := os.MkdirTemp("", "p2pcdn-lab-")
	if err != nil {
		fmt.Fprintln(stderr, "lab:", err)
		return exitFailed
	}
	defer os.RemoveAll(temp)
	code, err := network.Isolate(tempVariable + "=" + temp)
	if err != nil {
		fmt.Fprintln(stderr, "lab:", err)
		return exitFailed
	}
	return code
}

// missing says what this machine lacks for the plan.
func (o *options) missing(p *plan.Plan, root string) []string {
	missing := network.Missing()
	need := func(program, how string) {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", program, how))
		}
	}
	need(filepath.Join(o.bin, "mediator"), "./compile.sh builds it")
	need(filepath.Join(o.bin, "peer"), "./compile.sh builds it")
	modules := func(folder, module string) {
		if _, err := os.Stat(filepath.Join(root, folder, "node_modules", module)); err != nil {
			missing = append(missing, fmt.Sprintf("%s in %s (npm ci --prefix %s)", module, folder, folder))
		}
	}
	browsers := make(map[timeline.Endpoint]bool)
	other := false
	for _, run := range p.Runs {
		if run.Browser != "" {
			browsers[run.Browser] = true
		}
		other = other || run.What == plan.WebTorrent
	}
	if len(browsers) > 0 {
		need("node", "https://nodejs.org, version 20 or later")
		modules("peer/browser", "puppeteer-core")
	}
	if browsers[timeline.Chromium] {
		need("chromium", "apt-get install chromium")
	}
	if browsers[timeline.Firefox] {
		need("firefox-esr", "apt-get install firefox-esr")
	}
	if other {
		modules("scripts/bench", "webtorrent")
		need("node", "https://nodejs.org, version 20 or later")
	}
	return missing
}

// session is one lab that runs. Its goroutine owns it.
type session struct {
	*options
	plan    *plan.Plan
	lab     *labrun.Lab
	network *network.Network
	tell    *teller
	stdout  io.Writer
	table   *timeline.Writer
	rows    []*timeline.Row
	trips   results.Trips
	began   time.Time
}

func (o *options) isolated(ctx context.Context, p *plan.Plan, root string, stdout, stderr io.Writer) int {
	// The router's thread comes back from waiting without waiting for others, while some of them are in system calls.
	runtime.GOMAXPROCS(max(8, runtime.NumCPU()))
	// Nor for the collector: it stops all goroutines, and waits for those that start a program, which takes up
	// to 100 ms. A lab makes some MiB of garbage in all; the limit is for one that should make more.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(512 << 20)
	s := &session{options: o, plan: p, stdout: stdout, tell: newTeller(stderr), began: time.Now(), trips: results.Trips{Runs: make(map[string]time.Duration)}}
	err := s.do(ctx, root)
	s.tell.over()
	switch {
	case o.hold && err == nil: // Ctrl-C is how it ends
		return exitDone
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "lab: interrupted; what was measured is kept in", o.out)
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "lab:", err)
		return exitFailed
	}
	return exitDone
}

func (s *session) do(ctx context.Context, root string) (err error) {
	number, err := network.Prepare()
	if err != nil {
		return fmt.Errorf("preparing a place for the lab: %w", err)
	}
	logs := filepath.Join(s.out, "logs")
	if err := os.RemoveAll(logs); err != nil { // those of the last time
		return err
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(s.out, "lab.csv"))
	if err != nil {
		return fmt.Errorf("keeping what is measured: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	s.table = timeline.NewWriter(file)
	if err := s.table.Header(); err != nil {
		return err
	}
	s.tell.say("building the network: " + counted(len(s.plan.Hosts), "host"))
	if s.network, err = network.Build(s.plan.Seed, s.plan.Hosts); err != nil {
		return fmt.Errorf("building the network: %w", err)
	}
	defer func() { err = errors.Join(err, s.network.Close()) }()
	s.lab = &labrun.Lab{
		Plan: s.plan, Network: s.network, Root: root, Bin: s.bin, Temp: os.Getenv(tempVariable), Logs: logs,
		Row: s.row, Say: s.tell.run,
	}
	fmt.Fprintf(s.stdout, "%s, seed %d\n", s.plan.Name, s.plan.Seed)
	if s.hold {
		return s.holding(ctx, number)
	}
	if err := s.pingAll(ctx); err != nil {
		return err
	}
	err = s.runs(ctx)
	// Whatever was measured is told, also of a lab that was interrupted.
	return errors.Join(err, s.conclude(ctx))
}

// row keeps a row.
func (s *session) row(row *timeline.Row) error {
	s.rows = append(s.rows, row)
	return s.table.Write(row)
}

// runs does all runs, as often as is said.
func (s *session) runs(ctx context.Context) error {
	for round := range s.repeat {
		again := *s.plan
		again.Seed = (again.Seed + uint64(round)) % (timeline.MaxNumber + 1)
		s.lab.Plan = &again
		for i := range again.Runs {
			run := &again.Runs[i]
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if run.What == plan.Ping {
				if err := s.pingRun(ctx, run); err != nil {
					return err
				}
				continue
			}
			s.lab.Row = func(row *timeline.Row) error {
				row.Index += round * run.N
				return s.row(row)
			}
			s.tell.begin(run)
			err := s.lab.Do(ctx, run)
			s.tell.end(run)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// holding starts the mediators and waits.
func (s *session) holding(ctx context.Context, number string) error {
	s.tell.say("starting the mediators")
	return s.lab.Hold(ctx, func() error {
		for _, h := range s.network.Hosts {
			fmt.Fprintf(s.stdout, "%-15s %-15v nsenter -t %s -m -p ip netns exec %s bash\n", h.Name, h.Address, number, h.Name)
		}
		s.tell.say("the lab is there; Ctrl-C ends it")
		<-ctx.Done()
		return nil
	})
}

// pingAll measures the round trips of which the runs make use: those between a run's peers, and from them to their mediators.
func (s *session) pingAll(ctx context.Context) error {
	s.tell.say("measuring round trips")
	var pairs [][2]string
	for _, run := range s.plan.Runs {
		if run.What == plan.Ping {
			continue
		}
		first, last := run.Mediators[0], run.Mediators[len(run.Mediators)-1]
		pairs = append(pairs, [2]string{run.Leecher, last}, [2]string{run.Seeder, first}, [2]string{run.Leecher, run.Seeder}, [2]string{last, first})
	}
	measured, err := s.ping(ctx, pairs, usualPings)
	if err != nil {
		return err
	}
	s.trips.Pairs = measured
	for _, run := range s.plan.Runs {
		for _, pair := range measured {
			if run.What != plan.Ping && pair.From == run.Leecher && pair.To == run.Mediators[len(run.Mediators)-1] && pair.Median > 0 {
				s.trips.Runs[run.Name] = time.Duration(pair.Median * float64(time.Millisecond))
			}
		}
	}
	s.tell.over()
	if len(measured) == 0 {
		return nil
	}
	return results.WriteTrips(s.stdout, measured)
}

// pingRun measures the round trips between all hosts.
func (s *session) pingRun(ctx context.Context, run *plan.Run) error {
	s.tell.begin(run)
	var pairs [][2]string
	for i, from := range s.plan.Hosts {
		for _, to := range s.plan.Hosts[i+1:] {
			pairs = append(pairs, [2]string{from.Name, to.Name})
		}
	}
	measured, err := s.ping(ctx, pairs, run.N)
	if err != nil {
		return err
	}
	s.trips.Pairs = append(s.trips.Pairs, measured...)
	s.tell.over()
	fmt.Fprintln(s.stdout)
	return results.WriteTrips(s.stdout, measured)
}

// ping measures pairs of hosts, one after the other, each once. Of two hosts that one is asked which can be reached; where both
// are behind NATs, nothing can be measured.
func (s *session) ping(ctx context.Context, pairs [][2]string, n int) (measured []results.Pair, err error) {
	var done [][2]string
	for _, pair := range pairs {
		from, to := s.plan.Host(pair[0]), s.plan.Host(pair[1])
		if to.NAT != plan.NoNAT {
			from, to = to, from
		}
		key := [2]string{from.Name, to.Name}
		if to.NAT != plan.NoNAT || from == to || slices.Contains(done, key) || slices.Contains(done, [2]string{to.Name, from.Name}) {
			continue
		}
		done = append(done, key)
		links := s.plan.RoundTrip(from.Name, to.Name)
		patience := links + 2*(from.Link.Jitter+to.Link.Jitter) + pingLeeway
		trips, err := s.network.Host(from.Name).Ping(ctx, s.network.Host(to.Name).Address, n, patience)
		if err != nil {
			return measured, err
		}
		measured = append(measured, results.NewPair(from.Name, to.Name, links, n, trips))
	}
	return measured, nil
}

// conclude tells and keeps what came of it, and draws it.
func (s *session) conclude(ctx context.Context) error {
	s.tell.over()
	groups, verdicts := results.Groups(s.plan, s.rows, s.trips), results.Judge(s.plan, s.rows, s.trips)
	fmt.Fprintln(s.stdout)
	if err := results.WriteGroups(s.stdout, groups); err != nil {
		return err
	}
	if len(verdicts) > 0 {
		fmt.Fprintln(s.stdout)
		if err := results.WriteVerdicts(s.stdout, verdicts); err != nil {
			return err
		}
	}
	late := s.network.Lateness()
	fmt.Fprintf(s.stdout, "\nthe router carried %d packets; half of them within %v of when they were due, 99 %% within %v; %d by more than 1 ms, at most %v\n",
		late.Packets, late.P50, late.P99, late.Off, late.Max)
	if err := s.keep(ctx, groups, verdicts, late); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, "kept in", s.out)
	drawn := s.drawn(ctx)
	return errors.Join(drawn, s.missed(groups, verdicts))
}

// missed is what is not as the plan says.
func (s *session) missed(groups []results.Group, verdicts []results.Verdict) error {
	unexpected, missed := 0, 0
	for _, g := range groups {
		if !g.AsExpected(s.plan.Run(g.Run)) {
			unexpected++
		}
	}
	for _, v := range verdicts {
		if v.Result == results.Missed || v.Result == results.Unknown {
			missed++
		}
	}
	if unexpected+missed == 0 {
		return nil
	}
	return fmt.Errorf("not as expected: %s; missed: %s", counted(unexpected, "run"), counted(missed, "must"))
}

// drawn has the results drawn.
func (s *session) drawn(ctx context.Context) error {
	if !s.draw || len(s.rows) == 0 || ctx.Err() != nil {
		return nil
	}
	s.tell.say("drawing")
	defer s.tell.over()
	args := []string{"latency", "--draw", filepath.Join(s.out, "lab.csv"), "--svg", s.out}
	if trip := s.oneTrip(); trip > 0 {
		args = append(args, "--rtt", trip.String())
	}
	if said, err := exec.CommandContext(ctx, filepath.Join(s.bin, "peer"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("drawing the results: %w: %s", err, said)
	}
	return nil
}

// oneTrip is the round trip that all runs have by their links; 0: they have several.
func (s *session) oneTrip() (trip time.Duration) {
	for _, run := range s.plan.Runs {
		if run.What == plan.Ping {
			continue
		}
		links := s.plan.RoundTrip(run.Leecher, run.Mediators[len(run.Mediators)-1])
		if trip != 0 && links != trip {
			return 0
		}
		trip = links
	}
	return trip
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
