package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2pcdn/common/content"
)

// slowly makes a seeder slow enough for a get to be caught in the middle: two megabytes take four seconds.
const slowly = "--upload-limit=500K"

// seedSlowly serves a file, slowly, and returns its link and what it holds.
func seedSlowly(t *testing.T, m *testMediator) (link string, data []byte) {
	t.Helper()
	data = bytesOf(2 << 20)
	path := write(t, filepath.Join(t.TempDir(), "file"), data)
	c := start(t, nil, "seed", "-m", m.url, slowly, path)
	c.says(c.stderr, "announced")
	return strings.TrimSpace(c.stdout.String()), data
}

// half is what get says when it has more than a tenth, and not all.
var half = regexp.MustCompile(`downloading from 1 peer: ([2-9]\d\d\.\d kB|1\.\d MB) of 2\.1 MB`)

// saysLike waits until the screen shows what matches.
func (c *command) saysLike(s *screen, pattern *regexp.Regexp) {
	c.t.Helper()
	deadline := time.After(patience)
	for !pattern.MatchString(s.String()) {
		select {
		case <-s.changed:
		case <-deadline:
			c.t.Fatalf("%s was not said:\n%s%s", pattern, c.stdout, c.stderr)
		}
	}
}

// unfinished returns the names of the part files in a folder.
func unfinished(t *testing.T, folder string) []string {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(folder, ".*.part"))
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestAnInterruptedGetGoesOn(t *testing.T) {
	m := startMediator(t)
	link, data := seedSlowly(t, m)
	out := t.TempDir()
	interrupt := func(args ...string) *command {
		c := start(t, nil, append([]string{"get", link, "-o", out}, args...)...)
		c.saysLike(c.stderr, half)
		start(t, nil, "get", link, "-o", out).ends(exitFailed, "another process is fetching it to this place")
		c.interrupt()
		c.ends(exitInterrupted, "interrupted; what is there is kept: run it again to go on")
		if parts := unfinished(t, out); len(parts) != 1 {
			t.Errorf("what is there: %q", parts)
		}
		return c
	}
	interrupt()
	c := interrupt("--fresh")
	if strings.Contains(c.stderr.String(), "going on") {
		t.Errorf("it does not begin anew:\n%s", c.stderr)
	}
	c = start(t, []setting{terminal}, "get", link, "-o", out)
	c.ends(exitDone, "complete")
	if !regexp.MustCompile(`going on with ([3-9]|[12]\d|3[01]) of 32 pieces`).MatchString(c.stderr.String()) {
		t.Errorf("it does not go on:\n%s", c.stderr)
	}
	same(t, filepath.Join(out, "file"), data)
	left(t, out, "file")
}

// describe writes a file's info dictionary, and returns it and its path.
func describe(t *testing.T, path string) (content.Info, string) {
	t.Helper()
	c := start(t, nil, "info", path)
	c.ends(exitDone, "")
	info, err := content.ParseInfo([]byte(c.stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	return info, write(t, filepath.Join(t.TempDir(), "info.json"), []byte(c.stdout.String()))
}

// interrupted puts what a get would have left that was interrupted after so many bytes.
func interrupted(t *testing.T, folder string, info content.Info, data []byte) {
	t.Helper()
	write(t, filepath.Join(folder, fmt.Sprintf(".%s.%s.part", info.FileName, info.FullHash.String()[:16])), data)
}

// What is there is kept also where get gives up by itself, and is enough where it is everything.
func TestAGetThatTimesOutIsKept(t *testing.T) {
	m := startMediator(t)
	data := bytesOf(2 << 20)
	info, dictionary := describe(t, write(t, filepath.Join(t.TempDir(), "file"), data))
	out := t.TempDir()
	interrupted(t, out, info, data[:1<<20])
	c := start(t, nil, "get", dictionary, "-m", m.url, "-o", out, "--timeout", "500ms")
	c.ends(exitFailed, "nobody was found who has this content, of this length; 16 of 32 pieces are kept: run it again to go on")
	if text := c.stderr.String(); !strings.Contains(text, "going on with 16 of 32 pieces") {
		t.Errorf("it does not go on:\n%s", text)
	}
	interrupted(t, out, info, data)
	start(t, nil, "get", dictionary, "-m", m.url, "-o", out).ends(exitDone, "going on with 32 of 32 pieces")
	same(t, filepath.Join(out, "file"), data)
	left(t, out, "file")
}

// A real process that is killed in the middle.
func TestAKilledGetGoesOn(t *testing.T) {
	m := startMediator(t)
	link, data := seedSlowly(t, m)
	out := t.TempDir()
	process := exec.Command(os.Args[0], "get", link, "-o", out)
	process.Env = append(os.Environ(), asCommand+"=1")
	told := newScreen()
	process.Stderr = told
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	(&command{t: t, stdout: told, stderr: told}).saysLike(told, half)
	if err := process.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // it was killed
	if parts := unfinished(t, out); len(parts) != 1 {
		t.Errorf("what is there: %q", parts)
	}
	start(t, nil, "get", link, "-o", out).ends(exitDone, "going on with")
	same(t, filepath.Join(out, "file"), data)
	left(t, out, "file")
}

func TestSeveralAtOnce(t *testing.T) {
	m := startMediator(t)
	folder, out := t.TempDir(), t.TempDir()
	one := write(t, filepath.Join(folder, "one"), bytesOf(300_000))
	two := write(t, filepath.Join(folder, "two"), bytesOf(200_000))
	seeder, _ := seed(t, m, one, two)
	links := strings.Fields(seeder.stdout.String())
	const absent = "p2pcdn:6c3e00000000000000000000000000000000000000000000000000000000ffff?xl=70000&dn=absent"

	t.Run("all are there", func(t *testing.T) {
		c := start(t, nil, "get", links[0], links[1], "-o", out)
		c.ends(exitDone, "complete: "+filepath.Join(out, "one"))
		if text := c.stderr.String(); !strings.Contains(text, "complete: "+filepath.Join(out, "two")) || !strings.Contains(text, filepath.Join(out, "two")+": downloading") {
			t.Errorf("it says:\n%s", text)
		}
		same(t, filepath.Join(out, "one"), bytesOf(300_000))
		same(t, filepath.Join(out, "two"), bytesOf(200_000))
		left(t, out, "one", "two")
	})
	says := func(t *testing.T, c *command, texts ...string) {
		for _, text := range texts {
			if !strings.Contains(c.stderr.String(), text) {
				t.Errorf("it does not say %q:\n%s", text, c.stderr)
			}
		}
	}
	t.Run("some cannot be begun", func(t *testing.T) {
		if err := os.Remove(filepath.Join(out, "two")); err != nil {
			t.Fatal(err)
		}
		again := strings.Replace(links[1], "dn=two", "dn=again", 1)
		c := start(t, []setting{terminal}, "get", links[0], links[1], again, "-o", out)
		c.ends(exitFailed, "2 of 3 contents could not be fetched")
		says(t, c, "peer: "+filepath.Join(out, "one")+": there is a file of that name already",
			"peer: "+filepath.Join(out, "again")+": this content is shared already", "complete: "+filepath.Join(out, "two"))
		same(t, filepath.Join(out, "two"), bytesOf(200_000))
		left(t, out, "one", "two")
	})
	t.Run("one is nowhere", func(t *testing.T) {
		out := t.TempDir()
		info, dictionary := describe(t, one)
		interrupted(t, out, info, bytesOf(300_000)) // it takes no peer to be complete
		c := start(t, nil, "get", absent, dictionary, "-m", m.url, "-o", out, "--timeout", "500ms")
		c.ends(exitFailed, "1 of 2 contents could not be fetched")
		says(t, c, "peer: "+filepath.Join(out, "absent")+": no piece arrived for 500ms: nobody was found", "complete: "+filepath.Join(out, "one"))
		left(t, out, "one")
	})
	t.Run("none can be begun", func(t *testing.T) {
		start(t, nil, "get", links[0], links[1], "-o", out).ends(exitFailed, "2 of 2 contents could not be fetched")
	})
	t.Run("and served on", func(t *testing.T) {
		c := start(t, nil, "get", links[0], links[1], "-o", t.TempDir(), "--seed-after")
		c.says(c.stderr, "serving until interrupted")
		seeder.interrupt()
		seeder.ends(exitDone, "")
		start(t, nil, "get", links[1], "-o", filepath.Join(out, "three")).ends(exitDone, "complete")
		c.interrupt()
		c.ends(exitDone, "")
	})
}

// writer sets standard output.
func writer(to io.Writer) setting { return func(w *world) { w.stdout = to } }

func TestToStandardOutput(t *testing.T) {
	m := startMediator(t)
	link, data := seedSlowly(t, m)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)

	t.Run("as it comes", func(t *testing.T) {
		c := start(t, nil, "get", link, "-o", "-")
		deadline := time.After(patience)
		for len(c.stdout.String()) == 0 {
			select {
			case <-c.stdout.changed:
			case <-deadline:
				t.Fatalf("nothing comes:\n%s", c.stderr)
			}
		}
		if strings.Contains(c.stderr.String(), "complete") {
			t.Error("nothing came before the end")
		}
		c.ends(exitDone, "complete: standard output, 2.1 MB")
		if c.stdout.String() != string(data) {
			t.Errorf("%d bytes came, or others", len(c.stdout.String()))
		}
	})
	t.Run("nobody reads on", func(t *testing.T) {
		reader, to := io.Pipe()
		c := start(t, []setting{writer(to)}, "get", link, "-o", "-")
		first := make([]byte, 1000)
		if _, err := io.ReadFull(reader, first); err != nil || !bytes.Equal(first, data[:1000]) {
			t.Errorf("other bytes: %v", err)
		}
		reader.Close()
		c.ends(exitFailed, "")
		if strings.Contains(c.stderr.String(), "\npeer: ") {
			t.Errorf("it is not quiet:\n%s", c.stderr)
		}
	})
	t.Run("nobody reads, and it is interrupted", func(t *testing.T) {
		reader, to := io.Pipe()
		defer reader.Close() // which ends who writes
		c := start(t, []setting{writer(to)}, "get", link, "-o", "-")
		c.saysLike(c.stderr, half)
		c.interrupt()
		c.ends(exitInterrupted, "peer: interrupted\n")
	})
	t.Run("writing fails", func(t *testing.T) {
		c := start(t, []setting{writer(brokenWriter{})}, "get", link, "-o", "-")
		c.ends(exitFailed, "writing to standard output: out of order")
	})
	t.Run("nobody has it", func(t *testing.T) {
		start(t, nil, "get", someLink, "-m", m.url, "-o", "-", "--timeout", "500ms").ends(exitFailed, "no piece arrived")
	})
	t.Run("a real pipe that is closed", func(t *testing.T) {
		process := exec.Command(os.Args[0], "get", link, "-o", "-")
		process.Env = append(os.Environ(), asCommand+"=1")
		told := newScreen()
		process.Stderr = told
		stdout, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1000)
		if _, err := io.ReadFull(stdout, first); err != nil || !bytes.Equal(first, data[:1000]) {
			t.Errorf("other bytes: %v", err)
		}
		stdout.Close()
		_ = process.Wait() // its exit code says it
		if code := process.ProcessState.ExitCode(); code != exitFailed || strings.Contains(told.String(), "\npeer: ") {
			t.Errorf("exit code %d:\n%s", code, told)
		}
	})
	left(t, temporary)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("out of order") }

// Whichever side has the limit, a transfer takes as long as it has to.
func TestLimits(t *testing.T) {
	m := startMediator(t)
	const length, rate = 1_000_000, 500_000
	path := write(t, filepath.Join(t.TempDir(), "file"), bytesOf(length))
	for _, test := range []struct{ seeder, leecher string }{
		{"--upload-limit=500K", ""},
		{"--peer-upload-limit=500KB/s", ""},
		{"", "--download-limit=500000"},
	} {
		t.Run(strings.Trim(test.seeder+test.leecher, "-"), func(t *testing.T) {
			args := func(flag string, args ...string) []string {
				if flag != "" {
					args = append(args, flag)
				}
				return args
			}
			seeder := start(t, nil, args(test.seeder, "seed", "-m", m.url, path)...)
			seeder.says(seeder.stderr, "announced")
			began := time.Now()
			start(t, nil, args(test.leecher, "get", strings.TrimSpace(seeder.stdout.String()), "-o", t.TempDir())...).ends(exitDone, "complete")
			// A limiter lets some through at once: less than half a second's worth.
			if took, least := time.Since(began), (length/rate-1)*time.Second; took < least {
				t.Errorf("it took %v, less than %v", took, least)
			}
			seeder.interrupt()
			seeder.ends(exitDone, "")
		})
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]byteRate{
		"0": 0, "1000": 1000, "500K": 500_000, "500k": 500_000, "2M": 2_000_000, "2MB": 2_000_000, "2 MB/s": 2_000_000,
		"1.5MiB": 3 << 19, "1G": 1_000_000_000, "4GiB/s": 4 << 30, "1Ki": 1024, "0.5M": 500_000,
	} {
		var rate byteRate
		if err := rate.Set(text); err != nil || rate != want || rate.String() != fmt.Sprint(int64(want)) {
			t.Errorf("%q is %v: %v", text, &rate, err)
		}
	}
	for _, text := range []string{"", "K", "-1M", "1T", "1e6", "many", "1 000 000", "1i", "500", "0.5K", ".5M", "99999999999G", "1Mi B", "1M/h"} {
		var rate byteRate
		if err := rate.Set(text); err == nil {
			t.Errorf("%q is %v", text, &rate)
		}
	}
}

// What is asked for on the command line is what the client is told.
func TestNetworkFlags(t *testing.T) {
	n := networkFlags{upload: 1000, download: 2000, peerUpload: 3000, slots: amount{n: 4}, peers: amount{n: 50}}
	config := n.config(nil, newInbox())
	if config.UploadLimit != 1000 || config.DownloadLimit != 2000 || config.PeerUploadLimit != 3000 || config.UploadSlots != 4 ||
		config.MaxLeech != 50 || config.MaxServe != 50 || config.MaxConnections != 100 {
		t.Errorf("%+v", config)
	}
	config = new(networkFlags).config(nil, newInbox())
	if config.UploadLimit != 0 || config.UploadSlots != 0 || config.MaxLeech != 0 || config.MaxConnections != 0 {
		t.Errorf("%+v instead of the defaults", config)
	}
}
