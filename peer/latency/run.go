package latency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/client"
)

// Config says what is measured.
type Config struct {
	Mediators    []string       // WebSocket URLs: seeders are on the first, leechers on the last. None: those of Lines
	Lines        []Line         // whom leechers are introduced to; nil: to seeders of our own
	N            int            // introductions to seeders of our own, or how many seeders [Serve] starts
	Parallel     int            // introductions at a time; 0: one
	Contents     int            // of each pair, over the same connection; 0: one
	Size         int64          // bytes of a content of ours, MinSize to MaxSize
	PieceLength  int64          // bytes of its pieces; 0: [content.DefaultPieceLength]
	Dictionaries bool           // leechers are told piece hashes, where we know them
	Flow         timeline.Flow  // [timeline.Fast] or [timeline.Prototype]
	Without      []client.Cut   // what saves round trips and is left out by peers of the fast flow, to see what it saves
	Seed         uint64         // of the contents; at most [timeline.MaxNumber]
	Scenario     string         // for the table
	Timeout      time.Duration  // for announcing, and for each content
	Poll         time.Duration  // of the prototype's flow; 0: a second
	Observe      func(Progress) // called one at a time, for every introduction that begins and ends; nil: nobody cares

	// Row is handed each row as soon as it is known, one at a time. Its error ends the run.
	Row func(row *timeline.Row) error
}

// Line is what one leecher fetches, from seeders that run elsewhere.
type Line struct {
	Contents  []content.Info
	Mediators []string // of the seeders, as far as it is known
}

// Progress says how far a run is.
type Progress struct {
	Introductions int             // in all
	Complete      int             // that ended, and with every content
	Failed        int             // that ended without
	Began         int             // the introduction that begins; 0: one ended
	Ended         []*timeline.Row // its leecher's rows, content by content; nil: one begins
}

// Tally is what became of a run.
type Tally struct {
	Introductions int // that there were to be
	Complete      int // with every content
	Failed        int
}

// Left is how many introductions were never begun.
func (t Tally) Left() int { return t.Introductions - t.Complete - t.Failed }

func (c Config) withDefaults() Config {
	c.Parallel, c.Contents = max(1, c.Parallel), max(1, c.Contents)
	if c.PieceLength == 0 {
		c.PieceLength = content.DefaultPieceLength(c.Size)
	}
	if c.Poll == 0 {
		c.Poll = time.Second
	}
	if c.Observe == nil {
		c.Observe = func(Progress) {}
	}
	return c
}

// run is a run at work.
type run struct {
	config Config             // static after construction, as is the next one
	cancel context.CancelFunc // ends it

	mu    sync.Mutex // held while a row is told
	tally Tally      // guarded by mu
	err   error      // guarded by mu: why a row could not be told
}

// Run brings the peers together. It ends when all is done, when ctx is, or when a row cannot be told: that alone is an
// error. What was begun is told in any case.
func Run(ctx context.Context, config Config) (Tally, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{config: config.withDefaults(), cancel: cancel}
	r.tally.Introductions = r.config.N
	if r.config.Lines != nil {
		r.tally.Introductions = len(r.config.Lines)
	}
	indices := make(chan int)
	var workers sync.WaitGroup
	for range min(r.config.Parallel, r.tally.Introductions) {
		workers.Go(func() {
			for index := range indices {
				r.introduce(ctx, index)
			}
		})
	}
	for index := 1; index <= r.tally.Introductions && ctx.Err() == nil; index++ {
		select {
		case indices <- index:
		case <-ctx.Done():
		}
	}
	close(indices)
	workers.Wait()
	return r.tally, r.err
}

// introduce brings one pair together, and tells what became of it.
func (r *run) introduce(ctx context.Context, index int) {
	r.began(index)
	template := timeline.Row{
		Scenario: r.config.Scenario, Seed: r.config.Seed, Index: index, Flow: r.config.Flow, Endpoint: timeline.Go,
		Mediators: 1,
	}
	if r.config.Lines != nil {
		line := r.config.Lines[index-1]
		mediators := slices.Concat(line.Mediators, r.config.Mediators)
		if len(mediators) == 0 {
			r.ended(r.none(template, line.Contents, failed(CodeMediatorUnreachable, "neither the link nor anybody else names a mediator")))
			return
		}
		mediator := mediators[len(mediators)-1]
		template.Mediators = distinct(append(slices.Clone(line.Mediators), mediator))
		r.ended(r.leech(ctx, template, mediator, line.Contents, nil))
		return
	}
	mediator := r.config.Mediators[len(r.config.Mediators)-1]
	template.Mediators = distinct([]string{r.config.Mediators[0], mediator})
	seeder, err := startSeeder(ctx, &r.config, r.config.Mediators[0], index)
	if err != nil {
		failure := &Failure{CodeLocal, err}
		if errors.Is(err, context.Canceled) {
			failure = failed(CodeInterrupted, "interrupted")
		}
		infos := slices.Repeat([]content.Info{{TotalLength: r.config.Size}}, r.config.Contents) // what they would have been
		r.ended(r.none(template, infos, failure))
		return
	}
	defer seeder.close()
	failure := seeder.announced(ctx, r.config.Timeout)
	var rows []*timeline.Row
	if infos := r.told(seeder.infos); failure != nil {
		rows = r.none(template, infos, failure)
	} else {
		rows = r.leech(ctx, template, mediator, infos, seeder)
	}
	for i := range seeder.infos {
		rows = append(rows, seeder.row(template, i+1, failure))
	}
	r.ended(rows)
}

// told returns what leechers are told of the contents.
func (r *run) told(infos []content.Info) []content.Info {
	return describe(infos, r.config.Dictionaries)
}

// describe leaves out what a link does not say.
func describe(infos []content.Info, dictionaries bool) []content.Info {
	infos = slices.Clone(infos)
	for i := range infos {
		if !dictionaries {
			infos[i].PieceHashes = nil
		}
	}
	return infos
}

// distinct counts different URLs.
func distinct(urls []string) int {
	slices.Sort(urls)
	return len(slices.Compact(urls))
}

// none returns the rows of a leecher that was not started.
func (r *run) none(template timeline.Row, infos []content.Info, failure *Failure) (rows []*timeline.Row) {
	for i, info := range infos {
		row := template
		row.Role, row.Content, row.ContentBytes, row.Outcome, row.ErrorCode = timeline.Leecher, i+1, info.TotalLength, timeline.Skipped, CodeEarlierFailed
		if i == 0 {
			tell(&row, failure)
		}
		rows = append(rows, &row)
	}
	return rows
}

// leech fetches the contents, one after the other, with one fresh peer on the mediator. seeder is nil where it runs elsewhere.
func (r *run) leech(ctx context.Context, template timeline.Row, mediator string, infos []content.Info, seeder *seeder) (rows []*timeline.Row) {
	chance := rand.New(random(r.config.Seed, "leecher", template.Index))
	var peer leecher
	if r.config.Flow == timeline.Prototype {
		peer = newPrototype(mediator, r.config.Poll)
	} else {
		peer = newFast([]string{mediator}, chance, r.config.Without)
	}
	defer peer.close()
	for i, info := range infos {
		row := template
		row.Role, row.Content, row.ContentBytes = timeline.Leecher, i+1, info.TotalLength
		var failure *Failure
		row.Stamps, failure = r.fetch(ctx, peer, info, seeder)
		row.Peer = peer.peerID()
		tell(&row, failure)
		rows = append(rows, &row)
		if failure == nil {
			continue
		}
		rows = append(rows, r.none(template, infos, failure)[i+1:]...) // each of these is skipped
		break
	}
	return rows
}

// fetch fetches one content in the time that there is.
func (r *run) fetch(ctx context.Context, peer leecher, info content.Info, seeder *seeder) (timeline.Stamps, *Failure) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, end := context.WithTimeout(ctx, r.config.Timeout)
	defer end()
	if seeder != nil {
		var watcher sync.WaitGroup
		peer.begin()
		watcher.Go(func() { seeder.lost(ctx, func() bool { return !peer.connected() }, cancel) })
		defer watcher.Wait()
		defer end()
	}
	return peer.fetch(ctx, info)
}

func (r *run) began(index int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config.Observe(r.progress(index, nil))
}

// ended tells the rows of an introduction.
func (r *run) ended(rows []*timeline.Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	complete := len(rows) > 0
	var ended []*timeline.Row
	for _, row := range rows {
		if r.err == nil {
			if r.err = r.config.Row(row); r.err != nil {
				r.cancel()
			}
		}
		if row.Role == timeline.Leecher {
			complete = complete && row.Outcome == timeline.Done
			ended = append(ended, row)
		}
	}
	if complete {
		r.tally.Complete++
	} else {
		r.tally.Failed++
	}
	r.config.Observe(r.progress(0, ended))
}

func (r *run) progress(began int, ended []*timeline.Row) Progress {
	return Progress{r.tally.Introductions, r.tally.Complete, r.tally.Failed, began, ended}
}

// Check says what is wrong with the limits of the config, if anything.
func (c Config) Check() error {
	c = c.withDefaults()
	held := c.Size * int64(c.Contents)
	switch {
	case c.Size < MinSize:
		return fmt.Errorf("a content has at least %d bytes: shorter ones of different numbers may be the same", MinSize)
	case c.Size > MaxSize:
		return fmt.Errorf("a content has at most %d MiB: how fast transfers are, scripts/bench measures", MaxSize>>20)
	case held*int64(c.Parallel) > MaxHeld:
		return fmt.Errorf("%d contents of %d bytes at a time are more than the %d MiB that are kept in memory", c.Contents*c.Parallel, c.Size, MaxHeld>>20)
	}
	geometry := content.Geometry{TotalLength: c.Size, PieceLength: c.PieceLength}
	return geometry.Check()
}
