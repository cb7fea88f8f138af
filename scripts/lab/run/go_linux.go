package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"p2pcdn/common/timeline"
)

// readTick is how often the table of a peer that runs is looked at: it grows by a row for each introduction.
const readTick = 250 * time.Millisecond

// goPeers has headless peers introduced: all seeders in one process, and all leechers in another.
func (r *doing) goPeers(ctx context.Context, from, n int) error {
	args := append(r.latencyArgs(r.Mediators[0], from), "--serve", "-n", fmt.Sprint(n),
		"--size", fmt.Sprint(r.Size), "--contents", fmt.Sprint(r.Contents))
	if r.Piece > 0 {
		args = append(args, "--piece-length", fmt.Sprint(r.Piece))
	}
	seeders, err := r.start(r.Seeder, "seeders", command{program: filepath.Join(r.Bin, "peer"), args: args, talks: true})
	if err != nil {
		return err
	}
	links, trouble := r.links(ctx, seeders, n)
	if len(links) == 0 {
		return trouble
	}
	file := filepath.Join(r.Temp, "links")
	if err := os.WriteFile(file, []byte(strings.Join(links, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	table := filepath.Join(r.Temp, "rows.csv")
	leechers, err := r.start(r.Leecher, "leechers", command{
		program: filepath.Join(r.Bin, "peer"),
		args:    append(r.latencyArgs(r.Mediators[len(r.Mediators)-1], from), "--links", file, "--csv", table),
	})
	if err != nil {
		return err
	}
	r.startsNow()
	// Each of them is bounded by itself; this is for a process that does not keep to that.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(links)*r.Contents)*r.Timeout+startTime)
	defer cancel()
	ticker := time.NewTicker(readTick)
	defer ticker.Stop()
	for read, over := 0, false; ; {
		if read, err = r.readTable(table, from, read); over {
			return errors.Join(trouble, err, r.unsuccessful(leechers))
		}
		select {
		case <-ticker.C:
		case <-leechers.ended:
			over = true // after what it wrote last
		case <-ctx.Done():
			leechers.end()
			over = true
		}
	}
}

// latencyArgs are what both processes are told, of whom each is at one mediator.
func (r *doing) latencyArgs(mediator string, from int) []string {
	// Introductions of a run that are done one by one have other contents each.
	seed := (r.Plan.Seed + uint64(from-1)) % (timeline.MaxNumber + 1)
	args := []string{
		"latency", "--mediator", r.mediatorURL(mediator), "--flow", string(r.Flow),
		"--seed", fmt.Sprint(seed), "--timeout", r.Timeout.String(), "--scenario", r.Name,
	}
	if len(r.Without) > 0 {
		args = append(args, "--without", strings.Join(r.Without, ","))
	}
	return args
}

// links reads the lines of n seeders. An error says why some are missing.
func (r *doing) links(ctx context.Context, seeders *process, n int) (links []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTime+time.Duration(n)*r.Timeout/8) // eight at a time
	defer cancel()
	for len(links) < n {
		line, err := seeders.line(ctx)
		if err != nil {
			return links, withCode(codeNotAnnounced, fmt.Errorf("%d of %d seeders announced their contents: %w", len(links), n, err))
		}
		links = append(links, line)
	}
	return links, nil
}

// readTable hands out the rows of a table that are behind those that were read. The last one may not be whole yet.
func (r *doing) readTable(name string, from, read int) (int, error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return read, nil
	}
	if err != nil {
		return read, err
	}
	defer file.Close()
	rows, err := timeline.ReadAll(file)
	for _, row := range rows[min(read, len(rows)):] {
		read++
		row.Index += from - 1
		r.row(row)
	}
	if err != nil {
		return read, fmt.Errorf("what the leechers measured: %w", err)
	}
	return read, nil
}

// unsuccessful is why a process has ended, where that was no success.
func (r *doing) unsuccessful(p *process) error {
	if p.cmd.ProcessState.Success() {
		return nil
	}
	return p.died()
}
