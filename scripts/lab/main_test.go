package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"p2pcdn/scripts/lab/plan"
)

// call runs the command, and returns its exit code and what it said.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// write makes a lab file.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "some.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const small = "[[host]]\nname = \"a\"\n[[run]]\nname = \"r\"\nwhat = \"ping\"\n[[run]]\nname = \"s\"\nwhat = \"ping\"\n"

func TestUsage(t *testing.T) {
	good := write(t, small)
	for _, test := range []struct {
		name string
		args []string
		code int
		says string // on either output
	}{
		{"help", []string{"-h"}, exitDone, "Exit codes"},
		{"check", []string{"--check", good}, exitDone, "seed 1"},
		{"another seed", []string{"--check", "--seed", "99", good}, exitDone, "seed 99"},
		{"no file", nil, exitUsage, "one lab file"},
		{"two files", []string{good, good}, exitUsage, "one lab file"},
		{"a file that is not there", []string{filepath.Join(t.TempDir(), "none.toml")}, exitUsage, "none.toml"},
		{"an unknown flag", []string{"--fast", good}, exitUsage, "fast"},
		{"no seed", []string{"--seed", "-1", good}, exitUsage, "seed"},
		{"a seed that tables cannot hold", []string{"--seed", "9007199254740993", good}, exitUsage, "at most"},
		{"repeated never", []string{"--repeat", "0", good}, exitUsage, "--repeat"},
		{"a run that is not there", []string{"--check", "--only", "x", good}, exitUsage, `no run "x"`},
		{"a file with errors", []string{"--check", write(t, "sed = 1\n[[host]]\nname = \"A\"")}, exitUsage, "some.toml:1: the key"},
	} {
		code, stdout, stderr := call(t, test.args...)
		if code != test.code || !strings.Contains(stdout+stderr, test.says) {
			t.Errorf("%s: exit code %d: %s%s", test.name, code, stdout, stderr)
		}
	}
}

func TestOnly(t *testing.T) {
	p, err := plan.Parse("some.toml", small+"[[host]]\nname = \"m\"\nmediator = true\n[[host]]\nname = \"b\"\n"+
		"[[run]]\nname = \"x\"\nwhat = \"go\"\nseeder = \"a\"\nleecher = \"b\"\nmediators = [\"m\"]\n"+
		"[[must]]\nwhat = \"fast\"\nrun = \"x\"\nat_most = \"1s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	without := *p
	if err := (&options{only: names{"s"}}).choose(&without); err != nil || len(without.Runs) != 1 || without.Runs[0].Name != "s" || len(without.Musts) != 0 {
		t.Errorf("%v: %+v", err, without)
	}
	with := *p
	if err := (&options{only: names{"x", "r"}}).choose(&with); err != nil || len(with.Runs) != 2 || len(with.Musts) != 1 {
		t.Errorf("%v: %+v", err, with)
	}
}

func TestWhatIsSaidElsewhereThanOnATerminal(t *testing.T) {
	var said bytes.Buffer
	tell := newTeller(&said)
	r := &plan.Run{Name: "r", What: plan.Go, N: 3, Contents: 2}
	tell.begin(r)
	for done := range 6 {
		tell.run(r, done, 1)
	}
	tell.end(r)
	tell.over()
	if got := said.String(); got != "r: 0 of 6\nr: 6 of 6, 1 failed, 0s\n" {
		t.Errorf("%q", got)
	}
}
