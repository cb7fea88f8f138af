package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// takenPort returns a port that somebody else has.
func takenPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
}

// freePort returns one that nobody has, and that no connection is given (from 32768 on).
func freePort(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		port := fmt.Sprint(20_000 + rand.IntN(12_000))
		var listener net.Listener
		if listener, err = net.Listen("tcp", ":"+port); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal(err)
	return ""
}

const someLink = "p2pcdn:6c3e00000000000000000000000000000000000000000000000000000000ffff?xl=70000"

func TestAPortThatIsNone(t *testing.T) {
	for _, port := range []string{"-1", "65536", "http", "", "1.5"} {
		start(t, nil, "seed", "--ice-tcp", port, "file").ends(exitUsage, "--ice-tcp")
		start(t, nil, "get", "--ice-tcp", port, someLink).ends(exitUsage, "--ice-tcp")
	}
	start(t, []setting{environment("P2PCDN_ICE_TCP", "65536")}, "seed", "file").ends(exitUsage, "P2PCDN_ICE_TCP")
}

// It is said before the files are hashed and before anything is printed.
func TestAPortThatIsTaken(t *testing.T) {
	port := takenPort(t)
	file := write(t, filepath.Join(t.TempDir(), "file"), bytesOf(1000))
	for _, c := range []*command{
		start(t, nil, "seed", "--ice-tcp", port, file),
		start(t, []setting{environment("P2PCDN_ICE_TCP", port)}, "seed", file),
		start(t, nil, "get", "--ice-tcp", port, "-o", file+".got", someLink),
	} {
		c.ends(exitFailed, "taking WebRTC over TCP: listen tcp :"+port)
		if c.stdout.String() != "" {
			t.Errorf("said:\n%s", c.stdout)
		}
	}
}

// A port that was opened is closed, whether or not it came to anything.
func TestThePortIsClosedAtTheEnd(t *testing.T) {
	m := startMediator(t)
	port := freePort(t)
	folder := t.TempDir()
	start(t, nil, "seed", "--ice-tcp", port, filepath.Join(folder, "none")).ends(exitFailed, "(missing)")
	seeder := start(t, nil, "seed", "--mediator", m.url, "--ice-tcp", port, write(t, filepath.Join(folder, "file"), bytesOf(70_000)))
	seeder.says(seeder.stderr, "announced")
	if conn, err := net.Dial("tcp", "localhost:"+port); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	if strings.Contains(seeder.stderr.String(), port) {
		t.Errorf("it speaks of the port:\n%s", seeder.stderr)
	}
	got := start(t, nil, "get", "--ice-tcp", freePort(t), "-o", filepath.Join(folder, "got"), strings.TrimSpace(seeder.stdout.String()))
	got.ends(exitDone, "complete")
	same(t, filepath.Join(folder, "got"), bytesOf(70_000))
	seeder.interrupt()
	seeder.ends(exitDone, "")
	again, err := net.Listen("tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
