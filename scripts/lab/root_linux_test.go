package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asLab has this test program be the lab, with the arguments behind "--".
const asLab = "P2PCDN_TEST_AS_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(asLab) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestWithoutRoot: who may not make networks is told what that needs, before anything is begun.
func TestWithoutRoot(t *testing.T) {
	dir, err := os.MkdirTemp("", "lab") // where everybody may look, as t.TempDir is not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"lab": program, "some.toml": []byte(small)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lab := exec.CommandContext(t.Context(), filepath.Join(dir, "lab"), "--out", filepath.Join(dir, "out"), filepath.Join(dir, "some.toml"))
	lab.Env = append(os.Environ(), asLab+"=yes")
	if os.Getuid() == 0 {
		const nobody = 65534
		lab.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	said, err := lab.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage || !strings.Contains(string(said), "root's rights") || !strings.Contains(string(said), "sudo") {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("it has begun nevertheless")
	}
}
