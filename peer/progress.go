package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"

	"p2pcdn/common/content"
	"p2pcdn/peer/client"
)

// barEach is how often a bar moves.
const barEach = 100 * time.Millisecond

func newBar(w world, total int64, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(barEach),
		progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionSetRenderBlankState(true))
}

// hashing shows how far the hashing of a file is: a bar on a terminal, and
// elsewhere a line where it takes long.
type hashing struct {
	w    world
	path string
	bar  *progressbar.ProgressBar // nil elsewhere, and before the first progress
	told time.Time
}

func newHashing(w world, path string) *hashing { return &hashing{w: w, path: path, told: time.Now()} }

func (h *hashing) progress(done, total int64) {
	switch {
	case h.w.terminal:
		if h.bar == nil {
			h.bar = newBar(h.w, total, "hashing "+filepath.Base(h.path))
		}
		_ = h.bar.Set64(done) // a bar that cannot be drawn is no failure
	case time.Since(h.told) >= tellEach:
		h.told = time.Now()
		fmt.Fprintf(h.w.stderr, "hashing %s: %s of %s\n", h.path, size(done), size(total))
	}
}

func (h *hashing) end() {
	if h.bar != nil {
		_ = h.bar.Clear()
	}
}

// view shows how a download goes: a bar on a terminal, and elsewhere a line for
// every state and every tenth of the content.
type view struct {
	w      world
	total  int64
	bar    *progressbar.ProgressBar // nil elsewhere
	state  client.State             // last told
	tenths int                      // last told
	began  time.Time
}

func newView(w world, info content.Info) *view {
	v := &view{w: w, total: info.TotalLength, began: time.Now()}
	if w.terminal {
		v.bar = newBar(w, max(1, v.total), "searching")
	}
	return v
}

func (v *view) show(s client.Status) {
	if v.bar != nil {
		v.bar.Describe(v.describe(s))
		_ = v.bar.Set64(min(s.Swarm.HaveBytes, max(1, v.total)-1)) // the end clears it, not the last piece
		return
	}
	tenths := 10
	if v.total > 0 {
		tenths = int(s.Swarm.HaveBytes * 10 / v.total)
	}
	over := s.State == client.Complete || s.State == client.Failed || s.State == client.Stopped
	if over || (s.State == v.state && tenths <= v.tenths) {
		return
	}
	v.state, v.tenths = s.State, max(tenths, v.tenths)
	fmt.Fprintln(v.w.stderr, v.describe(s))
}

func (v *view) describe(s client.Status) string {
	switch s.State {
	case client.Connecting:
		return "connecting to " + count(s.Connecting, "peer")
	case client.Downloading:
		text := "downloading from " + count(len(s.Swarm.Peers), "peer")
		if v.bar == nil {
			text += fmt.Sprintf(": %s of %s", size(s.Swarm.HaveBytes), size(v.total))
		}
		return text
	}
	return string(s.State)
}

// say prints lines without breaking the bar.
func (v *view) say(print func()) {
	if v.bar != nil {
		_ = v.bar.Clear()
	}
	print()
	if v.bar != nil {
		_ = v.bar.RenderBlank()
	}
}

func (v *view) end() {
	if v.bar != nil {
		_ = v.bar.Clear()
	}
}

// count says how many there are of something.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// size says a number of bytes in decimal units, as disks and networks count.
func size(n int64) string {
	units := []string{"bytes", "kB", "MB", "GB", "TB"}
	value, unit := float64(n), 0
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d %s", n, units[0])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
