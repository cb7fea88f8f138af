// Command lab builds a network on one machine, as a small file describes it, runs real mediators, headless peers and browsers on its
// hosts, and measures how long they take to come together:
//
//	go build -o bin/lab ./scripts/lab && sudo bin/lab scripts/lab/latency.toml
//
// README.md in this folder describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/plan"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // by a signal
)

const usage = `Usage: lab [flags] FILE.toml

Builds the network that the file describes on this machine: hosts as network namespaces,
joined by a router that adds delay, jitter, loss and bandwidth, and NATs. Runs mediators,
headless peers and browsers there as the file says, and keeps a row for each
introduction in one table. Needs Linux and root; whatever is missing is named.

Written to the folder of --out:
  lab.csv       a row for each introduction, as it comes (columns: common/timeline)
  lab.json      medians, verdicts, round trips, versions, and how exact the router was
  logs/         what each program said
  *.svg         what "peer latency --draw" makes of lab.csv

Exit codes: 0 all is as the file expects, and every "must" is reached; 1 something is
not, or failed (lab.csv says what); 2 wrong usage, a file with errors, or a machine that
lacks something; 130 interrupted (what was measured is kept).

Flags:
`

// options are what the flags say.
type options struct {
	file   string
	seed   uint64
	seeded bool
	only   names
	repeat int
	out    string
	bin    string
	draw   bool
	check  bool
	hold   bool
}

// names is a flag that may be repeated.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }

func (n *names) Set(name string) error {
	*n = append(*n, name)
	return nil
}

// maxRepeat bounds --repeat: with it and the limits of a lab file, all rows fit a table.
const maxRepeat = 100

// errUsage says that the flags are wrong; what is wrong has been said.
var errUsage = errors.New("wrong usage")

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.seed, "seed", 0, "`number` that decides the contents, and what is lost and late, in place of the file's")
	flags.Var(&o.only, "only", "do this `run` alone; may be repeated")
	flags.IntVar(&o.repeat, "repeat", 1, "do everything so many `times`, the seed one higher each time")
	flags.StringVar(&o.out, "out", "", "`folder` for what is measured (default .cache/lab and the file's name)")
	flags.StringVar(&o.bin, "bin", "", "`folder` of the programs mediator and peer (default bin, which ./compile.sh fills)")
	flags.BoolVar(&o.draw, "draw", true, "draw the results")
	flags.BoolVar(&o.check, "check", false, "only check the file, and show what it says; needs nothing")
	flags.BoolVar(&o.hold, "hold", false, "start the network and its mediators, say how to enter them, and wait for Ctrl-C")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, errUsage
	}
	flags.Visit(func(f *flag.Flag) { o.seeded = o.seeded || f.Name == "seed" })
	o.file = flags.Arg(0)
	for _, wrong := range []struct {
		is   bool
		text string
	}{
		{flags.NArg() != 1, "one lab file is needed, behind the flags"},
		{o.seed > timeline.MaxNumber, fmt.Sprintf("--seed must be at most %d", uint64(timeline.MaxNumber))},
		{o.repeat < 1 || o.repeat > maxRepeat, fmt.Sprintf("--repeat must be 1 to %d", maxRepeat)},
	} {
		if wrong.is {
			fmt.Fprintf(stderr, "lab: %s; -h says more\n", wrong.text)
			return o, errUsage
		}
	}
	return o, nil
}

// read reads the lab file, and leaves the runs out that are not to be done.
func (o *options) read() (*plan.Plan, error) {
	file, err := os.Open(o.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, plan.MaxFile+1))
	if err != nil {
		return nil, err
	}
	p, err := plan.Parse(o.file, string(text))
	if err != nil {
		return nil, err
	}
	if o.seeded {
		p.Seed = o.seed
	}
	return p, o.choose(p)
}

// choose has the plan do only some of its runs.
func (o *options) choose(p *plan.Plan) error {
	if len(o.only) == 0 {
		return nil
	}
	var chosen []plan.Run
	for _, name := range o.only {
		run := p.Run(name)
		if run == nil {
			return fmt.Errorf("--only: %s has no run %q", o.file, name)
		}
		chosen = append(chosen, *run)
	}
	p.Runs = chosen
	var musts []plan.Must
	for _, must := range p.Musts {
		if p.Run(must.Run) != nil && (must.Against == "" || p.Run(must.Against) != nil) {
			musts = append(musts, must)
		}
	}
	p.Musts = musts
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the command. It returns the exit code, and has told every error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		return exitUsage
	}
	p, err := o.read()
	if err != nil {
		fmt.Fprintf(stderr, "%v\n", err)
		return exitUsage
	}
	if o.check {
		if err := p.Describe(stdout); err != nil {
			fmt.Fprintln(stderr, "lab:", err)
			return exitFailed
		}
		return exitDone
	}
	root, err := findRoot()
	if err != nil {
		fmt.Fprintln(stderr, "lab:", err)
		return exitUsage
	}
	if o.bin == "" {
		o.bin = filepath.Join(root, "bin")
	}
	if o.out == "" {
		o.out = filepath.Join(root, ".cache", "lab", strings.TrimSuffix(filepath.Base(o.file), filepath.Ext(o.file)))
	}
	for _, folder := range []*string{&o.bin, &o.out} {
		if *folder, err = filepath.Abs(*folder); err != nil {
			fmt.Fprintln(stderr, "lab:", err)
			return exitUsage
		}
	}
	return o.do(ctx, p, root, stdout, stderr)
}

// findRoot is the folder of the repository in which this was called.
func findRoot() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module p2pcdn\n") {
			return folder, nil
		}
		if filepath.Dir(folder) == folder {
			return "", errors.New("it must be called within the repository: pages and programs are taken from there")
		}
		folder = filepath.Dir(folder)
	}
}
