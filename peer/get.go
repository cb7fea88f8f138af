package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"p2pcdn/common/content"
	"p2pcdn/peer/client"
)

const (
	// defaultTimeout is how long get waits for the next piece: longer than a mediator
	// needs to find seeders, and than two attempts to connect to one.
	defaultTimeout = 2 * time.Minute

	// mediatorRounds is how often every mediator is tried before get says that
	// none can be reached: some seconds in all, for one that is just starting.
	mediatorRounds = 3

	// lookEach is how often the progress is looked at.
	lookEach = 200 * time.Millisecond
)

func getCommand(w world, mediators *mediatorList) *cobra.Command {
	g := getting{w: w}
	command := &cobra.Command{
		Use:   "get LINK|INFO.json…",
		Short: "Fetch files from whoever has them",
		Long: `get fetches contents and checks every piece of them. It takes links (as seed
prints them, or the address of a preview page with the link after #), the names of
files that hold an info dictionary, or - to read one of either from standard input.

A file appears under its name only when it is complete and right; until then it is
kept beside it, hidden. If get fails or is interrupted, what it fetched stays there:
the same get again checks it and goes on with it, or throws it away with --fresh.
A file that is there already is not replaced without --force. Where several are
fetched and some fail, the others are fetched to the end.

With -o - the content goes to standard output as it comes, in order and checked; no
file is left.

While a content is fetched, what is there is served to others; with --seed-after
also afterwards, until interrupted.

Mediators: those of --mediator, or else those that the links name (the one that
serves it, for the address of a preview page), or else
` + defaultMediator + `.`,
		Example: `  peer get 'p2pcdn:6c3e…?xl=1048576&dn=holiday.mp4'
  peer get holiday.json -o /tmp/holiday.mp4 --timeout 30s
  peer get *.json -o /tmp --download-limit 2M
  peer get holiday.json -o - | mpv -
  peer info --link holiday.mp4 | ssh there peer get -`,
		Args: arguments(1, -1, "get takes one LINK or INFO.json, or more"),
		RunE: func(command *cobra.Command, args []string) error {
			g.mediators = *mediators
			return g.run(command.Context(), args)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&g.output, "output", "o", "", "`FILE` or folder to write to, - for standard output (default: the content's own name, here)")
	flags.BoolVarP(&g.force, "force", "f", false, "replace a file that is there already")
	flags.BoolVar(&g.fresh, "fresh", false, "begin anew: throw away what an interrupted get left")
	flags.DurationVarP(&g.timeout, "timeout", "t", defaultTimeout, "give up when no piece arrived for so long; 0 waits for ever")
	flags.BoolVar(&g.seedAfter, "seed-after", false, "go on serving what was fetched until interrupted")
	g.network.add(command)
	return command
}

// getting is one run of the get command, owned by its goroutine.
type getting struct {
	w         world
	mediators mediatorList
	network   networkFlags
	output    string
	force     bool
	fresh     bool
	timeout   time.Duration
	seedAfter bool

	urls      []string // of the mediators that are used
	lineUp    bool     // one was connected
	downloads []*download
	view      *view
	pipe      *pipe // to standard output; nil: files are written
}

// download is one content that is fetched, owned by the command's goroutine.
type download struct {
	info   content.Info
	path   string        // where it goes; [standard] for standard output
	target client.Target // until the share has it
	share  *client.Share // nil if it came to none
	status client.Status // as last looked at
	line   line          // what was last said of it

	moved time.Time // when something was last there that had not been before
	done  int64     // how much that is, in bytes that were fetched or looked at
	over  bool
	err   error // why it failed
}

func (g *getting) run(ctx context.Context, whats []string) error {
	if err := g.want(whats); err != nil {
		return err
	}
	listener, err := g.network.iceTCP.listen(ctx)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close() // where it does not come to a Client
	}
	if err := g.create(); err != nil {
		return err
	}
	events := newInbox()
	peer := client.Start(g.urls, g.network.config(listener, events))
	defer peer.Close()
	g.begin(peer)
	defer g.pipe.close()
	if err := g.follow(ctx, events); err != nil {
		peer.Close() // before it is told: then everything is on the disk
		return err
	}
	if g.seedAfter && g.failed() < len(g.downloads) {
		g.serve(ctx, events)
	}
	return g.outcome()
}

// create begins the files. It fails where none can be begun.
func (g *getting) create() error {
	for _, d := range g.downloads {
		options := client.FileOptions{Overwrite: g.force, Fresh: g.fresh, Wrap: g.w.wrap}
		if d.path == standard {
			d.target, d.err = client.CreateTemporary(d.info, options)
		} else {
			d.target, d.err = client.CreateFile(d.path, d.info, options)
		}
		if d.err != nil {
			g.gaveUp(d)
		}
	}
	if g.failed() == len(g.downloads) {
		return g.outcome()
	}
	return nil
}

// begin fetches everything that has a file.
func (g *getting) begin(peer *client.Client) {
	for _, d := range g.downloads {
		if d.over {
			continue
		}
		if d.share, d.err = peer.Get(d.info, d.target); d.err != nil { // the same content twice, or too many
			_ = d.target.Close()
			g.gaveUp(d)
			continue
		}
		d.moved = time.Now()
		if d.path == standard {
			g.pipe = startPipe(d.share, g.w.stdout)
		}
	}
}

// gaveUp notes that a download failed, and says so where others go on.
func (g *getting) gaveUp(d *download) {
	d.over = true
	switch {
	case len(g.downloads) == 1:
	case strings.Contains(d.err.Error(), d.path):
		g.say("peer: %v\n", d.err)
	default:
		g.say("peer: %s: %v\n", d.path, d.err)
	}
}

// say prints a line without breaking the bar.
func (g *getting) say(format string, values ...any) {
	if g.view == nil {
		fmt.Fprintf(g.w.stderr, format, values...)
		return
	}
	g.view.say(func() { fmt.Fprintf(g.w.stderr, format, values...) })
}

func (g *getting) failed() (n int) {
	for _, d := range g.downloads {
		if d.err != nil {
			n++
		}
	}
	return n
}

// outcome is the error of it all: of one content its own, of several how many, since each
// was told already.
func (g *getting) outcome() error {
	switch n := g.failed(); {
	case n == 0:
		return nil
	case len(g.downloads) == 1:
		return g.downloads[0].err
	default:
		return fmt.Errorf("%d of %s could not be fetched", n, count(len(g.downloads), "content"))
	}
}

// serve serves what was fetched until it is interrupted.
func (g *getting) serve(ctx context.Context, events *inbox) {
	fmt.Fprintln(g.w.stderr, "serving until interrupted")
	for {
		select {
		case <-ctx.Done():
			return
		case <-events.wake:
			for _, e := range events.take() {
				tellLine(g.w, e)
			}
		}
	}
}

// interruption is what ends a command that was not done.
type interruption struct {
	kept bool   // there is something to go on with
	said string // of another command: what to say instead
}

func (i interruption) Error() string {
	if i.said != "" {
		return i.said
	}
	if i.kept {
		return "interrupted; what is there is kept: run it again to go on"
	}
	return "interrupted"
}

func (interruption) Unwrap() error { return context.Canceled }

// place says where a download goes.
func (d *download) place() string {
	if d.path == standard {
		return "standard output"
	}
	return d.path
}

// kept reports whether there is something of it to go on with.
func (d *download) kept() bool { return d.path != standard && d.status.Swarm.Have > 0 }

// withKept adds to why a download failed how it can go on.
func (d *download) withKept(err error) error {
	if !d.kept() {
		return err
	}
	return fmt.Errorf("%w; %d of %s are kept: run it again to go on", err, d.status.Swarm.Have, count(d.status.Swarm.Pieces, "piece"))
}
