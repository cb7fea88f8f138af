package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolatedVariable tells a process that it is apart; that it has the first process id says so too, and nobody can set that.
const isolatedVariable = "P2PCDN_LAB_ISOLATED"

// Missing says what this machine lacks for a lab, a line for each thing; none: nothing.
func Missing() (missing []string) {
	if os.Getuid() != 0 {
		missing = append(missing, "root's rights: network namespaces, TUN devices and firewalls are made (sudo, or a container with --privileged)")
	}
	if _, err := os.Stat(tunDevice); err != nil {
		missing = append(missing, fmt.Sprintf("TUN devices: %v (modprobe tun)", err))
	}
	findTools()
	for tool, where := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, fmt.Sprintf("the command %s (apt-get install %s)", tool, where))
		}
	}
	return missing
}

// findTools adds the folders of root's commands to the path, whoever's path this is.
func findTools() {
	const folders = "/usr/sbin:/sbin"
	if path := os.Getenv("PATH"); !strings.HasSuffix(path, folders) {
		_ = os.Setenv("PATH", path+":"+folders) // an error is one of the name
	}
}

// Isolated reports whether this process is apart.
func Isolated() bool { return os.Getpid() == 1 && os.Getenv(isolatedVariable) != "" }

// Apart is this program, with these arguments, in networks, mounts and processes of its own. It ends at
// the latest with the thread that starts it.
func Apart(args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	again := exec.Command(program, args...)
	again.Env = append(os.Environ(), isolatedVariable+"=yes")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	return again, nil
}

// Isolate runs this program again, apart, with the same arguments and more of its environment, waits for its end and returns
// its exit code. Signals that end this one are passed on to it. An error says that it could not be run.
func Isolate(environment ...string) (code int, err error) {
	again, err := Apart(os.Args[1:]...)
	if err != nil {
		return 0, err
	}
	again.Env = append(again.Env, environment...)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The other one must not outlive this one, and the kernel means a thread by that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := again.Start(); err != nil {
		return 0, fmt.Errorf("making networks, mounts and processes of its own: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- again.Wait() }()
	for {
		select {
		case s := <-signals:
			// Of a terminal's Ctrl-C it hears twice: a terminal signals all of its processes. Whoever signals this one alone
			// means that one too.
			_ = again.Process.Signal(s) // it may have ended
		case err := <-ended:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0, nil
			case errors.As(err, &exit) && exit.Exited():
				return exit.ExitCode(), nil
			}
			return 0, fmt.Errorf("the isolated process: %w", err)
		}
	}
}

// Prepare makes the isolated process a place for a lab: what it mounts, nobody else sees. The number is
// that by which others know this process, to enter it with nsenter.
func Prepare() (number string, err error) {
	findTools()
	if number, err = os.Readlink("/proc/self"); err != nil { // of those who mounted it
		return "", err
	}
	return number, prepare()
}

func prepare() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts from others: %w", err)
	}
	const names = "/run/netns" // the names of namespaces are mounts there
	if err := os.MkdirAll(names, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", names, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", names, err)
	}
	// Browsers look themselves up there.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return run("ip", "link", "set", "lo", "up")
}

// run runs a command of the system.
func run(command ...string) error {
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
