// Package router decides what becomes of each packet between the hosts of a lab: when it is there, and whether it
// gets there at all. It knows no clock, no device and no goroutine: time is handed in, and packets come out.
//
// # The model
//
// The network is a star. Each host has a link to a hub, with two directions: up, from the host, and down, to it. A packet
// passes the up direction of who sends it and the down direction of who is to get it, and in each of them, in this order:
//
//  1. It waits until those before it are sent. Where more than Queue bytes wait already, it is dropped at the tail.
//  2. It is sent, which takes its length at the direction's Rate.
//  3. It may be lost, by chance, after it has taken that time.
//  4. It travels for Delay, and for up to Jitter more, by chance; it overtakes nothing unless Reorder says that it may.
//
// Two hosts whose links have a delay of 12.5 ms each are so 25 ms apart one way, and 50 ms by round trip.
//
// Chance is a generator for each direction, seeded with the lab's seed and the direction's place: what one host
// sends changes nothing for the others.
package router

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

const (
	// MaxPacket is the longest packet that is carried, in bytes: what Ethernet carries, which WebRTC and
	// QUIC take for granted.
	MaxPacket = 1500

	// maxHeld bounds the packets that are on their way at any time, of all hosts together: 64 MiB of them. A link of 1 Gbit/s
	// and 100 ms holds 12.5 MB. What is above that is dropped, and counted as Overflow.
	maxHeld = 64 << 20 / MaxPacket
)

// Direction is how a link is in one direction.
type Direction struct {
	Delay   time.Duration // one way, at least 0
	Jitter  time.Duration // at most so much is added to Delay, evenly distributed
	Loss    float64       // the part of the packets that is lost, 0 to 1
	Rate    int64         // bits per second, above 0
	Queue   int           // bytes that may wait to be sent
	Reorder bool          // Jitter may have packets overtake others
}

// Host is a host at its link.
type Host struct {
	Address  netip.Addr // IPv4, one of its own
	Up, Down Direction
}

// Stats counts the packets of a host's link. All of them only grow.
type Stats struct {
	Sent      uint64 // read from the host
	Delivered uint64 // written to the host
	Bytes     uint64 // of those that were delivered
	LostUp    uint64 // by chance
	LostDown  uint64
	FullUp    uint64 // dropped at the tail of a queue
	FullDown  uint64
	Overflow  uint64 // the router held as many as it may
	Misguided uint64 // sent to nobody who is here, or no packets of IPv4
}

// Router is the hub and all links. Its methods are for one goroutine alone, which owns it.
type Router struct {
	hosts  []host
	byAddr map[[4]byte]int
	events events
	number uint64   // of the next event
	held   int      // buffers that are in use
	free   [][]byte // those that are not, of MaxPacket each
}

type host struct {
	up, down direction
	stats    Stats
}

// direction is one with its state.
type direction struct {
	Direction
	chance *rand.Rand
	idle   time.Duration // when all that waits now is sent
	last   time.Duration // when the last of those that were sent arrives
}

// New makes a router. Times are counted from a moment of the caller's choice, which must not be after the first.
func New(seed uint64, hosts []Host) *Router {
	r := &Router{byAddr: make(map[[4]byte]int, len(hosts)), hosts: make([]host, len(hosts))}
	for i, h := range hosts {
		r.byAddr[h.Address.As4()] = i
		r.hosts[i].up = newDirection(h.Up, seed, 2*uint64(i))
		r.hosts[i].down = newDirection(h.Down, seed, 2*uint64(i)+1)
	}
	return r
}

func newDirection(d Direction, seed, place uint64) direction {
	return direction{Direction: d, chance: rand.New(rand.NewPCG(seed, place))}
}

// Send takes a packet that the host of this index (as in New) sends now. The packet is copied. Packets must
// be sent in the order of time.
func (r *Router) Send(now time.Duration, from int, packet []byte) {
	h := &r.hosts[from]
	h.stats.Sent++
	to, known := r.destination(packet)
	if !known {
		h.stats.Misguided++
		return
	}
	if r.held == maxHeld {
		h.stats.Overflow++
		return
	}
	at, fate := h.up.pass(now, len(packet))
	switch fate {
	case lost:
		h.stats.LostUp++
	case dropped:
		h.stats.FullUp++
	case passed:
		r.at(event{at: at, to: to, packet: append(r.buffer(), packet...)})
	}
}

// destination is the host that a packet is for: RFC 791, section 3.1.
func (r *Router) destination(packet []byte) (to int, known bool) {
	const header, version = 20, 4
	if len(packet) < header || len(packet) > MaxPacket || packet[0]>>4 != version {
		return 0, false
	}
	to, known = r.byAddr[[4]byte(packet[16:20])]
	return to, known
}

// Next is when something is to be done: Deliver must be called then. false: nothing is under way.
func (r *Router) Next() (at time.Duration, some bool) {
	if len(r.events) == 0 {
		return 0, false
	}
	return r.events[0].at, true
}

// Deliver hands out every packet that is at its host by now, in the order of the times at which they were due. The
// packet is the function's until it returns.
func (r *Router) Deliver(now time.Duration, deliver func(due time.Duration, to int, packet []byte)) {
	for len(r.events) > 0 && r.events[0].at <= now {
		e := r.events.pop()
		h := &r.hosts[e.to]
		if !e.down {
			// By when it was due, and not by when somebody looked: no error adds up.
			at, fate := h.down.pass(e.at, len(e.packet))
			switch fate {
			case lost:
				h.stats.LostDown++
			case dropped:
				h.stats.FullDown++
			case passed:
				r.at(event{at: at, to: e.to, packet: e.packet, down: true})
				continue
			}
		} else {
			deliver(e.at, e.to, e.packet)
			h.stats.Delivered++
			h.stats.Bytes += uint64(len(e.packet))
		}
		r.held--
		r.free = append(r.free, e.packet[:0])
	}
}

// Stats is what happened at the link of a host so far.
func (r *Router) Stats(host int) Stats { return r.hosts[host].stats }

func (r *Router) at(e event) {
	e.number = r.number
	r.number++
	r.events.push(e)
}

// buffer is an empty one, which counts as held.
func (r *Router) buffer() []byte {
	r.held++
	if last := len(r.free) - 1; last >= 0 {
		b := r.free[last]
		r.free = r.free[:last]
		return b
	}
	return make([]byte, 0, MaxPacket)
}

type fate int

const (
	passed fate = iota
	lost
	dropped
)

// pass sends a packet of this length that comes to the direction at this time: when it arrives at the other end.
func (d *direction) pass(now time.Duration, length int) (arrives time.Duration, _ fate) {
	begins := max(now, d.idle)
	if waiting := d.bytesIn(begins - now); waiting+int64(length) > int64(d.Queue) && waiting > 0 {
		return 0, dropped
	}
	d.idle = begins + d.timeOf(length)
	// Each packet takes as much of chance, whatever becomes of it: another jitter does not change which are lost.
	luck, late := d.chance.Float64(), d.chance.Float64()
	if luck < d.Loss {
		return 0, lost
	}
	arrives = d.idle + d.Delay + time.Duration(late*float64(d.Jitter))
	if !d.Reorder {
		arrives = max(arrives, d.last)
		d.last = arrives
	}
	return arrives, passed
}

// timeOf is how long sending so many bytes takes.
func (d *direction) timeOf(bytes int) time.Duration {
	return time.Duration(int64(bytes) * 8 * int64(time.Second) / d.Rate)
}

// bytesIn is how many bytes are sent in that time.
func (d *direction) bytesIn(t time.Duration) int64 {
	return int64(t.Seconds() * float64(d.Rate) / 8)
}
