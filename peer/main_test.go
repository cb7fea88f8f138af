package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/peer/client"
)

// asCommand makes the test's program the command itself, for tests of signals.
const asCommand = "PEER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait in these tests.
const patience = 30 * time.Second

// screen is what a command prints.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer  // guarded by mu
	changed chan struct{} // a token for whoever waits; capacity 1
}

func newScreen() *screen { return &screen{changed: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// command is a run of the command in this process.
type command struct {
	t              *testing.T
	stdout, stderr *screen
	interrupt      context.CancelFunc
	code           chan int
}

// setting changes the world of a command.
type setting func(*world)

func stdin(text string) setting { return func(w *world) { w.stdin = strings.NewReader(text) } }
func terminal(w *world)         { w.terminal = true }
func environment(name, value string) setting {
	return func(w *world) {
		w.environment = func(asked string) (string, bool) { return value, asked == name }
	}
}

func start(t *testing.T, settings []setting, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &command{t: t, stdout: newScreen(), stderr: newScreen(), interrupt: cancel, code: make(chan int, 1)}
	w := world{
		stdin: strings.NewReader(""), stdout: c.stdout, stderr: c.stderr,
		environment: func(string) (string, bool) { return "", false },
	}
	for _, set := range settings {
		set(&w)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.code <- run(ctx, args, w)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

// says waits until the screen shows the text.
func (c *command) says(s *screen, text string) {
	c.t.Helper()
	deadline := time.After(patience)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.changed:
		case <-deadline:
			c.t.Fatalf("%q was not said:\n%s%s", text, c.stdout, c.stderr)
		}
	}
}

// ends waits for the exit code, and checks it and that the text was said.
func (c *command) ends(code int, text string) {
	c.t.Helper()
	select {
	case got := <-c.code:
		if got != code || !strings.Contains(c.stderr.String(), text) {
			c.t.Errorf("exit code %d instead of %d, or not said: %q\n%s%s", got, code, text, c.stdout, c.stderr)
		}
	case <-time.After(patience):
		c.t.Fatalf("it does not end:\n%s%s", c.stdout, c.stderr)
	}
}

func bytesOf(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{5}).Read(data)
	return data
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func same(t *testing.T, path string, data []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s holds another content: %v", path, err)
	}
}

// left checks that a folder holds these files alone: nothing unfinished.
func left(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	if fmt.Sprint(found) != fmt.Sprint(names) {
		t.Errorf("files %v instead of %v", found, names)
	}
}

// seed starts a seeder and returns it with its first link.
func seed(t *testing.T, m *testMediator, paths ...string) (*command, string) {
	t.Helper()
	c := start(t, nil, append([]string{"seed", "--mediator", m.url}, paths...)...)
	for _, path := range paths {
		c.says(c.stderr, "announced "+path)
	}
	return c, strings.SplitN(c.stdout.String(), "\n", 2)[0]
}

func TestSeedAndGet(t *testing.T) {
	m := startMediator(t)
	data := bytesOf(5<<20 + 3)
	path := write(t, filepath.Join(t.TempDir(), "holiday.mp4"), data)
	seeder, link := seed(t, m, path)
	parsed, err := content.ParseLink(link)
	if err != nil || len(parsed.Mediators) != 1 || parsed.Mediators[0] != m.url || parsed.FileName != "holiday.mp4" {
		t.Errorf("link %q: %v", link, err)
	}
	out := t.TempDir()

	t.Run("a link, into a folder", func(t *testing.T) {
		start(t, nil, "get", link, "-o", out).ends(exitDone, "complete: "+filepath.Join(out, "holiday.mp4"))
		same(t, filepath.Join(out, "holiday.mp4"), data)
		left(t, out, "holiday.mp4")
	})
	t.Run("again", func(t *testing.T) {
		start(t, nil, "get", link, "-o", out).ends(exitFailed, "there is a file of that name")
		start(t, nil, "get", link, "-o", out, "--force").ends(exitDone, "complete")
		same(t, filepath.Join(out, "holiday.mp4"), data)
	})
	t.Run("an info dictionary", func(t *testing.T) {
		info := start(t, nil, "info", path)
		info.ends(exitDone, "")
		file := write(t, filepath.Join(t.TempDir(), "info.json"), []byte(info.stdout.String()))
		target := filepath.Join(t.TempDir(), "x")
		start(t, nil, "get", file, "--output", target, "-m", m.url).ends(exitDone, "complete")
		same(t, target, data)
	})
	t.Run("from standard input", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "x")
		start(t, []setting{stdin(link + "\n")}, "get", "-", "-o", target).ends(exitDone, "complete")
		same(t, target, data)
	})
	t.Run("a page's address, on a terminal", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "x")
		page := "http://localhost:8080/preview/leecher_preview.html#" + strings.TrimPrefix(link, content.Scheme+":")
		c := start(t, []setting{terminal}, "get", page, "-o", target)
		c.ends(exitDone, "complete")
		if shown := c.stderr.String(); !strings.Contains(shown, "%") || !strings.Contains(shown, "\r") {
			t.Errorf("no bar was shown: %q", shown)
		}
		same(t, target, data)
	})
	t.Run("by the environment", func(t *testing.T) {
		bare := regexp.MustCompile("&m=.*").ReplaceAllString(link, "")
		target := filepath.Join(t.TempDir(), "x")
		c := start(t, []setting{environment("P2PCDN_MEDIATOR", "ws://127.0.0.1:1/nobody "+m.url)}, "get", bare, "-o", target)
		c.ends(exitDone, "the mediator cannot be reached")
		same(t, target, data)
	})
	t.Run("to serve it on", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "x")
		c := start(t, nil, "get", link, "-o", target, "--seed-after")
		c.says(c.stderr, "serving until interrupted")
		same(t, target, data)
		seeder.interrupt()
		seeder.ends(exitDone, "7 peers so far")
		second := filepath.Join(t.TempDir(), "y")
		start(t, nil, "get", link, "-o", second).ends(exitDone, "complete")
		same(t, second, data)
		c.interrupt()
		c.ends(exitDone, "")
	})
}

func TestInfo(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "a.png"), bytesOf(100_000))
	c := start(t, nil, "info", path)
	c.ends(exitDone, "")
	info, err := content.ParseInfo([]byte(c.stdout.String()))
	if err != nil || info.FileName != "a.png" || info.ContentType != "image/png" || info.TotalLength != 100_000 || len(info.PieceHashes) != 2 {
		t.Errorf("%+v: %v", info, err)
	}
	c = start(t, []setting{terminal}, "info", "--link", "--piece-length", "16KiB", "-m", "wss://a.example/mediation", path)
	c.ends(exitDone, "")
	link, err := content.ParseLink(c.stdout.String())
	if err != nil || link.FullHash != info.FullHash || link.PieceLength != 16<<10 || len(link.Mediators) != 1 {
		t.Errorf("%+v: %v", link, err)
	}
	c = start(t, []setting{environment("P2PCDN_PIECE_LENGTH", "32768")}, "info", path)
	c.ends(exitDone, "")
	if info, err := content.ParseInfo([]byte(c.stdout.String())); err != nil || info.PieceLength != 32768 {
		t.Errorf("%+v: %v", info, err)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"--help"}, {"help"}} {
		c := start(t, nil, args...)
		c.ends(exitDone, "")
		for _, word := range []string{"seed", "get", "info", "--mediator", defaultMediator, "P2PCDN_MEDIATOR", "Exit codes", "Examples"} {
			if !strings.Contains(c.stdout.String(), word) {
				t.Errorf("%v does not say %q:\n%s", args, word, c.stdout)
			}
		}
	}
	for _, name := range []string{"seed", "get", "info"} {
		c := start(t, nil, name, "--help")
		c.ends(exitDone, "")
		if !strings.Contains(c.stdout.String(), "Examples") || !strings.Contains(c.stdout.String(), "--mediator") {
			t.Errorf("the help of %s:\n%s", name, c.stdout)
		}
	}
	start(t, nil).ends(exitUsage, "a command is needed")
	c := start(t, nil, "--version")
	c.ends(exitDone, "")
	if !strings.HasPrefix(c.stdout.String(), "peer ") {
		t.Errorf("version: %s", c.stdout)
	}
}

func TestWrongUsage(t *testing.T) {
	const link = "p2pcdn:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855?xl=0"
	hash := link[len("p2pcdn:") : len(link)-len("?xl=0")]
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"fetch"}, "there is no command"},
		{[]string{"--loud"}, "unknown flag: --loud"},
		{[]string{"get"}, "get takes one LINK"},
		{[]string{"get", link, link}, "would both be written to"},
		{[]string{"get", link, link + "&dn=x", "-o", "none"}, "must name a folder"},
		{[]string{"get", link, link + "&dn=x", "-o", "-"}, "only one content"},
		{[]string{"get", "-", "-"}, "only once"},
		{[]string{"get", link, "--upload-limit", "fast"}, "no rate"},
		{[]string{"get", link, "--max-peers", "0"}, "no number from 1"},
		{[]string{"seed", "x", "--upload-slots", "many"}, "no number from 1"},
		{[]string{"get", link, "--timeout", "soon"}, "--timeout"},
		{[]string{"get", link, "--timeout", "-1s"}, "must not be negative"},
		{[]string{"get", link, "--mediator", "http://localhost"}, "ws://host:port/mediation"},
		{[]string{"get", "p2pcdn:" + hash}, "link_without_length"},
		{[]string{"get", hash}, "link_without_length"},
		{[]string{"get", "p2pcdn:abc?xl=1"}, "bad_full_hash"},
		{[]string{"get", "p2pcdn:" + hash + "?xl=many"}, "bad_total_length"},
		{[]string{"get", link + "&pl=1000"}, "bad_piece_length"},
		{[]string{"get", link + "&m=http://x"}, "bad_mediator_url"},
		{[]string{"get", "https://example.org/"}, "bad_link"},
		{[]string{"seed"}, "seed takes one FILE"},
		{[]string{"seed", "--piece-length", "1000", "x"}, "power of two"},
		{[]string{"seed", "--piece-length", "large", "x"}, "no number of bytes"},
		{[]string{"info"}, "info takes one FILE"},
		{[]string{"info", "a", "b"}, "there are 2 arguments"},
	} {
		c := start(t, nil, test.args...)
		c.ends(exitUsage, test.says)
		if !strings.Contains(c.stderr.String(), "--help'") || c.stdout.String() != "" {
			t.Errorf("%v:\n%s%s", test.args, c.stdout, c.stderr)
		}
	}
	start(t, []setting{environment("P2PCDN_MEDIATOR", "nonsense")}, "get", link).ends(exitUsage, "P2PCDN_MEDIATOR")
	start(t, []setting{stdin("p2pcdn:abc?xl=1")}, "get", "-").ends(exitUsage, "bad_full_hash")
}

func TestWhatFails(t *testing.T) {
	folder := t.TempDir()
	info := start(t, nil, "info", write(t, filepath.Join(folder, "file"), bytesOf(200_000)))
	info.ends(exitDone, "")
	text := info.stdout.String()
	digit := strings.Index(text, `"full_hash": "`) + len(`"full_hash": "`)
	contradicting := text[:digit] + string('0'+(text[digit]-'0'+1)%10%8) + text[digit+1:]
	if text[digit] > '9' {
		contradicting = text[:digit] + "0" + text[digit+1:]
	}
	file := func(name, text string) string { return write(t, filepath.Join(folder, name), []byte(text)) }
	good := file("good.json", text)
	locked := filepath.Join(folder, "locked")
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	lockedSays := "(unwritable)"
	if os.Geteuid() == 0 {
		locked, lockedSays = "/proc", "(missing)" // where not even root can make a file
	}
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"seed", filepath.Join(folder, "none")}, "(missing)"},
		{[]string{"seed", folder}, "(no_file)"},
		{[]string{"info", filepath.Join(folder, "none")}, "(missing)"},
		{[]string{"get", filepath.Join(folder, "none.json")}, "no link, and there is no such file"},
		{[]string{"get", folder}, "reading the info dictionary"},
		{[]string{"get", file("empty", "")}, "neither an info dictionary nor a link"},
		{[]string{"get", file("odd", "{]")}, "bad_dictionary"},
		{[]string{"get", file("contradicting.json", contradicting)}, "contradiction"},
		{[]string{"get", file("short.json", strings.Replace(text, "200000", "2000000", 1))}, "wrong_piece_count"},
		{[]string{"get", good, "-o", good}, "(exists)"},
		{[]string{"get", good, "-o", filepath.Join(folder, "none", "out")}, "(missing)"},
		{[]string{"get", good, "-o", filepath.Join(locked, "out")}, lockedSays},
		{[]string{"get", good, "-o", filepath.Join(good, "out")}, "(unwritable)"},
	} {
		c := start(t, nil, test.args...)
		c.ends(exitFailed, test.says)
		if c.stdout.String() != "" {
			t.Errorf("%v:\n%s", test.args, c.stdout)
		}
	}
}

func TestNoMediator(t *testing.T) {
	const nobody = "ws://127.0.0.1:1/mediation"
	folder := t.TempDir()
	path := write(t, filepath.Join(folder, "file"), []byte("hello"))
	seeder := start(t, nil, "seed", "-m", nobody, path)
	seeder.says(seeder.stderr, "the mediator cannot be reached")
	link := strings.TrimSpace(seeder.stdout.String())
	out := t.TempDir()
	start(t, nil, "get", link, "-o", out).ends(exitFailed, "no mediator can be reached")
	left(t, out)
	seeder.interrupt()
	seeder.ends(exitDone, "")
}

func TestNobodyHasIt(t *testing.T) {
	m := startMediator(t)
	path := write(t, filepath.Join(t.TempDir(), "file"), []byte("hello"))
	info := start(t, nil, "info", "--link", path)
	info.ends(exitDone, "")
	link := strings.TrimSpace(info.stdout.String())
	out := t.TempDir()
	start(t, nil, "get", link, "-m", m.url, "-o", out, "--timeout", "300ms").ends(exitFailed, "nobody was found who has this content")
	left(t, out)
	c := start(t, nil, "get", link, "-m", m.url, "-o", out, "--timeout", "0")
	c.says(c.stderr, "searching")
	c.interrupt()
	c.ends(exitInterrupted, "interrupted")
	left(t, out)
	c = start(t, nil, "get", link, "-m", m.url, "-o", out)
	c.says(c.stderr, "searching")
	_, _ = seed(t, m, path) // a seeder that comes late is heard of
	c.ends(exitDone, "complete")
	same(t, filepath.Join(out, "file"), []byte("hello"))
}

// fullDisk is a file on a disk that has room for so many bytes.
type fullDisk struct {
	client.File
	mu   sync.Mutex
	room int // guarded by mu
}

func (f *fullDisk) WriteAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room -= len(p); f.room < 0 {
		return 0, &fs.PathError{Op: "write", Path: "part", Err: syscall.ENOSPC}
	}
	return f.File.WriteAt(p, at)
}

func TestAFullDisk(t *testing.T) {
	m := startMediator(t)
	_, link := seed(t, m, write(t, filepath.Join(t.TempDir(), "file"), bytesOf(1<<20)))
	out := t.TempDir()
	full := func(w *world) {
		w.wrap = func(file client.File) client.File { return &fullDisk{File: file, room: 300_000} }
	}
	start(t, []setting{full}, "get", link, "-o", out).ends(exitFailed, "the disk is full (disk_full)")
	// What there was room for is kept, and once there is more room it is gone on with.
	start(t, nil, "get", link, "-o", out).ends(exitDone, "complete")
	left(t, out, "file")
}

func TestAFileThatChangesIsNoLongerServed(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	changing := write(t, filepath.Join(folder, "changing"), bytesOf(300_000))
	steady := write(t, filepath.Join(folder, "steady"), bytesOf(200_000))
	seeder, _ := seed(t, m, changing, steady)
	links := strings.Fields(seeder.stdout.String())
	if len(links) != 2 {
		t.Fatalf("links %q", links)
	}
	write(t, changing, bytesOf(300_001)[1:])
	out := t.TempDir()
	asking := start(t, nil, "get", links[0], "-o", out)
	seeder.says(seeder.stderr, changing+" is no longer served")
	asking.interrupt()
	asking.ends(exitInterrupted, "peer: interrupted\n") // with nothing to go on with
	left(t, out)
	start(t, nil, "get", links[1], "-o", out).ends(exitDone, "complete")
	write(t, steady, nil)
	start(t, nil, "get", links[1], "-o", filepath.Join(out, "x"))
	seeder.ends(exitFailed, "nothing is served any more")
}

func TestTheSameContentTwice(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	one, two := write(t, filepath.Join(folder, "one"), []byte("same")), write(t, filepath.Join(folder, "two"), []byte("same"))
	c := start(t, nil, "seed", "-m", m.url, one, two)
	c.says(c.stderr, "two: this content is shared already")
	c.says(c.stderr, "announced "+one)
	c.interrupt()
	c.ends(exitDone, "")
}

// More files than any queue has room for.
func TestManyFiles(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	var paths []string
	for i := range 600 {
		paths = append(paths, write(t, filepath.Join(folder, fmt.Sprint(i)), fmt.Append(nil, i)))
	}
	c := start(t, nil, append([]string{"seed", "-m", m.url}, paths...)...)
	c.says(c.stderr, "announced "+paths[len(paths)-1]+"\n")
	if n := strings.Count(c.stdout.String(), "\n"); n != len(paths) {
		t.Errorf("%d links", n)
	}
	link := strings.Fields(c.stdout.String())[299]
	out := t.TempDir()
	start(t, nil, "get", link, "-o", out).ends(exitDone, "complete")
	same(t, filepath.Join(out, "299"), []byte("299"))
	c.interrupt()
	c.ends(exitDone, "")
}

// A real process ends cleanly on a real signal.
func TestSignals(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	path := write(t, filepath.Join(folder, "file"), []byte("hello"))
	for _, test := range []struct {
		signal syscall.Signal
		args   []string
		until  string
		code   int
	}{
		{syscall.SIGINT, []string{"seed", path}, "announced", exitDone},
		{syscall.SIGTERM, []string{"seed", path}, "announced", exitDone},
		{syscall.SIGINT, []string{"get", "p2pcdn:" + strings.Repeat("0", 64) + "?xl=70000&dn=x"}, "connected", exitInterrupted},
	} {
		process := exec.Command(os.Args[0], test.args...)
		process.Dir = folder
		process.Env = append(os.Environ(), asCommand+"=1", "P2PCDN_MEDIATOR="+m.url)
		stderr, err := process.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stderr)
		said := false
		for lines.Scan() {
			if strings.Contains(lines.Text(), test.until) && !said {
				said = true
				if err := process.Process.Signal(test.signal); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = process.Wait() // its exit code says it
		if code := process.ProcessState.ExitCode(); !said || code != test.code {
			t.Errorf("%v: exit code %d instead of %d", test.args, code, test.code)
		}
		left(t, folder, "file")
	}
}

func TestPageMediator(t *testing.T) {
	hash := strings.Repeat("a", 64)
	for link, want := range map[string]string{
		"http://localhost:8080/preview/leecher_preview.html#" + hash + "?xl=1": "ws://localhost:8080/mediation",
		"https://example.org/preview/leecher_preview.html#" + hash + "?xl=1":   "wss://example.org/mediation",
		"https://example.org/somewhere/else.html#" + hash + "?xl=1":            "",
		"ftp://example.org/preview/leecher_preview.html#" + hash + "?xl=1":     "",
		"p2pcdn:" + hash + "?xl=1": "",
	} {
		if got := strings.Join(pageMediator(link), " "); got != want {
			t.Errorf("%s gave %q", link, got)
		}
	}
}
