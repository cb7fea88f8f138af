package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"p2pcdn/scripts/lab/plan"
	"p2pcdn/scripts/lab/router"
)

const (
	tunDevice = "/dev/net/tun"

	// linkName is what the device is called at which a host, or its NAT, is linked.
	linkName = "lab0"

	// queueTime is what fits the queue of a link, at its rate, where the lab file does not say it, and leastQueue
	// what fits at least: a burst of a TCP connection.
	queueTime  = 100 * time.Millisecond
	leastQueue = 64 << 10
)

// Network is a network of hosts. It must be closed. Its methods may be called together.
type Network struct {
	Hosts []*Host
	loop  *loop
	made  []string // names of namespaces
}

// Host is one of its machines.
type Host struct {
	Name    string
	Address netip.Addr // at which others reach it, or see it: that of its NAT, if it has one
	NAT     plan.NAT
	ns      *os.File // its namespace
}

// Build makes the network, in an isolated process.
func Build(seed uint64, hosts []plan.Host) (_ *Network, err error) {
	n := &Network{}
	var tuns []int
	defer func() {
		if err != nil {
			for _, tun := range tuns {
				_ = unix.Close(tun)
			}
			err = errors.Join(err, n.Close())
		}
	}()
	links := make([]router.Host, len(hosts))
	for i, host := range hosts {
		address := netip.AddrFrom4([4]byte{45, 67, byte(i + 1), 2})
		links[i] = linkOf(address, host.Link)
		tun, err := n.add(host, address)
		if tun >= 0 {
			tuns = append(tuns, tun)
		}
		if err != nil {
			return nil, fmt.Errorf("making host %s: %w", host.Name, err)
		}
	}
	if n.loop, err = startLoop(router.New(seed, links), tuns); err != nil {
		return nil, err
	}
	return n, nil
}

func linkOf(address netip.Addr, l plan.Link) router.Host {
	direction := func(rate int64) router.Direction {
		queue := l.Queue
		if queue == 0 {
			queue = max(leastQueue, int(float64(rate)/8*queueTime.Seconds()))
		}
		return router.Direction{Delay: l.Delay, Jitter: l.Jitter, Loss: l.Loss, Rate: rate, Queue: queue, Reorder: l.Reorder}
	}
	return router.Host{Address: address, Up: direction(l.Up), Down: direction(l.Down)}
}

// add makes a host, and returns the TUN device by which it is linked; -1: there is none yet.
func (n *Network) add(host plan.Host, address netip.Addr) (tun int, err error) {
	h := &Host{Name: host.Name, Address: address, NAT: host.NAT}
	n.Hosts = append(n.Hosts, h)
	if h.ns, err = n.namespace(host.Name); err != nil {
		return -1, err
	}
	linked := h
	if behindNAT := host.NAT != plan.NoNAT && host.NAT != ""; behindNAT {
		linked = &Host{Name: host.Namespaces()[1]}
		if linked.ns, err = n.namespace(linked.Name); err != nil {
			return -1, err
		}
		defer linked.ns.Close() // its name keeps it
	}
	err = linked.Do(func() (err error) {
		tun, err = openTUN()
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("making its TUN device: %w", err)
	}
	commands := [][]string{
		{"link", "set", linkName, "mtu", fmt.Sprint(router.MaxPacket), "up"},
		{"address", "add", address.String() + "/32", "dev", linkName},
		{"route", "add", "default", "dev", linkName},
	}
	for _, command := range commands {
		if err := linked.ip(command...); err != nil {
			return tun, err
		}
	}
	if linked != h {
		err = translate(linked, h, host.NAT)
	}
	return tun, err
}

// namespace makes one. The file is open for as long as threads enter it.
func (n *Network) namespace(name string) (*os.File, error) {
	if err := run("ip", "netns", "add", name); err != nil {
		return nil, err
	}
	n.made = append(n.made, name)
	ns, err := os.Open("/run/netns/" + name)
	if err != nil {
		return nil, err
	}
	if err := run("ip", "-n", name, "link", "set", "lo", "up"); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

func (h *Host) ip(command ...string) error {
	return run(append([]string{"ip", "-n", h.Name}, command...)...)
}

// openTUN makes a TUN device in the namespace of this thread.
func openTUN() (fd int, err error) {
	if fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("opening %s: %w", tunDevice, err)
	}
	request, err := unix.NewIfreq(linkName)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		// Packets of IPv6 would be for nobody: hosts have no such address.
		err = os.WriteFile("/proc/sys/net/ipv6/conf/"+linkName+"/disable_ipv6", []byte("1"), 0)
		if errors.Is(err, os.ErrNotExist) { // the kernel has no IPv6
			err = nil
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Close ends the network. Programs that run on its hosts are to be ended before.
func (n *Network) Close() error {
	var errs []error
	if n.loop != nil {
		errs = append(errs, n.loop.close())
	}
	for _, h := range n.Hosts {
		if h.ns != nil {
			errs = append(errs, h.ns.Close())
		}
	}
	for _, name := range n.made {
		errs = append(errs, run("ip", "netns", "del", name))
	}
	return errors.Join(errs...)
}

// Host returns the host of this name; nil: there is none.
func (n *Network) Host(name string) *Host {
	for _, h := range n.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Stats is what happened at the link of each host so far, in the order of the hosts.
func (n *Network) Stats() []router.Stats { return n.loop.stats() }

// Lateness is how late packets were delivered, by the router's own clock.
func (n *Network) Lateness() Lateness { return n.loop.late.read() }

// Do calls f on a thread that is in the host's network: sockets that it makes there, and processes that it
// starts, belong to it from then on. f must not leave that for another goroutine.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("entering the network of %s: %w", h.Name, err)
			return
		}
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine, and nobody else gets it
		}
		result <- err
	}()
	return <-result
}

// Start starts a command on the host.
func (h *Host) Start(command *exec.Cmd) error { return h.Do(command.Start) }

// Dial connects from the host; the address is one of IPv4, without a name.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("there are no names in a lab: %w", err)
	}
	err = h.Do(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Sweep kills all programs that are still on the hosts, as browsers whose starter was killed. It must
// not be called while others start or await processes: what has ended is collected, whosever it was.
func (n *Network) Sweep() {
	homes := make(map[string]bool) // what /proc calls the hosts' namespaces
	for _, h := range n.Hosts {
		if info, err := h.ns.Stat(); err == nil {
			homes[fmt.Sprintf("net:[%d]", info.Sys().(*syscall.Stat_t).Ino)] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil || id == os.Getpid() {
			continue
		}
		if home, err := os.Readlink("/proc/" + entry.Name() + "/ns/net"); err == nil && homes[home] {
			_ = unix.Kill(id, unix.SIGKILL) // it may have ended by now
		}
	}
	// Those whose parents have ended are children of the first process, which is this one.
	for {
		if id, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || id <= 0 {
			return
		}
	}
}
