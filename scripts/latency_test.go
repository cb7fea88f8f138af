//go:build unix

package scripts

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2pcdn/common/timeline"
)

// measured reads what peer latency kept, which must be a whole table, and counts introductions by how they ended.
func measured(t *testing.T, path string) (rows []*timeline.Row, complete int, codes map[string]int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if rows, err = timeline.ReadAll(file); err != nil {
		t.Fatal(err)
	}
	codes = make(map[string]int)
	for _, row := range rows {
		switch {
		case row.Role != timeline.Leecher:
		case row.Outcome == timeline.Done:
			complete++
		default:
			codes[row.ErrorCode]++
		}
	}
	return rows, complete, codes
}

// ends waits for its end, with that exit code.
func (p *process) ends(code int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.name)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("%s ended with %d", p.name, got)
	}
}

// introductions are as many as a mediator that dies in their middle leaves some of undone, whatever the machine.
const introductions = 60

// failsInPart checks a run in whose middle a mediator died: what was measured is kept, and what failed is in it, too, with its reason.
func (p *process) failsInPart(csv string) {
	p.t.Helper()
	p.ends(1)
	_, complete, codes := measured(p.t, csv)
	lost := codes["mediator_lost"] + codes["mediator_unreachable"]
	if complete < 3 || complete+lost != introductions || codes["mediator_unreachable"] == 0 {
		p.t.Errorf("%d complete, and failed with %v", complete, codes)
	}
	p.says(strconv.Itoa(lost) + " of " + strconv.Itoa(introductions) + " introductions failed")
}

// The mediator of the seeders dies in the middle of a measurement.
func TestTheSeedersMediatorIsKilledWhileItIsMeasured(t *testing.T) {
	n := startNetwork(t)
	csv := filepath.Join(t.TempDir(), "run.csv")
	run := start(t, "peer", "latency", "-m", n.urls[0], "-m", n.urls[1], "-n", strconv.Itoa(introductions), "--csv", csv)
	run.says(`3 of \d+: complete`)
	n.mediators[0].kill()
	run.failsInPart(csv)
}

// serve starts seeders in a process of their own and returns the file of their links.
func serve(t *testing.T, mediator string, seeders int, options ...string) (p *process, file string) {
	t.Helper()
	p = start(t, "peer", append([]string{"latency", "--serve", "-m", mediator, "-n", strconv.Itoa(seeders)}, options...)...)
	p.says(`(?s)(\np2pcdn:.*){` + strconv.Itoa(seeders) + `}\n`)
	var links strings.Builder
	for line := range strings.Lines(p.output()) {
		if strings.HasPrefix(line, "p2pcdn:") {
			links.WriteString(line)
		}
	}
	file = filepath.Join(t.TempDir(), "links")
	if err := os.WriteFile(file, []byte(links.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, file
}

// The mediator of the leechers dies, whose seeders run elsewhere and are not disturbed.
func TestTheLeechersMediatorIsKilledWhileItIsMeasured(t *testing.T) {
	n := startNetwork(t)
	seeders, links := serve(t, n.urls[0], introductions, "--size", "20kB")
	csv := filepath.Join(t.TempDir(), "run.csv")
	run := start(t, "peer", "latency", "--links", links, "-m", n.urls[1], "--csv", csv)
	run.says(`3 of \d+: complete`)
	n.mediators[1].kill()
	run.failsInPart(csv)
	seeders.signal(syscall.SIGINT)
	seeders.ends(0)
}

// The measurement itself is killed: every row that it said is kept.
func TestAMeasurementIsKilled(t *testing.T) {
	n := startNetwork(t)
	csv := filepath.Join(t.TempDir(), "run.csv")
	run := start(t, "peer", "latency", "-m", n.urls[0], "-m", n.urls[1], "-n", "1000", "--csv", csv)
	run.says(`5 of 1000: complete`)
	run.kill()
	if rows, complete, codes := measured(t, csv); complete < 5 || complete == 1000 || len(codes) > 0 {
		t.Errorf("%d rows, %d complete, and failed %v", len(rows), complete, codes)
	}
}

// Seeders run in one process, and leechers in another on the other mediator.
func TestMeasuredInTwoProcesses(t *testing.T) {
	n := startNetwork(t)
	seeders, file := serve(t, n.urls[0], 3, "--contents", "2")
	csv := filepath.Join(t.TempDir(), "run.csv")
	start(t, "peer", "latency", "--links", file, "-m", n.urls[1], "--csv", csv, "--scenario", "two processes").ends(0)
	rows, complete, _ := measured(t, csv)
	if complete != 6 || rows[0].Mediators != 2 || rows[0].Scenario != "two processes" || rows[5].Content != 2 || rows[5].Index != 3 {
		t.Errorf("%d complete, of %d rows", complete, len(rows))
	}
	seeders.signal(syscall.SIGINT)
	seeders.ends(0)
}
