package network

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"p2pcdn/scripts/lab/router"
)

// burst is how many packets of one host are read before the others have their turn.
const burst = 64

// loop carries packets between TUN devices. One goroutine owns all of it, run, on a thread of its own: it
// waits by the kernel's own timers, which are exact to some microseconds, where those of Go's runtime, while
// nothing else happens, are to a millisecond.
type loop struct {
	router *router.Router // run's
	tuns   []int          // static
	wake   int            // an eventfd; static
	start  time.Time      // static
	asked  chan chan<- []router.Stats
	ended  chan struct{} // closed by run
	ending atomic.Bool
	lead   time.Duration // run's: how long before something is due it wants to be woken
	late   lateness
}

// maxLead bounds the lead: what is more is no machine's way of waking, but one that is busy.
const maxLead = 200 * time.Microsecond

func startLoop(r *router.Router, tuns []int) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an eventfd: %w", err)
	}
	l := &loop{router: r, tuns: tuns, wake: wake, start: time.Now(), asked: make(chan chan<- []router.Stats, 1), ended: make(chan struct{})}
	go l.run()
	return l, nil
}

func (l *loop) run() {
	// Never unlocked: the thread ends with this goroutine, and its priority with it.
	runtime.LockOSThread()
	defer close(l.ended)
	l.hurry()
	fds := make([]unix.PollFd, 0, len(l.tuns)+1)
	for _, fd := range append([]int{l.wake}, l.tuns...) {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	packet := make([]byte, router.MaxPacket+1)
	deliver := l.deliver // once, since it is an object
	for !l.ending.Load() {
		l.router.Deliver(time.Since(l.start)+l.lead, deliver)
		called, timeout := l.wait()
		n, err := unix.Ppoll(fds, timeout, nil)
		if err != nil || n <= 0 {
			if n == 0 && err == nil {
				l.learn(called)
			}
			continue // a signal, or something is due
		}
		if fds[0].Revents != 0 {
			l.answer()
		}
		for host, fd := range fds[1:] {
			if fd.Revents&unix.POLLIN != 0 {
				l.read(host, packet)
			}
		}
	}
}

// hurry has the kernel prefer this thread to every program of the lab: what it does is short, and what is late is measured
// by them as the network's. Where that is not allowed, Lateness tells what came of it.
func (l *loop) hurry() {
	attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	_ = unix.SchedSetAttr(0, &attributes, 0)
}

// wait says for when it calls itself, and how long that is; nil: nothing is due.
func (l *loop) wait() (called time.Duration, timeout *unix.Timespec) {
	due, some := l.router.Next()
	if !some {
		return 0, nil
	}
	now := time.Since(l.start)
	called = max(now, due-l.lead)
	t := unix.NsecToTimespec(int64(called - now))
	return called, &t
}

// learn has the lead be how late calls come, on the average of the last ones: a processor that slept takes some tens of
// microseconds to wake. So packets are as often a little early as they are a little late.
func (l *loop) learn(called time.Duration) {
	late := time.Since(l.start) - called
	l.lead = min(l.lead+(late-l.lead)/16, maxLead)
}

// read takes the packets that a host has sent, up to a burst.
func (l *loop) read(host int, packet []byte) {
	for range burst {
		n, err := unix.Read(l.tuns[host], packet)
		if err != nil { // there is none any more
			return
		}
		l.router.Send(time.Since(l.start), host, packet[:n])
	}
}

// deliver gives a packet to its host. One that the kernel does not take is lost, as on a machine without memory.
func (l *loop) deliver(due time.Duration, host int, packet []byte) {
	l.late.count(time.Since(l.start) - due)
	_, _ = unix.Write(l.tuns[host], packet)
}

// answer is what other goroutines woke this one for.
func (l *loop) answer() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	select {
	case to := <-l.asked:
		stats := make([]router.Stats, len(l.tuns))
		for i := range stats {
			stats[i] = l.router.Stats(i)
		}
		to <- stats
	default:
	}
}

func (l *loop) rouse() {
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it is full only if it is awake
}

func (l *loop) stats() []router.Stats {
	to := make(chan []router.Stats, 1)
	select {
	case l.asked <- to:
	case <-l.ended:
		return nil
	}
	l.rouse()
	select {
	case stats := <-to:
		return stats
	case <-l.ended:
		return nil
	}
}

func (l *loop) close() error {
	l.ending.Store(true)
	l.rouse()
	<-l.ended
	errs := []error{unix.Close(l.wake)}
	for _, tun := range l.tuns {
		errs = append(errs, unix.Close(tun))
	}
	return errors.Join(errs...)
}

// lateness counts by powers of two of microseconds: bucket i holds what was off by at least 2^(i-1) µs, and less than 2^i.
type lateness [24]atomic.Uint64

func (l *lateness) count(late time.Duration) {
	l[min(bits.Len64(uint64(late.Abs().Microseconds())), len(l)-1)].Add(1)
}

// Lateness is how much later than due, or earlier, packets were delivered. It grows where other programs keep the router from
// running, and then what was measured is the machine as much as the network.
type Lateness struct {
	Packets uint64        `json:"packets"`
	P50     time.Duration `json:"p50_ns"` // at most
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`
	Off     uint64        `json:"off"` // packets that were off by more than a millisecond
}

func (l *lateness) read() (out Lateness) {
	var counts [len(l)]uint64
	for i := range l {
		counts[i] = l[i].Load()
		out.Packets += counts[i]
	}
	sum := uint64(0)
	for i, count := range counts {
		if count == 0 {
			continue
		}
		sum += count
		if i > 10 { // 1024 µs
			out.Off += count
		}
		top := time.Duration(1<<i) * time.Microsecond
		if out.P50 == 0 && 2*sum >= out.Packets {
			out.P50 = top
		}
		if out.P99 == 0 && 100*sum >= 99*out.Packets {
			out.P99 = top
		}
		out.Max = top
	}
	return out
}
