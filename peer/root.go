package main

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"p2pcdn/common/content"
	"p2pcdn/common/options"
	"p2pcdn/peer/client"
)

// defaultMediator is where a mediator listens that was started as in the README.
const defaultMediator = "ws://localhost:8080/mediation"

// version is set by the linker, in compile.sh.
var version string

func rootCommand(w world) *cobra.Command {
	mediators := mediatorList{}
	root := &cobra.Command{
		Use:   "peer",
		Short: "Share files with browsers and other peers, and fetch them",
		Long: `peer shares files with browsers and other peers, and fetches them, directly and
without a central server. A mediator introduces the peers to each other; the
content never passes through it, and every piece is checked by its hash.

Every flag can also be set by an environment variable: --mediator by
P2PCDN_MEDIATOR (several URLs with spaces between them), --piece-length by
P2PCDN_PIECE_LENGTH, and so on. A flag beats its variable.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted before it was done
(what only serves is done when it is interrupted).`,
		Example: `  peer seed holiday.mp4                     # prints a link, then serves until Ctrl-C
  peer get 'p2pcdn:6c3e…?xl=1048576&dn=holiday.mp4'
  peer get holiday.json -o /tmp/holiday.mp4 # from an info dictionary
  peer info holiday.mp4 > holiday.json      # only describe, serve nothing
  peer seed --mediator wss://mediator.example/mediation *.jpg`,
		Version:       options.Version(version),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wrongUsage("there is no command %q", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return wrongUsage("a command is needed: info, seed, get or latency")
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetVersionTemplate("peer {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().VarP(&mediators, "mediator", "m",
		"WebSocket `URL` of a mediator; may be given several times, and they are tried in turn (default "+defaultMediator+")")
	root.PersistentPreRunE = func(command *cobra.Command, _ []string) error {
		if err := options.FromEnvironment(command.Flags(), w.environment); err != nil {
			return usageError{err}
		}
		return nil
	}
	root.AddCommand(infoCommand(w, &mediators), seedCommand(w, &mediators), getCommand(w, &mediators), latencyCommand(w, &mediators))
	return root
}

// arguments wants so many arguments; the text says which.
func arguments(least, most int, which string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || (most >= 0 && len(args) > most) {
			return wrongUsage("%s, but there are %d arguments", which, len(args))
		}
		return nil
	}
}

// mediatorList is the value of --mediator; see [pflag.SliceValue].
type mediatorList []string

func (l *mediatorList) String() string     { return strings.Join(*l, " ") }
func (l *mediatorList) Type() string       { return "URL" }
func (l *mediatorList) GetSlice() []string { return *l }

func (l *mediatorList) Set(url string) error { return l.Append(url) }

func (l *mediatorList) Append(url string) error {
	if err := content.CheckMediatorURL(url); err != nil {
		return err
	}
	*l = append(*l, url)
	return nil
}

func (l *mediatorList) Replace(urls []string) error {
	*l = nil
	for _, url := range urls {
		if err := l.Append(url); err != nil {
			return err
		}
	}
	return nil
}

// or returns the list, or else the first of the others that is not empty.
func (l *mediatorList) or(others ...[]string) []string {
	for _, list := range append([][]string{*l}, others...) {
		if len(list) > 0 {
			return list
		}
	}
	return []string{defaultMediator}
}

// byteSize is the value of --piece-length: bytes, also as 64KiB or 1MiB.
type byteSize int64

func (s *byteSize) String() string { return strconv.FormatInt(int64(*s), 10) }
func (s *byteSize) Type() string   { return "bytes" }
func (s *byteSize) Set(text string) error {
	digits, factor := text, int64(1)
	for unit, times := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if before, found := strings.CutSuffix(text, unit); found {
			digits, factor = before, times
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n <= 0 {
		return fmt.Errorf("%q is no number of bytes, such as 65536 or 64KiB", text)
	}
	if n *= factor; bits.OnesCount64(uint64(n)) != 1 || n < content.LeafLength || n > content.MaxPieceLength {
		return fmt.Errorf("a piece length is a power of two from 16KiB to %dMiB", content.MaxPieceLength>>20)
	}
	*s = byteSize(n)
	return nil
}

// inbox keeps the events of a peer until the command's goroutine takes them. It never
// makes the peer wait, which may be waiting for that goroutine; what is in it is
// bounded by what can happen while a command prints a line.
type inbox struct {
	wake chan struct{} // holds a token while there may be events; capacity 1

	mu     sync.Mutex
	events []client.Event // guarded by mu
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// observe is for client.Config.
func (i *inbox) observe(e client.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events = append(i.events, e)
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// take returns the events that came since the last call, in order.
func (i *inbox) take() []client.Event {
	i.mu.Lock()
	defer i.mu.Unlock()
	events := i.events
	i.events = nil
	return events
}
