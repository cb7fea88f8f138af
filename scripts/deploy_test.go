//go:build linux

package scripts

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnit holds the unit to what systemd itself says of it: it is well formed,
// and leaves an intruder little.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	text, err := os.ReadFile(filepath.Join(root, "mediator/deploy/p2pcdn-mediator.service"))
	if err != nil {
		t.Fatal(err)
	}
	// Its program is not installed here, which would be the only complaint.
	unit := filepath.Join(t.TempDir(), "p2pcdn-mediator.service")
	installed := strings.ReplaceAll(string(text), "/usr/local/bin/p2pcdn-mediator", "/bin/true")
	if err := os.WriteFile(unit, []byte(installed), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(analyze, "verify", unit).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("it is not well formed: %v\n%s", err, output)
	}
	output, err := exec.Command(analyze, "security", "--offline=true", unit).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	level := regexp.MustCompile(`exposure level for \S+: ([\d.]+)`).FindSubmatch(output)
	if level == nil {
		t.Fatalf("it does not say how exposed it is:\n%s", output)
	}
	// Of 10; a daemon without any of it has 9.6.
	if exposed, _ := strconv.ParseFloat(string(level[1]), 64); exposed > 2 {
		t.Errorf("its exposure is %.1f", exposed)
	}
}

// TestNothingElseIsNeeded runs the mediator as the image does: alone in a root folder,
// as a user that is nobody.
func TestNothingElseIsNeeded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root folder")
	}
	dockerfile, err := os.ReadFile(filepath.Join(root, "mediator/deploy/Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	user := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindSubmatch(dockerfile)
	if user == nil {
		t.Fatal("the image does not say as whom it runs")
	}
	uid, _ := strconv.Atoi(string(user[1]))
	image := t.TempDir()
	for dir := image; dir != "/"; dir = filepath.Dir(dir) { // the user must get there
		if strings.HasPrefix(dir, os.TempDir()+"/") {
			_ = os.Chmod(dir, 0o755)
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(image, "mediator"), "./mediator")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if err := os.Mkdir(filepath.Join(image, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(image, "data"), uid, uid); err != nil {
		t.Fatal(err)
	}
	process := exec.Command("/mediator", "0", "0", "--listen", "127.0.0.1")
	process.Dir, process.Env = "/", []string{"P2PCDN_DATA_DIR=/data"}
	process.SysProcAttr = &syscall.SysProcAttr{
		Chroot: image, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Pdeathsig: syscall.SIGKILL,
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	process.Stderr = &said
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	page := make(chan string, 1)
	go func() {
		defer close(page)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if _, address, found := strings.Cut(lines.Text(), "page "); found {
				page <- strings.TrimSpace(address)
			}
		}
	}()
	select {
	case address, started := <-page:
		if !started {
			_ = process.Wait()
			t.Fatalf("it ended: %s", said.String())
		}
		answer, err := http.Get(address + "healthz")
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("it does not serve: %v, %v", answer, err)
		}
		if err == nil {
			_ = answer.Body.Close()
		}
	case <-time.After(time.Minute):
		t.Error("it does not start")
	}
	_ = process.Process.Signal(syscall.SIGTERM)
	for range page { // to the end of what it says
	}
	if err := process.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, said.String())
	}
	if _, err := os.Stat(filepath.Join(image, "data", "mediator.key")); err != nil {
		names, _ := filepath.Glob(filepath.Join(image, "data", "*"))
		t.Errorf("its key is not where its data belong: %v", names)
	}
}
