package scripts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Some tests run programs on machines of their own, which are network namespaces around a
// router. Such a test runs as a process that is apart from this machine in everything that it changes:
// networks, mounts and processes. So several runs cannot meet, and however one ends, nothing is left.

// inOwnNetwork is the variable that tells a test that it is such a process.
const inOwnNetwork = "P2PCDN_TEST_IN_OWN_NETWORK"

// runInOwnNetwork runs the test again as such a process, which is the router, and reports
// whether this is it. It skips the test where that cannot be done.
func runInOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inOwnNetwork) != "" {
		becomeRouter(t)
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // where root's commands are, whoever's path this is
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed (iproute2)")
	}
	folder, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inOwnNetwork+"=yes", builtPrograms+"="+folder)
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL, // and with the first process of its namespace all others end
	}
	said, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("network namespaces cannot be made: %v", err)
	}
	t.Logf("in a network of its own:\n%s", said)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func becomeRouter(t *testing.T) {
	t.Helper()
	// The names of namespaces are mounts, which nobody else is to see.
	const names = "/run/netns"
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(names, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", names, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	ip(t, "link set lo up")
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

// ip changes the network.
func ip(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// machine is a network namespace that reaches the others by way of the router.
type machine struct {
	name    string
	address string // IPv4
}

// newMachine makes the nth machine, from 1 on. Their network is a private one: mediators name
// no others of those that are for tests.
func newMachine(t *testing.T, n int) machine {
	t.Helper()
	return newMachineIn(t, n, fmt.Sprintf("10.9.%d", n))
}

// newMachineIn makes the nth machine, in a network of its own whose addresses begin so: its own is .2, and that
// of the router, whose interface there is called link and the number, .1.
func newMachineIn(t *testing.T, n int, network string) machine {
	t.Helper()
	m := machine{fmt.Sprint("machine", n), network + ".2"}
	router, link := network+".1", fmt.Sprint("link", n)
	ip(t, "netns add "+m.name)
	ip(t, "link add "+link+" type veth peer name eth0 netns "+m.name)
	ip(t, "address add "+router+"/24 dev "+link)
	ip(t, "link set "+link+" up")
	ip(t, "-n "+m.name+" address add "+m.address+"/24 dev eth0")
	ip(t, "-n "+m.name+" link set lo up")
	ip(t, "-n "+m.name+" link set eth0 up")
	ip(t, "-n "+m.name+" route add default via "+router)
	return m
}

// start runs a program there.
func (m machine) start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startBehind(t, []string{"ip", "netns", "exec", m.name}, name, args...)
}

// cutOff has everything from and to it vanish: nobody is told, as where a line far away breaks.
func (m machine) cutOff(t *testing.T) { m.blackhole(t, "add") }

// heal ends that.
func (m machine) heal(t *testing.T) { m.blackhole(t, "del") }

func (m machine) blackhole(t *testing.T, change string) {
	t.Helper()
	ip(t, "rule "+change+" from "+m.address+" blackhole")
	ip(t, "rule "+change+" to "+m.address+" blackhole")
}

// await looks again and again: there is no event across processes.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// readJSON reads what is at the URL.
func readJSON(t *testing.T, url string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}
