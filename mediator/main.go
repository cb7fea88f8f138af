// Command mediator introduces peers to each other so that they can exchange
// content directly. Volunteers run it; it needs no other service.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"
)

// version is set by the linker, in compile.sh.
var version string

// heapGrowth is by how much the heap may grow before garbage is collected, in percent. Most of a mediator's memory
// are peers that do nothing: Go's 100 would take a kilobyte more for each of them, and save about a twentieth
// of the processor's time. The environment's GOGC goes before.
const heapGrowth = 75

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	os.Exit(run(mainContext(), os.Args[1:], os.Stdout, os.Stderr))
}

// mainContext ends with Ctrl-C or SIGTERM. A second one ends the process at once.
func mainContext() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it could not start, or serving failed
	exitUsage  = 2 // the arguments are wrong
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := newCommand(stdout, stderr)
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case isUsage(err):
		fmt.Fprintf(stderr, "mediator: %v\nTry 'mediator --help'.\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "mediator: %v\n", err)
		return exitFailed
	}
}

// newLogger logs as text for people, and as JSON for programs: auto tells them apart.
func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if file, is := w.(*os.File); format == "json" || format == "auto" && !(is && term.IsTerminal(int(file.Fd()))) {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
