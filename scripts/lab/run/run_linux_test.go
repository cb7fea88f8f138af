package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// doingOf is a run that is done, without a network, and the rows that it hands out.
func doingOf(r plan.Run) (*doing, *[]*timeline.Row) {
	rows := new([]*timeline.Row)
	lab := &Lab{
		Plan: &plan.Plan{Seed: 5},
		Row:  func(row *timeline.Row) error { *rows = append(*rows, row); return row.Check() },
		Say:  func(*plan.Run, int, int) {},
	}
	return &doing{Lab: lab, Run: &r, told: make(map[[2]int]bool)}, rows
}

var some = plan.Run{
	Name: "r", What: plan.Browser, N: 3, Contents: 2, Size: 7, Flow: timeline.Fast, Browser: timeline.Firefox, Mediators: []string{"m", "n"},
}

// Whatever goes wrong, there is a row for each content of each introduction, which a table takes.
func TestWhatHasNoRowGetsOne(t *testing.T) {
	for _, test := range []struct {
		name    string
		ctx     context.Context
		trouble error
		code    string
		outcome timeline.Outcome
	}{
		{"a program ended", t.Context(), errors.New("it ended"), codeProgram, timeline.Failed},
		{"a mediator did not start", t.Context(), fmt.Errorf("wrapped: %w", withCode(codeMediator, errors.New("it did not start"))), codeMediator, timeline.Failed},
		{"nobody knows why", t.Context(), nil, codeProgram, timeline.Failed},
		{"interrupted", ended(), errors.New("it ended"), codeInterrupted, timeline.Skipped},
		{"a long reason", t.Context(), errors.New(strings.Repeat("ü", timeline.MaxText) + "\xff"), codeProgram, timeline.Failed},
	} {
		r, rows := doingOf(some)
		r.row(&timeline.Row{Index: 2, Content: 1, Outcome: timeline.Done})
		if err := r.complete(test.ctx, 1, 3, test.trouble); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if len(*rows) != 6 || r.done != 1 || r.broken != 5 {
			t.Errorf("%s: %d rows, %d complete, %d not", test.name, len(*rows), r.done, r.broken)
		}
		seen := make(map[[2]int]int)
		for i, row := range *rows {
			seen[[2]int{row.Index, row.Content}]++
			if i > 0 && (row.ErrorCode != test.code || row.Outcome != test.outcome || row.Error == "") {
				t.Errorf("%s: %+v", test.name, row)
			}
			if row.Scenario != "r" || row.Seed != 5 || row.Mediators != 2 || row.ContentBytes != 7 || row.Endpoint != timeline.Firefox || row.Role != timeline.Leecher {
				t.Errorf("%s: %+v", test.name, row)
			}
		}
		if len(seen) != 6 {
			t.Errorf("%s: %v", test.name, seen)
		}
	}
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestARowThatCannotBeKeptIsTold(t *testing.T) {
	r, _ := doingOf(some)
	full := errors.New("the disk is full")
	r.Row = func(*timeline.Row) error { return full }
	if err := r.complete(t.Context(), 1, 1, nil); !errors.Is(err, full) {
		t.Errorf("told: %v", err)
	}
}

// A page may tell anything: it is a failure of its introduction, and not of the lab.
func TestWhatIsNoRowIsAFailure(t *testing.T) {
	for name, row := range map[string]timeline.Row{
		"no outcome":           {Index: 1},
		"a code of complete":   {Index: 1, Outcome: timeline.Done, ErrorCode: "x"},
		"no code of a failure": {Index: 1, Outcome: timeline.Failed, Error: "why"},
		"a code that is none":  {Index: 1, Outcome: timeline.Failed, ErrorCode: "It broke!"},
		"a late stamp":         {Index: 1, Outcome: timeline.Done, Stamps: timeline.Stamps{timeline.Complete: 1e9 * time.Second, timeline.ChannelOpen: 1}},
		"an early stamp":       {Index: 1, Outcome: timeline.Done, Stamps: timeline.Stamps{timeline.Complete: -1, timeline.ChannelOpen: 1}},
	} {
		r, rows := doingOf(some)
		r.row(&row)
		if r.failed != nil || r.broken != 1 || len(*rows) != 1 || row.Outcome != timeline.Failed || row.ErrorCode != codeProgram || len(row.Stamps) > 1 {
			t.Errorf("%s: %v, %+v", name, r.failed, row)
		}
		if name == "no code of a failure" && !strings.HasSuffix(row.Error, "why") {
			t.Errorf("it does not say why: %s", row.Error)
		}
	}
}

func TestContentsAfterOneThatFailedAreSkipped(t *testing.T) {
	run := some
	run.Contents = 3
	r, rows := doingOf(run)
	r.failedFrom(4, 2, codeNotAnnounced, "why")
	if len(*rows) != 2 || (*rows)[0].ErrorCode != codeNotAnnounced || (*rows)[0].Outcome != timeline.Failed ||
		(*rows)[1].ErrorCode != codeEarlier || (*rows)[1].Outcome != timeline.Skipped || (*rows)[1].Content != 3 {
		t.Errorf("rows: %+v", *rows)
	}
}

func TestPhasesOfPages(t *testing.T) {
	a := report{Phases: map[timeline.Phase]float64{
		timeline.Started: 0, timeline.ChannelOpen: 12.3456, timeline.Complete: -1, timeline.FirstPiece: 1e300, timeline.ICEConnected: 1e7, "unheard": 3,
	}}
	got := a.stamps()
	if len(got) != 2 || got[timeline.ChannelOpen] != 12346*time.Microsecond {
		t.Errorf("stamps: %v", got)
	}
}

// A table that grows is read as far as its rows are whole, each once.
func TestATableIsReadWhileItIsWritten(t *testing.T) {
	run := some
	run.Contents, run.Browser, run.What = 1, "", plan.Go
	r, rows := doingOf(run)
	name := filepath.Join(t.TempDir(), "rows.csv")
	if read, err := r.readTable(name, 1, 0); read != 0 || err != nil {
		t.Errorf("before it is there: %d, %v", read, err)
	}
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table := timeline.NewWriter(file)
	read := 0
	for index := 1; index <= 2; index++ {
		row := &timeline.Row{
			Index: index, Flow: timeline.Fast, Endpoint: timeline.Go, Role: timeline.Leecher, Mediators: 1, Content: 1, Outcome: timeline.Done,
			Stamps: timeline.Stamps{timeline.Started: 0, timeline.Complete: time.Second},
		}
		if err := table.Write(row); err != nil {
			t.Fatal(err)
		}
		if read, err = r.readTable(name, 11, read); read != index || err != nil {
			t.Errorf("after %d: %d, %v", index, read, err)
		}
	}
	if _, err := file.WriteString("1,half"); err != nil {
		t.Fatal(err)
	}
	if read, err = r.readTable(name, 11, read); read != 2 || err == nil {
		t.Errorf("with half a row: %d, %v", read, err)
	}
	if len(*rows) != 2 || (*rows)[0].Index != 11 || (*rows)[1].Index != 12 || (*rows)[1].Stamps[timeline.Complete] != time.Second {
		t.Errorf("rows: %+v", *rows)
	}
}

func TestALogIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "some.log")
	log, err := newLog(name)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 1023) + "\n"
	for range maxLog/len(line) + 10 {
		if n, err := log.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("it takes %d: %v", n, err)
		}
	}
	_, _ = log.Write([]byte("what it was\nin the end\n"))
	log.note("ended")
	log.Close()
	if info, err := os.Stat(name); err != nil || info.Size() != maxLog {
		t.Errorf("it has %d bytes: %v", info.Size(), err)
	}
	if words := log.lastWords(); words != "in the end" {
		t.Errorf("its last words: %q", words)
	}
}
