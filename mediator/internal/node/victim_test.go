package node

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// victim is a mediator in a process of its own, so that it can be killed
// without a word.
type victim struct {
	process *exec.Cmd
	node    *Node // holds the address alone
}

// victimBootstrap is the variable that makes the test binary a victim.
const victimBootstrap = "P2PCDN_TEST_VICTIM_BOOTSTRAP"

func startVictim(t *testing.T, bootstrap string) *victim {
	t.Helper()
	process := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	process.Env = append(os.Environ(), victimBootstrap+"="+bootstrap, "TMPDIR="+t.TempDir()) // it cannot clear up behind itself
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill() // if it is not dead yet
		_ = process.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address, err := net.ResolveTCPAddr("tcp", strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the victim said %q", line)
	}
	return &victim{process, &Node{address: address}}
}

func (v *victim) connect(t *testing.T) *peer {
	t.Helper()
	return connect(t, v.node)
}

func (v *victim) kill(t *testing.T) {
	t.Helper()
	if err := v.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.process.Wait() // it says that it was killed
}

// TestVictim is the victim's process, and no test otherwise.
func TestVictim(t *testing.T) {
	bootstrap := os.Getenv(victimBootstrap)
	if bootstrap == "" {
		return
	}
	n, err := New(t.Context(), loopback(t, bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the victim has joined", func() bool { return n.Status().Discovery.Peers > 0 })
	fmt.Println(n.Addr())
	if err := n.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}
