package scripts

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"p2pcdn/common/timeline"
)

// labProgram is scripts/lab, built once.
var labProgram = sync.OnceValues(func() (string, error) {
	folder, err := programs()
	if err != nil {
		return "", err
	}
	program := filepath.Join(folder, "lab")
	build := exec.Command("go", "build", "-o", program, "./scripts/lab")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return program, nil
})

// runLab does a lab file, and returns its exit code, what it said, its rows and its lab.json. It skips the test where this machine cannot.
func runLab(t *testing.T, file string, options ...string) (code int, said string, rows []*timeline.Row, kept map[string]any) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make the hosts of a lab")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	program, err := labProgram()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	lab := exec.Command(program, append(options, "--draw=false", "--bin", filepath.Dir(program), "--out", out, file)...)
	lab.Dir = root
	lab.WaitDelay = patience
	text, err := lab.CombinedOutput()
	said = string(text)
	if strings.Contains(said, "making networks, mounts and processes of its own: ") {
		t.Skipf("a lab cannot be isolated here: %s", said)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	table, err := os.Open(filepath.Join(out, "lab.csv"))
	if err != nil {
		t.Fatalf("%v; it said:\n%s", err, said)
	}
	defer table.Close()
	if rows, err = timeline.ReadAll(table); err != nil {
		t.Fatal(err)
	}
	summary, err := os.ReadFile(filepath.Join(out, "lab.json"))
	if err == nil {
		err = json.Unmarshal(summary, &kept)
	}
	if err != nil {
		t.Fatalf("%v; it said:\n%s", err, said)
	}
	t.Logf("it said:\n%s", said)
	return lab.ProcessState.ExitCode(), said, rows, kept
}

// The lab works: what it measures is longer than light would take, and everything it does becomes a row.
func TestLab(t *testing.T) {
	code, said, rows, kept := runLab(t, "scripts/lab/smoke.toml", "--seed", "7")
	if code != 0 || !strings.Contains(said, "smoke, seed 7") {
		t.Errorf("exit code %d", code)
	}
	const roundTrip = 9 * time.Millisecond // 10 ms by the links, of which the router may be early by tenths
	runs := make(map[string]int)
	for _, row := range rows {
		runs[row.Scenario]++
		if row.Outcome != timeline.Done || row.Seed != 7 {
			t.Errorf("%+v", row)
		}
		switch { // a TCP connection and an upgrade are two round trips; a question to whom one is connected is one
		case row.Scenario == "announced" && row.Stamps[timeline.PeersNamed] < roundTrip,
			row.Scenario != "announced" && row.Content == 1 && row.Stamps[timeline.MediatorOpen] < 2*roundTrip,
			row.Scenario != "announced" && row.Content == 2 && row.Stamps[timeline.FirstPiece] < roundTrip:
			t.Errorf("faster than its links: %+v", row)
		}
	}
	if runs["two-mediators"] != 4 || runs["behind-a-nat"] != 1 || runs["announced"] != 2 || len(rows) != 7 {
		t.Errorf("rows of the runs: %v", runs)
	}
	if kept["seed"] != 7.0 || kept["complete"] != true || len(kept["round_trips"].([]any)) < 10 || len(kept["musts"].([]any)) != 1 {
		t.Errorf("kept: %v", kept)
	}
}

// What fails is told as rows, with reasons, and the rest is done all the same.
func TestLabKeepsWhatFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "failing.toml")
	if err := os.WriteFile(file, []byte(`
[link.dead]
loss = 1
[[host]]
name = "m"
mediator = true
[[host]]
name = "a"
[[host]]
name = "b"
[[host]]
name = "island"
link = "dead"
[[run]]
name = "dies"
what = "announce"
seeder = "a"
leecher = "b"
mediators = ["m"]
n = 1000
kill = "m"
kill_after = "500ms"
timeout = "2s"
[[run]]
name = "unreachable"
what = "go"
seeder = "a"
leecher = "island"
mediators = ["m"]
timeout = "1s"
[[run]]
name = "after"
what = "go"
seeder = "a"
leecher = "b"
mediators = ["m"]
[[must]]
what = "something"
run = "unreachable"
at_most = "1s"
`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, said, rows, _ := runLab(t, file)
	if code != 1 || !strings.Contains(said, "not as expected: 2 runs; missed: 1 must") {
		t.Errorf("exit code %d", code)
	}
	counts, codes := make(map[string]map[timeline.Outcome]int), make(map[string]string)
	for _, row := range rows {
		if counts[row.Scenario] == nil {
			counts[row.Scenario] = make(map[timeline.Outcome]int)
		}
		counts[row.Scenario][row.Outcome]++
		if row.ErrorCode != "" {
			codes[row.Scenario] = row.ErrorCode
		}
	}
	dies := counts["dies"]
	if dies[timeline.Done] == 0 || dies[timeline.Failed] == 0 || dies[timeline.Done]+dies[timeline.Failed] != 1000 || codes["dies"] != "mediator_unreachable" {
		t.Errorf("the mediator that dies: %v, %v", dies, codes)
	}
	if counts["unreachable"][timeline.Failed] != 1 || codes["unreachable"] != "mediator_unreachable" || counts["after"][timeline.Done] != 1 {
		t.Errorf("rows: %v, %v", counts, codes)
	}
}
