//go:build unix

// Command soak holds thousands of peers at a mediator of its own, has them come and go
// and be introduced to each other, and says whether what the mediator takes stays the same:
//
//	go run ./scripts/soak                    # ten minutes, 5,000 peers
//	go run ./scripts/soak --attack           # what floods do to honest peers, instead
//
// What it means by that is said in verdict.go, and for --attack in attack.go. All of the load
// goes to loopback: peers come from 127.0.1.0/24, attackers from 127.0.0.66, so that the
// mediator's limits per address are on, as all its other ones.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit codes.
const (
	exitFlat    = 0
	exitNotFlat = 1 // or it could not be measured
	exitUsage   = 2
	exitStopped = 130 // by a signal
)

// The largest load that can be asked for. A process may have some 10,000 files or more, and
// an hour is what growth is told for.
const (
	maxPeers    = 15_000
	maxDuration = time.Hour
	maxRate     = 50_000
)

// options are what the flags say.
type options struct {
	mediator      string
	peers         int
	duration      time.Duration
	churn         float64
	introductions float64
	json          string
	attack        bool
	pairs         int
	flood         int
}

const usage = `Usage: go run ./scripts/soak [flags]

Holds peers at a mediator of its own, on loopback, has them come and go, and says whether the
mediator's memory, goroutines and files stay the same, and return when all have left. With
--attack: how long honest peers wait for an introduction while others flood the mediator.

Exit codes: 0 flat, 1 not flat, or it could not be measured, 2 wrong usage, 130 interrupted.

`

// errUsage says that the flags are wrong; what is wrong has been said.
var errUsage = errors.New("wrong usage")

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.mediator, "mediator", "", "`program` to test (default: the one of this repository, built anew)")
	flags.IntVar(&o.peers, "peers", 5000, "`number` of peers that are there at a time")
	flags.DurationVar(&o.duration, "duration", 10*time.Minute, "how long, after all have come; with --attack, of each attack and before it (default 5s)")
	flags.Float64Var(&o.churn, "churn", 1, "`percent` of the peers that leave each second, for whom others come")
	flags.Float64Var(&o.introductions, "introductions", 50, "`number` of introductions a second")
	flags.StringVar(&o.json, "json", "", "`file` for everything that was measured")
	flags.BoolVar(&o.attack, "attack", false, "measure honest peers under attack instead")
	flags.IntVar(&o.pairs, "pairs", 20, "`number` of honest pairs, with --attack")
	flags.IntVar(&o.flood, "flood", 5000, "`number` of messages, or of connections, a second at the most of an attacker, with --attack")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, errUsage
	}
	chosen := false
	flags.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "duration" })
	if o.attack && !chosen {
		o.duration = attackTime
	}
	for _, wrong := range []struct {
		is   bool
		text string
	}{
		{flags.NArg() > 0, "there are only flags"},
		{o.peers < 1 || o.peers > maxPeers, fmt.Sprintf("--peers must be 1 to %d", maxPeers)},
		{o.duration < time.Second || o.duration > maxDuration, fmt.Sprintf("--duration must be 1s to %v", maxDuration)},
		{o.churn < 0 || o.churn > 100, "--churn must be 0 to 100"},
		{o.introductions < 0 || o.introductions > maxRate, fmt.Sprintf("--introductions must be 0 to %d", maxRate)},
		{o.pairs < 1 || o.pairs > maxPairs, fmt.Sprintf("--pairs must be 1 to %d", maxPairs)},
		{o.flood < 1 || o.flood > maxRate, fmt.Sprintf("--flood must be 1 to %d", maxRate)},
	} {
		if wrong.is {
			fmt.Fprintf(stderr, "soak: %s; -h says more\n", wrong.text)
			return o, errUsage
		}
	}
	return o, nil
}

func main() {
	if name := os.Getenv(attackVariable); name != "" {
		os.Exit(attacker(name))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if ctx.Err() != nil {
		code = exitStopped
	}
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitFlat
	case err != nil:
		return exitUsage
	}
	var result interface {
		table(io.Writer)
		good() bool
	}
	if o.attack {
		result, err = underAttack(ctx, o, stderr)
	} else {
		result, err = soak(ctx, o, stderr)
	}
	if err == nil && o.json != "" {
		err = writeJSON(o.json, result)
	}
	if err != nil {
		fmt.Fprintln(stderr, "soak:", err)
		return exitNotFlat
	}
	result.table(stdout)
	if !result.good() {
		return exitNotFlat
	}
	return exitFlat
}

func writeJSON(name string, result any) error {
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding what was measured: %w", err)
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}
