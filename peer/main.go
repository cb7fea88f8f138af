// Command peer shares files with browsers and other peers, and fetches them: see
// peer --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"

	"p2pcdn/peer/client"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// world is what the command touches of the system.
type world struct {
	args           []string // the command line, without the program
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       bool // stderr is one: a bar may move on it
	environment    func(name string) (value string, set bool)
	wrap           func(client.File) client.File // of unfinished files; nil: as they are; see client.FileOptions
}

// collectAt is the growth of the heap, in percent, at which the collector runs; GOGC in the
// environment has precedence. What a peer holds is some MiB, and what it drops are packets, by
// the GiB: at the usual 100, a tenth of the time of a transfer went to collecting. It costs some 10 MiB.
const collectAt = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)   // a second signal ends the process at once
	signal.Ignore(syscall.SIGPIPE) // so that peers are told goodbye: see outlet
	os.Exit(run(ctx, os.Args[1:], world{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		terminal:    term.IsTerminal(int(os.Stderr.Fd())),
		environment: os.LookupEnv,
	}))
}

// run is the command. It returns the exit code, and has told every error.
func run(ctx context.Context, args []string, w world) int {
	w.args, w.stdout = args, outlet{w.stdout}
	root := rootCommand(w)
	root.SetArgs(args)
	root.SetIn(w.stdin)
	root.SetOut(w.stdout)
	root.SetErr(w.stderr)
	command, err := root.ExecuteContextC(ctx)
	var usage usageError
	var told interruption
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUnread):
		return exitFailed
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		errors.As(err, &told)
		fmt.Fprintf(w.stderr, "peer: %v\n", told)
		return exitInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(w.stderr, "peer: %v\nTry '%s --help'.\n", err, command.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(w.stderr, "peer: %v\n", err)
	return exitFailed
}

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func wrongUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
