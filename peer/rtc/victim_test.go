package rtc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
)

const victimVariable = "RTC_TEST_VICTIM"

// victim is a peer in a process of its own, to be killed: it answers what comes
// on its standard input, one signal a line.
func victim() {
	handler := stdoutHandler{}
	conn := New(Config{}).Connect(Peering{Local: highID, Remote: lowID, Handler: handler})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, wire.MaxFrame)
	for lines.Scan() {
		if signal, err := ParseSignal(lines.Text()); err == nil {
			conn.Signal(signal)
		}
	}
}

type stdoutHandler struct{}

func (stdoutHandler) Signal(data string)     { fmt.Println(data) }
func (stdoutHandler) Reached(timeline.Phase) {}
func (stdoutHandler) Opened(int)             {}
func (stdoutHandler) Frame([]byte)           {}
func (stdoutHandler) Closed(error)           {}

// A peer whose process is killed says nothing; ICE notices.
func TestAKilledPeerIsNoticed(t *testing.T) {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), victimVariable+"=1")
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := newSide(t)
	s.send = func(signal Signal) { fmt.Fprintln(in, signal) } // a victim that is dead reads no more
	s.conn = New(Config{LostAfter: 2 * time.Second}).Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: s})
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, wire.MaxFrame)
		for lines.Scan() {
			if signal, err := ParseSignal(lines.Text()); err == nil {
				s.conn.Signal(signal)
			}
		}
	}()
	s.waitOpen()
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := s.waitClosed(); !errors.Is(err, ErrLost) {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(killed); took > 6*time.Second {
		t.Errorf("noticed after %v", took)
	}
	<-read
	_ = command.Wait() // it was killed
}
