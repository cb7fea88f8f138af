package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"p2pcdn/common/content"
	"p2pcdn/common/mediation"
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
		Use:   "get LINK|INFO.json",
		Short: "Fetch a file from whoever has it",
		Long: `get fetches a content and checks every piece of it. It takes a link (as seed
prints it, or the address of a preview page with the link after #), the name of
a file that holds an info dictionary, or - to read either from standard input.

The file appears under its name only when it is complete and right; until then it is
kept beside it, hidden, and removed if get fails or is interrupted. A file that
is there already is not replaced without --force. While it is fetched, what is
there is served to others; with --seed-after also afterwards, until interrupted.

Mediators: those of --mediator, or else those that the link names (the one that
serves it, for the address of a preview page), or else
` + defaultMediator + `.`,
		Example: `  peer get 'p2pcdn:6c3e…?xl=1048576&dn=holiday.mp4'
  peer get holiday.json -o /tmp/holiday.mp4 --timeout 30s
  peer info --link holiday.mp4 | ssh there peer get -`,
		Args: arguments(1, 1, "get takes one LINK or INFO.json"),
		RunE: func(command *cobra.Command, args []string) error {
			g.mediators = *mediators
			return g.run(command.Context(), args[0])
		},
	}
	flags := command.Flags()
	flags.StringVarP(&g.output, "output", "o", "", "`FILE` or folder to write to (default: the content's own name, here)")
	flags.BoolVarP(&g.force, "force", "f", false, "replace a file that is there already")
	flags.DurationVarP(&g.timeout, "timeout", "t", defaultTimeout, "give up when no piece arrived for so long; 0 waits for ever")
	flags.BoolVar(&g.seedAfter, "seed-after", false, "go on serving the content until interrupted")
	iceTCPFlag(command, &g.iceTCP)
	return command
}

// getting is one run of the get command, owned by its goroutine.
type getting struct {
	w         world
	mediators mediatorList
	output    string
	force     bool
	timeout   time.Duration
	seedAfter bool
	iceTCP    tcpPort

	urls   []string // of the mediators that are used
	lineUp bool     // one was connected
}

func (g *getting) run(ctx context.Context, what string) error {
	if g.timeout < 0 {
		return wrongUsage("--timeout must not be negative")
	}
	info, fromLink, err := g.describe(what)
	if err != nil {
		return err
	}
	g.urls = g.mediators.or(fromLink)
	listener, err := g.iceTCP.listen(ctx)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close() // where it does not come to a Client
	}
	target, err := client.CreateFile(g.path(info), info, client.FileOptions{Overwrite: g.force, Wrap: g.w.wrap})
	if err != nil {
		return err
	}
	events := newInbox()
	peer := client.Start(g.urls, client.Config{Observe: events.observe, ICETCP: listener})
	defer peer.Close()
	share, err := peer.Get(info, target)
	if err != nil {
		_ = target.Close()
		return err
	}
	if err := g.follow(ctx, share, events); err != nil {
		peer.Close() // before the error is told: the temporary file is gone then
		return err
	}
	fmt.Fprintf(g.w.stderr, "complete: %s, %s\n", g.path(info), size(info.TotalLength))
	if g.seedAfter {
		fmt.Fprintln(g.w.stderr, "serving it until interrupted")
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-events.wake:
				for _, e := range events.take() {
					tellLine(g.w, e)
				}
			}
		}
	}
	return nil
}

// describe reads what is to be fetched, and the mediators that a link names.
func (g *getting) describe(what string) (content.Info, []string, error) {
	text, isFile := []byte(what), false
	switch {
	case what == "-":
		var err error
		if text, err = io.ReadAll(io.LimitReader(g.w.stdin, content.MaxDictionarySize+1)); err != nil {
			return content.Info{}, nil, fmt.Errorf("reading standard input: %w", err)
		}
	case !looksLikeLink(what):
		var err error
		if text, err = readFile(what); err != nil {
			return content.Info{}, nil, err
		}
		isFile = true
	}
	if trimmed := bytes.TrimSpace(text); bytes.HasPrefix(trimmed, []byte("{")) {
		info, err := content.ParseInfo(text)
		if err != nil {
			return content.Info{}, nil, fmt.Errorf("%s: %w", what, err)
		}
		return info, nil, nil
	}
	link, err := content.ParseLink(string(text))
	switch {
	case err == nil && len(link.Mediators) == 0:
		return link.Info(), pageMediator(string(text)), nil
	case err == nil:
		return link.Info(), link.Mediators, nil
	case isFile:
		return content.Info{}, nil, fmt.Errorf("%s holds neither an info dictionary nor a link: %w", what, err)
	}
	return content.Info{}, nil, usageError{err}
}

// pageMediator returns the mediator that serves the preview page that a link opens,
// as a browser that opens it would use; none for other links.
func pageMediator(link string) []string {
	page, err := url.Parse(strings.TrimSpace(link))
	if err != nil || page.Host == "" || !strings.Contains(page.Path, "/preview/") {
		return nil
	}
	schemes := map[string]string{"http": "ws", "https": "wss"}
	mediator := schemes[page.Scheme] + "://" + page.Host + mediation.Path
	if content.CheckMediatorURL(mediator) != nil {
		return nil
	}
	return []string{mediator}
}

// looksLikeLink tells a link from the name of a file.
func looksLikeLink(text string) bool {
	if strings.HasPrefix(text, content.Scheme+":") || strings.Contains(text, "://") {
		return true
	}
	hash, _, _ := strings.Cut(text, "?")
	_, err := content.ParseFullHash(hash)
	return err == nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s is no link, and there is no such file", path)
		}
		return nil, fmt.Errorf("reading the info dictionary: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, content.MaxDictionarySize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the info dictionary: %w", err)
	}
	return text, nil
}

// path is where the file goes.
func (g *getting) path(info content.Info) string {
	name := info.FileName
	if name == "" {
		name = info.FullHash.String()
	}
	if g.output == "" {
		return name
	}
	if found, err := os.Stat(g.output); err == nil && found.IsDir() {
		return filepath.Join(g.output, name)
	}
	return g.output
}

// follow shows how the download goes until it ends.
func (g *getting) follow(ctx context.Context, share *client.Share, events *inbox) error {
	view := newView(g.w, share.Status().Info)
	defer view.end()
	ticker := time.NewTicker(lookEach)
	defer ticker.Stop()
	have, moved := int64(-1), time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-events.wake:
			for _, e := range events.take() {
				if err := g.heard(e, view); err != nil {
					return err
				}
			}
			status := share.Status()
			view.show(status)
			if status.State == client.Complete || status.State == client.Failed {
				return share.Wait(ctx)
			}
		case now := <-ticker.C:
			status := share.Status()
			view.show(status)
			if got := status.Swarm.HaveBytes; got != have {
				have, moved = got, now
			}
			if g.timeout > 0 && now.Sub(moved) >= g.timeout {
				return fmt.Errorf("no piece arrived for %v: %s", g.timeout, hindrance(status, g.lineUp))
			}
		}
	}
}

func (g *getting) heard(e client.Event, view *view) error {
	switch e := e.(type) {
	case client.LineUp:
		g.lineUp = true
		view.say(func() { tellLine(g.w, e) })
	case client.LineDown:
		view.say(func() { tellLine(g.w, e) })
		if !g.lineUp && e.Failures >= mediatorRounds*len(g.urls) {
			return fmt.Errorf("no mediator can be reached: %s: %w", e.URL, e.Err)
		}
	case client.Refused:
		view.say(func() { tellLine(g.w, e) })
	case client.PeerDropped:
		if e.Banned {
			view.say(func() { fmt.Fprintf(g.w.stderr, "peer %s sent wrong data and is not asked again\n", e.Peer.Short()) })
		}
	}
	return nil
}

// hindrance says what a download lacks.
func hindrance(status client.Status, lineUp bool) string {
	switch {
	case !lineUp:
		return "there is no line to a mediator"
	case status.State == client.Searching:
		return "nobody was found who has this content, of this length"
	case status.State == client.Connecting:
		return "no connection to a peer came about"
	}
	return "the peers that are connected send nothing"
}
