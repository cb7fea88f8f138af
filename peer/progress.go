package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"

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

// view shows how downloads go: a bar for all on a terminal, and elsewhere lines.
type view struct {
	w     world
	total int64                    // of all, in bytes
	bar   *progressbar.ProgressBar // nil elsewhere
	many  bool                     // each line has to say what it is about
}

// line is what was last said of a download.
type line struct {
	state   client.State
	tenths  int
	resumed bool      // what it goes on with
	checked time.Time // how far the check of what is there is
}

func newView(w world, downloads []*download) *view {
	v := &view{w: w, many: len(downloads) > 1}
	for _, d := range downloads {
		v.total += d.info.TotalLength
	}
	if w.terminal {
		v.bar = newBar(w, max(1, v.total), "searching")
	}
	return v
}

// draw moves the bar.
func (v *view) draw(downloads []*download) {
	if v.bar == nil {
		return
	}
	done, complete := int64(0), 0
	for _, d := range downloads {
		done += d.status.Swarm.HaveBytes + d.status.Checked
		if d.over && d.err == nil {
			complete++
		}
	}
	if v.many {
		v.bar.Describe(fmt.Sprintf("%d of %d complete", complete, len(downloads)))
	} else {
		v.bar.Describe(v.describe(downloads[0].status))
	}
	_ = v.bar.Set64(min(done, max(1, v.total)-1)) // the end clears it, not the last piece
}

// show says what is new of a download: what it goes on with, and without a bar also every state
// and every tenth of the content.
func (v *view) show(d *download) {
	s := d.status
	if s.Resumed > 0 && !d.line.resumed {
		d.line.resumed = true
		v.tell(d, fmt.Sprintf("going on with %d of %s", s.Resumed, count(s.Swarm.Pieces, "piece")))
	}
	over := s.State == client.Complete || s.State == client.Failed || s.State == client.Stopped
	if v.bar != nil || over {
		return
	}
	if s.Checked > 0 {
		v.showCheck(d)
		return
	}
	tenths := 10
	if total := s.Info.TotalLength; total > 0 {
		tenths = int(s.Swarm.HaveBytes * 10 / total)
	}
	if s.State != d.line.state || tenths > d.line.tenths {
		d.line.state, d.line.tenths = s.State, max(tenths, d.line.tenths)
		v.tell(d, v.describe(s))
	}
}

// showCheck says how far the check is, where it takes long.
func (v *view) showCheck(d *download) {
	now := time.Now()
	switch {
	case d.line.checked.IsZero():
		d.line.checked = now
	case now.Sub(d.line.checked) >= tellEach:
		d.line.checked = now
		v.tell(d, v.describe(d.status))
	}
}

func (v *view) tell(d *download, text string) {
	if v.many {
		text = d.path + ": " + text
	}
	v.say(func() { fmt.Fprintln(v.w.stderr, text) })
}

func (v *view) describe(s client.Status) string {
	progress := func(done int64) string {
		if v.bar != nil {
			return "" // it says that
		}
		return fmt.Sprintf(": %s of %s", size(done), size(s.Info.TotalLength))
	}
	switch {
	case s.Checked > 0:
		return "checking what is there" + progress(s.Checked)
	case s.State == client.Connecting:
		return "connecting to " + count(s.Connecting, "peer")
	case s.State == client.Downloading:
		return "downloading from " + count(len(s.Swarm.Peers), "peer") + progress(s.Swarm.HaveBytes)
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
