package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"p2pcdn/scripts/lab/plan"
)

// lineEvery is how often it is said how a run goes where it is no terminal.
const lineEvery = 30 * time.Second

// teller says how it goes: in one line on a terminal, in a few elsewhere.
type teller struct {
	to       io.Writer
	terminal bool
	began    time.Time // the run
	said     time.Time
	last     string // how far the run is
	told     string
}

func newTeller(to io.Writer) *teller {
	file, is := to.(*os.File)
	return &teller{to: to, terminal: is && term.IsTerminal(int(file.Fd()))}
}

// say says it now.
func (t *teller) say(text string) {
	t.said, t.told = time.Now(), text
	if t.terminal {
		fmt.Fprintf(t.to, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(t.to, text)
	}
}

func (t *teller) begin(run *plan.Run) {
	t.began = time.Now()
	t.last = fmt.Sprintf("%s: 0 of %d", run.Name, run.N*max(1, run.Contents))
	if run.What == plan.Ping {
		t.last = run.Name + ": measuring round trips"
	}
	t.say(t.last)
}

// run says how far a run is.
func (t *teller) run(run *plan.Run, done, failed int) {
	t.last = fmt.Sprintf("%s: %d of %d", run.Name, done+failed, run.N*max(1, run.Contents))
	if failed > 0 {
		t.last += fmt.Sprintf(", %d failed", failed)
	}
	t.last += fmt.Sprintf(", %v", time.Since(t.began).Round(time.Second))
	if t.terminal || time.Since(t.said) > lineEvery {
		t.say(t.last)
	}
}

// end says what became of it.
func (t *teller) end(*plan.Run) {
	if t.told != t.last {
		t.say(t.last)
	}
	if t.terminal {
		fmt.Fprintln(t.to)
	}
}

// over leaves the line for what comes.
func (t *teller) over() {
	if t.terminal {
		fmt.Fprint(t.to, "\r\x1b[K")
	}
}
