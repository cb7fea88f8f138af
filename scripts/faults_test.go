//go:build unix

package scripts

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests kill real processes in the middle of a transfer: SIGKILL, so that nobody says
// goodbye. What must hold: what is fetched is the content, and whatever is still there goes on.

// patience bounds everything that is waited for. Nothing here takes a tenth of it.
const patience = 2 * time.Minute

// builtPrograms is the variable that names the folder of the programs to a test that another one started.
const builtPrograms = "P2PCDN_TEST_PROGRAMS"

// programs are the mediator and the peer, built once.
var programs = sync.OnceValues(func() (string, error) {
	if folder := os.Getenv(builtPrograms); folder != "" {
		return folder, nil
	}
	folder, err := os.MkdirTemp("", "p2pcdn-programs-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", folder, "./mediator", "./peer")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return folder, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if folder, err := programs(); err == nil && os.Getenv(builtPrograms) == "" {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// process is a running program and what it said.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended

	mu   sync.Mutex
	said bytes.Buffer  // guarded by mu: both outputs
	more chan struct{} // holds a token when it said more; capacity 1
}

// Write implements io.Writer for both outputs.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(text)
	select {
	case p.more <- struct{}{}:
	default:
	}
	return len(text), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// start runs a program until the end of the test, or of itself.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startBehind(t, nil, name, args...)
}

// startBehind is start with a command in front that runs the program in its own place.
func startBehind(t *testing.T, command []string, name string, args ...string) *process {
	t.Helper()
	folder, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, name+" "+strings.Join(args, " "), slices.Concat(command, []string{filepath.Join(folder, name)}, args))
}

// startCommand is start for any command, with a name for people.
func startCommand(t *testing.T, name string, command []string) *process {
	t.Helper()
	p := &process{t: t, name: name, done: make(chan struct{}), more: make(chan struct{}, 1)}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Env = append(os.Environ(), "NO_COLOR=1")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // whoever cares looks at the exit code
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, p.output())
		}
	})
	return p
}

// kill ends it without a word to anybody, and waits for that.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// says waits until it said something that matches, and returns the first group, or all.
func (p *process) says(pattern string) string {
	p.t.Helper()
	expression := regexp.MustCompile(pattern)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		if found := expression.FindStringSubmatch(p.output()); found != nil {
			return found[len(found)-1]
		}
		select {
		case <-p.more:
		case <-p.done:
			if found := expression.FindStringSubmatch(p.output()); found != nil {
				return found[len(found)-1]
			}
			p.t.Fatalf("%s ended (%v) before it said %q", p.name, p.cmd.ProcessState, pattern)
		case <-deadline.C:
			p.t.Fatalf("%s never said %q", p.name, pattern)
		}
	}
}

// succeeds waits for its end, which must be a good one.
func (p *process) succeeds() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.name)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Fatalf("%s ended with %d", p.name, code)
	}
}

// isUnderWay waits until a download has some of its content, and lacks more.
func (p *process) isUnderWay() {
	p.t.Helper()
	p.says(`downloading from .*: [2-6](\.\d+)? MB of 16`)
}

// contentLength is that of the tests' content, in bytes. At the rate of slowly there is
// time to do something in the middle.
const (
	contentLength = 16_000_000
	slowly        = "4M"
)

// network is two mediators that know each other.
type network struct {
	mediators [2]*process
	urls      [2]string
}

func startNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{}
	var ports [2]int
	for i := range n.mediators {
		ports[i] = freePort(t)
		n.urls[i] = fmt.Sprintf("ws://localhost:%d/mediation", ports[i])
		args := []string{strconv.Itoa(ports[i]), "0", "--data-dir", t.TempDir()}
		if i > 0 {
			args = append(args, fmt.Sprintf("localhost:%d", ports[0]))
		}
		n.mediators[i] = start(t, "mediator", args...)
		awaitHealth(t, fmt.Sprintf("http://localhost:%d/healthz", ports[i]))
	}
	return n
}

// freePort is a port that nobody listens on. It is none of those that systems give to connections
// (from 32768 on), so that no connection of anybody takes it meanwhile.
func freePort(t *testing.T) int {
	t.Helper()
	var err error
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal(err)
	return 0
}

func awaitHealth(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond) // there is no event across processes
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", url, ctx.Err())
		}
	}
}

// newContent writes a file that nobody has seen before.
func newContent(t *testing.T) (path string, data []byte) {
	t.Helper()
	data = make([]byte, contentLength)
	var seed [32]byte
	seed[0] = byte(os.Getpid())
	rand.NewChaCha8(seed).Read(data)
	path = filepath.Join(t.TempDir(), "content.bin")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// seed shares the file by way of a mediator, and returns the link once it can be found.
func seed(t *testing.T, path, mediator string, options ...string) (seeder *process, link string) {
	t.Helper()
	seeder = start(t, "peer", append([]string{"seed", path, "--mediator", mediator}, options...)...)
	link = seeder.says(`(p2pcdn:[0-9a-f]{64}\S*)`)
	seeder.says(`announced`)
	link, _, _ = strings.Cut(link, "&m=")
	return seeder, link
}

func holds(t *testing.T, path string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("another content arrived")
	}
}

// The seeder dies; another one has the content, and then none has for a while.
func TestASeederIsKilled(t *testing.T) {
	n := startNetwork(t)
	path, data := newContent(t)
	first, link := seed(t, path, n.urls[0], "--upload-limit", slowly)
	out := filepath.Join(t.TempDir(), "out.bin")
	leecher := start(t, "peer", "get", link, "-o", out, "--mediator", n.urls[1])
	leecher.isUnderWay()
	first.kill()
	_, _ = seed(t, path, n.urls[0]) // only now: the leecher has to find it anew
	leecher.succeeds()
	holds(t, out, data)
}

// The leecher dies, and another get goes on with what it left.
func TestALeecherIsKilled(t *testing.T) {
	n := startNetwork(t)
	path, data := newContent(t)
	_, link := seed(t, path, n.urls[0], "--upload-limit", slowly)
	folder := t.TempDir()
	out := filepath.Join(folder, "out.bin")
	leecher := start(t, "peer", "get", link, "-o", out, "--mediator", n.urls[1])
	leecher.isUnderWay()
	leecher.kill()
	if _, err := os.Lstat(out); err == nil {
		t.Fatal("what is not complete has the final name")
	}
	again := start(t, "peer", "get", link, "-o", out, "--mediator", n.urls[1])
	pieces, err := strconv.Atoi(again.says(`going on with (\d+) of 245 pieces`))
	if err != nil || pieces < 10 {
		t.Errorf("it goes on with %d pieces: %v", pieces, err)
	}
	again.succeeds()
	holds(t, out, data)
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("beside the content: %v, %v", left, err)
	}
}

// Both mediators die: the transfer that runs does not need them.
func TestBothMediatorsAreKilled(t *testing.T) {
	n := startNetwork(t)
	path, data := newContent(t)
	_, link := seed(t, path, n.urls[0], "--upload-limit", slowly)
	out := filepath.Join(t.TempDir(), "out.bin")
	leecher := start(t, "peer", "get", link, "-o", out, "--mediator", n.urls[1])
	leecher.isUnderWay()
	n.mediators[0].kill()
	n.mediators[1].kill()
	leecher.succeeds()
	holds(t, out, data)
}

// A seeder stands still without a word, in the middle; the other one has what it owes.
func TestASeederStalls(t *testing.T) {
	n := startNetwork(t)
	path, data := newContent(t)
	stalling, link := seed(t, path, n.urls[0], "--upload-limit", slowly)
	_, _ = seed(t, path, n.urls[1], "--upload-limit", slowly)
	out := filepath.Join(t.TempDir(), "out.bin")
	leecher := start(t, "peer", "get", link, "-o", out, "--mediator", n.urls[1])
	leecher.says(`downloading from 2 peers: [1-5](\.\d+)? MB of 16`)
	stalling.signal(syscall.SIGSTOP)
	// It goes on while the other one still counts as connected, which is for eight seconds.
	leecher.says(`downloading from 2 peers: ([7-9]|1[0-5])(\.\d+)? MB of 16`)
	leecher.succeeds()
	holds(t, out, data)
}
