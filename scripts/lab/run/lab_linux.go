package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/network"
	"p2pcdn/scripts/lab/plan"
)

// The ports of mediators and trackers. Each host has all of its own.
const (
	mediatorPort = 8080
	dhtPort      = 4001
	trackerPort  = 8000
)

// The classes of failure of a row that come from the lab itself; others are those of the peers.
const (
	codeProgram      = "program_failed"  // a peer, a browser or a tracker could not be started, or ended by itself
	codeMediator     = "mediator_failed" // a mediator could not be started
	codeInterrupted  = "interrupted"     // by a person
	codeNotAnnounced = "not_announced"   // the seeder did not come to announce its content
	codeTimeout      = "timeout"
	codeEarlier      = "earlier_failed" // the one before it, of the same pair
	codeUnreachable  = "mediator_unreachable"
	codeRefused      = "mediator_refused"
	codeLost         = "mediator_lost"
)

// Lab is a network with what is needed to use it. Its methods are for one goroutine alone.
type Lab struct {
	Plan    *plan.Plan
	Network *network.Network
	Root    string // the folder of the repository
	Bin     string // where the programs mediator and peer are
	Temp    string // a folder that is removed after the lab
	Logs    string // where what programs say is kept, a file for each

	// Row takes each row as soon as it is there.
	Row func(*timeline.Row) error
	// Say takes how it goes, for people.
	Say func(run *plan.Run, done, failed int)

	processes []*process // that run
	started   int        // in all, for the names of their logs
}

// Do does a run. The error says that rows could not be kept, or that ctx ended; all else is in the rows.
func (l *Lab) Do(ctx context.Context, run *plan.Run) error {
	r := &doing{Lab: l, Run: run, told: make(map[[2]int]bool)}
	for from := 1; from <= run.N && ctx.Err() == nil; {
		n := run.N
		if run.Fresh {
			n = 1
		}
		trouble := r.introduce(ctx, from, n)
		if err := errors.Join(r.failed, r.complete(ctx, from, n, trouble)); err != nil {
			return err
		}
		from += n
	}
	return errors.Join(r.complete(ctx, 1, run.N, nil), ctx.Err())
}

// doing is one run that is done.
type doing struct {
	*Lab
	*plan.Run
	told         map[[2]int]bool // introductions and contents that have a row
	done, broken int             // rows that are complete, and that are not
	failed       error           // a row that could not be kept
	killer       *time.Timer     // of Kill, or nil
	mediators    map[string]*process
}

// introduce makes n introductions, from the one of this number on, with mediators of their own. Its error is for all
// rows that are missing then.
func (r *doing) introduce(ctx context.Context, from, n int) (trouble error) {
	defer func() {
		if r.killer != nil {
			r.killer.Stop()
			r.killer = nil
		}
		r.endAll()
	}()
	if err := r.startMediators(ctx); err != nil {
		return withCode(codeMediator, err)
	}
	switch r.What {
	case plan.Go:
		return r.goPeers(ctx, from, n)
	case plan.Browser, plan.WebTorrent:
		return r.browsers(ctx, from, n)
	case plan.Announce:
		return r.announces(ctx, from, n)
	}
	return fmt.Errorf("a run of this kind has no introductions: %s", r.What)
}

// row hands out a row, whose scenario, seed, flow and size are those of the run.
func (r *doing) row(row *timeline.Row) {
	row.Scenario, row.Seed, row.Flow = r.Name, r.Plan.Seed, r.Flow
	row.Role, row.Endpoint = timeline.Leecher, timeline.Go
	if r.What == plan.Announce {
		row.Role = timeline.Seeder // who is looked at
	}
	if r.Browser != "" {
		row.Endpoint = r.Browser
	}
	row.Mediators, row.ContentBytes = len(r.Mediators), r.Size
	row.ErrorCode, row.Error = clip(row.ErrorCode, timeline.MaxCode), clip(row.Error, timeline.MaxText)
	if row.Content == 0 {
		row.Content = 1
	}
	if wrong := row.Check(); wrong != nil {
		spoil(row, wrong)
	}
	r.told[[2]int{row.Index, row.Content}] = true
	if row.Outcome == timeline.Done {
		r.done++
	} else {
		r.broken++
	}
	if err := r.Row(row); err != nil && r.failed == nil {
		r.failed = err
	}
	r.Say(r.Run, r.done, r.broken)
}

// spoil makes a row that no table takes one of a program that failed: a page may tell anything, and one of many
// introductions must not end all. Stamps that cannot be are dropped.
func spoil(row *timeline.Row, wrong error) {
	text := wrong.Error()
	if row.Error != "" {
		text += ", and it says: " + row.Error
	}
	row.Outcome, row.ErrorCode, row.Error = timeline.Failed, codeProgram, clip("what it told is no row: "+text, timeline.MaxText)
	maps.DeleteFunc(row.Stamps, func(phase timeline.Phase, at time.Duration) bool {
		return at < 0 || at > timeline.MaxStamp || phase == timeline.Started && at != 0
	})
}

// clip cuts a text to so many bytes, between its characters.
func clip(text string, most int) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) <= most {
		return text
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// complete hands out a failed row for each introduction that has none.
func (r *doing) complete(ctx context.Context, from, n int, trouble error) error {
	code := codeOf(trouble)
	switch {
	case ctx.Err() != nil:
		code, trouble = codeInterrupted, errors.New("interrupted before it was done")
	case trouble == nil:
		code, trouble = codeProgram, errors.New("there is no result, and no reason")
	}
	for index := from; index < from+n; index++ {
		for content := 1; content <= max(1, r.Contents); content++ {
			if r.told[[2]int{index, content}] {
				continue
			}
			row := &timeline.Row{Index: index, Content: content, Outcome: timeline.Failed, ErrorCode: code, Error: trouble.Error()}
			if code == codeInterrupted {
				row.Outcome = timeline.Skipped
			}
			r.row(row)
		}
	}
	return r.failed
}

// startsNow begins the time after which a mediator is killed.
func (r *doing) startsNow() {
	if r.Kill == "" || r.killer != nil {
		return
	}
	victim := r.mediators[r.Kill]
	r.killer = time.AfterFunc(r.KillAfter, victim.kill)
}

// coded is an error with the code of its row.
type coded struct {
	code string
	error
}

func (c coded) Unwrap() error { return c.error }

func withCode(code string, err error) error { return coded{code, err} }

func codeOf(err error) string {
	var c coded
	if errors.As(err, &c) {
		return c.code
	}
	return codeProgram
}

// startMediators starts all mediators of the lab, those that others join first, and waits until each is ready.
func (r *doing) startMediators(ctx context.Context) error {
	r.mediators = make(map[string]*process)
	// In each turn those whose bootstraps run; in the last one those that wait for each other, too.
	for turn := range len(r.Plan.Hosts) + 1 {
		for i := range r.Plan.Hosts {
			host := &r.Plan.Hosts[i]
			if host.Mediator == nil || r.mediators[host.Name] != nil || turn < len(r.Plan.Hosts) && !r.allRun(host.Mediator.Bootstrap) {
				continue
			}
			if err := r.startMediator(ctx, host); err != nil {
				return err
			}
		}
	}
	for name, p := range r.mediators {
		page := "/healthz"
		if len(r.Plan.Host(name).Mediator.Bootstrap) > 0 {
			page = "/readyz" // it has reached the others
		}
		if err := r.awaitPage(ctx, p, page); err != nil {
			return err
		}
	}
	return nil
}

// allRun reports whether the mediators of all of these hosts run.
func (r *doing) allRun(hosts []string) bool {
	for _, host := range hosts {
		if r.mediators[host] == nil {
			return false
		}
	}
	return true
}

func (r *doing) startMediator(ctx context.Context, host *plan.Host) error {
	data, err := os.MkdirTemp(r.Temp, "mediator-")
	if err != nil {
		return err
	}
	args := []string{
		fmt.Sprint(mediatorPort), fmt.Sprint(dhtPort), "--data-dir", data, "--public-url", r.mediatorURL(host.Name),
		"--port-map=false", "--log-format", "text",
	}
	args = append(args, host.Mediator.Args...)
	for _, other := range host.Mediator.Bootstrap {
		args = append(args, r.address(other, mediatorPort))
	}
	p, err := r.start(host.Name, "mediator", command{program: filepath.Join(r.Bin, "mediator"), args: args})
	if err != nil {
		return err
	}
	r.mediators[host.Name] = p
	// Those that join it read there who it is.
	return r.awaitPage(ctx, p, "/healthz")
}

// address is a port of a host.
func (l *Lab) address(host string, port int) string {
	return net.JoinHostPort(l.Network.Host(host).Address.String(), fmt.Sprint(port))
}

// mediatorURL is where peers reach the mediator of a host.
func (l *Lab) mediatorURL(host string) string {
	return "ws://" + l.address(host, mediatorPort) + mediation.Path
}

const (
	// startTime bounds the start of a program, the joining of a DHT or of a browser on a busy machine included.
	startTime = 60 * time.Second

	// pageTick is how often a mediator is asked whether it is ready: it tells nobody by itself.
	pageTick = 50 * time.Millisecond
	pageTime = 2 * time.Second
)

// awaitPage waits until a page of a mediator says that all is well. It is asked from its own host.
func (r *doing) awaitPage(ctx context.Context, p *process, page string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	client := clientAt(p.host)
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(pageTick)
	defer ticker.Stop()
	for {
		err := ask(ctx, client, "http://"+r.address(p.host.Name, mediatorPort)+page)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			return p.died()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: %w", p.name, startTime, err)
		}
	}
}

// endAll ends what runs, and removes what it wrote.
func (l *Lab) endAll() {
	var ends sync.WaitGroup
	for _, p := range l.processes {
		ends.Go(p.end) // each of them may take some seconds
	}
	ends.Wait()
	l.processes = nil
	l.Network.Sweep()
	entries, err := os.ReadDir(l.Temp)
	if err != nil {
		return
	}
	for _, entry := range entries {
		_ = os.RemoveAll(filepath.Join(l.Temp, entry.Name())) // what is left goes with the folder
	}
}

// Hold starts the mediators, calls f, and ends them.
func (l *Lab) Hold(ctx context.Context, f func() error) error {
	r := &doing{Lab: l, Run: &plan.Run{}}
	defer r.endAll()
	if err := r.startMediators(ctx); err != nil {
		return err
	}
	return f()
}
