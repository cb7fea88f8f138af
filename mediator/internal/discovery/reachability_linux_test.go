package discovery

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// again runs the test once more, in a process that has a user and a network
// namespace of its own. They end with it.
func again(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("it needs ip, of iproute2")
	}
	isolated := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if probe := exec.Command("true"); true {
		probe.SysProcAttr = isolated
		if err := probe.Run(); err != nil {
			t.Skipf("no network namespaces here: %v", err)
		}
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), inside+"=1")
	command.SysProcAttr = isolated
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
