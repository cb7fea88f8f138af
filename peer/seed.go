package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"p2pcdn/peer/client"
)

// tellEach is how often a seeder says what it did, where it did something: often
// enough to see life, seldom enough for a log.
const tellEach = 10 * time.Second

func seedCommand(w world, mediators *mediatorList) *cobra.Command {
	var pieceLength byteSize
	var network networkFlags
	command := &cobra.Command{
		Use:   "seed FILE…",
		Short: "Serve files to others until interrupted",
		Long: `seed hashes files, prints a link for each on standard output, and serves them
until it is interrupted. On standard error it says "announced" for each file
as soon as it can be found from anywhere.

The links name the mediators that are given with --mediator. A file that changes
while it is served is withdrawn when that is noticed, at the latest when somebody
asks for a piece of it; the others are served on.`,
		Example: `  peer seed holiday.mp4
  peer seed --mediator wss://mediator.example/mediation *.jpg`,
		Args: arguments(1, -1, "seed takes one FILE or more"),
		RunE: func(command *cobra.Command, args []string) error {
			s := seeding{w: w, mediators: *mediators, pieceLength: int64(pieceLength), network: network}
			return s.run(command.Context(), args)
		},
	}
	pieceLengthFlag(command, &pieceLength)
	network.add(command)
	return command
}

// seeding is one run of the seed command, owned by its goroutine.
type seeding struct {
	w           world
	mediators   mediatorList
	pieceLength int64
	network     networkFlags
	shares      []*client.Share
	names       map[*client.Share]string
	failed      int    // shares
	told        string // what was last said about serving
}

func (s *seeding) run(ctx context.Context, paths []string) error {
	listener, err := s.network.iceTCP.listen(ctx)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close() // where it does not come to a Client
	}
	sources, err := s.open(ctx, paths)
	if err != nil {
		return err
	}
	events := newInbox()
	peer := client.Start(s.mediators.or(), s.network.config(listener, events))
	defer peer.Close()

	s.names = make(map[*client.Share]string)
	for i, source := range sources {
		share, err := peer.Seed(source)
		if err != nil { // the same content twice, or too many
			fmt.Fprintf(s.w.stderr, "%s: %v\n", paths[i], err)
			_ = source.Close()
			continue
		}
		s.shares, s.names[share] = append(s.shares, share), paths[i]
	}
	ticker := time.NewTicker(tellEach)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.tell()
			return nil // an interruption is how seeding ends
		case <-events.wake:
			for _, e := range events.take() {
				if err := s.heard(e); err != nil {
					return err
				}
			}
		case <-ticker.C:
			s.tell()
		}
	}
}

// open hashes all files and prints their links. One that fails fails all, before
// anything is announced.
func (s *seeding) open(ctx context.Context, paths []string) (sources []client.Source, err error) {
	defer func() {
		if err != nil {
			for _, source := range sources {
				_ = source.Close()
			}
		}
	}()
	for _, path := range paths {
		bar := newHashing(s.w, path)
		source, err := client.OpenFile(ctx, path, s.pieceLength, bar.progress)
		bar.end()
		if err != nil {
			return sources, err
		}
		sources = append(sources, source)
		if _, err := fmt.Fprintln(s.w.stdout, source.Info().Link(s.mediators...)); err != nil {
			return sources, fmt.Errorf("printing a link: %w", err)
		}
	}
	return sources, nil
}

func (s *seeding) heard(e client.Event) error {
	switch e := e.(type) {
	case client.LineUp, client.LineDown, client.Refused:
		tellLine(s.w, e)
	case client.Announced:
		fmt.Fprintf(s.w.stderr, "announced %s\n", s.names[e.Share])
	case client.StateChanged:
		if e.State != client.Failed {
			return nil
		}
		s.failed++
		if s.failed == len(s.shares) {
			return fmt.Errorf("nothing is served any more: %w", e.Err)
		}
		fmt.Fprintf(s.w.stderr, "%s is no longer served: %v\n", s.names[e.Share], e.Err)
	}
	return nil
}

// tell says whom the files were served to, if that changed.
func (s *seeding) tell() {
	var sent int64
	served, now := 0, 0
	for _, share := range s.shares {
		status := share.Status()
		sent, served, now = sent+status.Uploaded, served+status.Served, now+len(status.Swarm.Peers)
	}
	if text := fmt.Sprintf("serving %s now, %s so far, %s sent", count(now, "peer"), count(served, "peer"), size(sent)); text != s.told && served > 0 {
		s.told = text
		fmt.Fprintln(s.w.stderr, text)
	}
}

// tellLine says how the line to the mediator is.
func tellLine(w world, e client.Event) {
	switch e := e.(type) {
	case client.LineUp:
		fmt.Fprintf(w.stderr, "connected to the mediator %s\n", e.URL)
	case client.LineDown:
		if e.Learnt && e.Failures > 1 {
			return // one of many that others named: what counts is that some mediator is found
		}
		what := "trying again"
		if e.Next != e.URL {
			what = "trying another one"
		}
		fmt.Fprintf(w.stderr, "mediator %s: %v; %s in %v\n", e.URL, e.Err, what, e.Retry.Round(100*time.Millisecond))
	case client.Refused:
		fmt.Fprintf(w.stderr, "the mediator says: %v\n", e.Err)
	}
}
