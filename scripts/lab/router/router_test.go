package router

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

const gigabit = 1_000_000_000

// plain is a link that only delays.
func plain(delay time.Duration) Direction {
	return Direction{Delay: delay, Rate: gigabit, Queue: 1 << 20}
}

func addressOf(host int) netip.Addr { return netip.AddrFrom4([4]byte{45, 67, byte(host), 2}) }

// star is a router whose hosts all have links that are the same in both directions.
func star(seed uint64, links ...Direction) *Router {
	var hosts []Host
	for i, link := range links {
		hosts = append(hosts, Host{addressOf(i), link, link})
	}
	return New(seed, hosts)
}

// packetTo is one with a number in it, of so many bytes in all.
func packetTo(host, length, number int) []byte {
	p := make([]byte, length)
	p[0] = 0x45
	destination := addressOf(host).As4()
	copy(p[16:], destination[:])
	binary.BigEndian.PutUint32(p[20:], uint32(number))
	return p
}

// arrival is a packet that was delivered.
type arrival struct {
	at     time.Duration
	to     int
	number int
	length int
}

// drain lets time pass until nothing is under way.
func drain(r *Router) (all []arrival) {
	for {
		at, some := r.Next()
		if !some {
			return all
		}
		r.Deliver(at, func(due time.Duration, to int, packet []byte) {
			all = append(all, arrival{due, to, int(binary.BigEndian.Uint32(packet[20:])), len(packet)})
		})
	}
}

func TestAPacketTakesTheDelayAndTheTimeToSendItOfBothLinks(t *testing.T) {
	slow := plain(7 * time.Millisecond)
	slow.Rate = 1_000_000
	r := star(1, plain(12500*time.Microsecond), slow)
	sent := packetTo(1, 1250, 5)
	r.Send(time.Second, 0, sent)
	want := time.Second + 12500*time.Microsecond + 10*time.Microsecond + 7*time.Millisecond + 10*time.Millisecond
	if got := drain(r); !slices.Equal(got, []arrival{{want, 1, 5, 1250}}) {
		t.Fatalf("arrived: %v, and not at %v", got, want)
	}
	if s := r.Stats(1); s.Delivered != 1 || s.Bytes != 1250 {
		t.Errorf("counted: %+v", s)
	}
}

func TestThePacketIsDeliveredAsItWasSent(t *testing.T) {
	r := star(1, plain(0), plain(0))
	sent := packetTo(1, 900, 5)
	for i := range sent[24:] {
		sent[24+i] = byte(i)
	}
	want := bytes.Clone(sent)
	r.Send(0, 0, sent)
	clear(sent) // it was copied
	at, _ := r.Next()
	r.Deliver(at+time.Second, func(_ time.Duration, _ int, packet []byte) {
		if !bytes.Equal(packet, want) {
			t.Errorf("arrived: %x", packet)
		}
	})
}

// Looking late must not make what follows late too.
func TestAnErrorOfTheClockDoesNotAddUp(t *testing.T) {
	r := star(1, plain(5*time.Millisecond), plain(5*time.Millisecond))
	r.Send(0, 0, packetTo(1, 125, 1))
	r.Deliver(8*time.Millisecond, func(time.Duration, int, []byte) { t.Fatal("it is delivered too early") })
	if at, _ := r.Next(); at != 10*time.Millisecond+2*time.Microsecond {
		t.Errorf("it is due at %v", at)
	}
}

func TestThePacketsOfALinkAreSentOneAfterTheOther(t *testing.T) {
	link := plain(time.Millisecond)
	link.Rate = 8_000_000 // a byte each microsecond
	r := star(1, link, plain(0))
	for i := range 5 {
		r.Send(0, 0, packetTo(1, 1000, i))
	}
	for i, a := range drain(r) {
		want := time.Duration(i+1)*time.Millisecond + time.Millisecond + 8*time.Microsecond
		if a.number != i || a.at != want {
			t.Errorf("the %dth is %+v, and not due at %v", i, a, want)
		}
	}
}

func TestTwoSendersShareTheLinkOfTheReceiver(t *testing.T) {
	slow := plain(0)
	slow.Rate = 8_000_000
	r := star(1, plain(time.Millisecond), plain(time.Millisecond), slow)
	for i := range 10 {
		r.Send(0, i%2, packetTo(2, 1000, i))
	}
	got := drain(r)
	if len(got) != 10 {
		t.Fatalf("%d arrived", len(got))
	}
	if last := got[9].at; last != 11*time.Millisecond+8*time.Microsecond {
		t.Errorf("the last arrives at %v", last)
	}
}

func TestAFullQueueDropsAtItsTail(t *testing.T) {
	for _, test := range []struct {
		name     string
		up, down Direction
		stat     func(*Router) uint64
	}{
		{"up", Direction{Rate: 8_000_000, Queue: 3000}, plain(0), func(r *Router) uint64 { return r.Stats(0).FullUp }},
		{"down", plain(0), Direction{Rate: 8_000_000, Queue: 3000}, func(r *Router) uint64 { return r.Stats(1).FullDown }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := star(1, test.up, test.down)
			for i := range 10 {
				r.Send(0, 0, packetTo(1, 1000, i))
			}
			got := drain(r)
			if len(got) < 3 || len(got) > 4 || test.stat(r) != uint64(10-len(got)) {
				t.Fatalf("%d arrived, %d were dropped", len(got), test.stat(r))
			}
			for i, a := range got {
				if a.number != i {
					t.Errorf("the first are not those that arrive: %+v", a)
				}
			}
			// Once it is empty, it takes others.
			r.Send(time.Second, 0, packetTo(1, 1000, 99))
			if got := drain(r); len(got) != 1 {
				t.Errorf("the queue stays full: %v", got)
			}
		})
	}
}

// A packet that is longer than the queue passes where nothing waits: else a small queue would pass nothing ever.
func TestAPacketLongerThanTheQueuePassesAnIdleLink(t *testing.T) {
	link := plain(0)
	link.Queue = 100
	r := star(1, link, link)
	r.Send(0, 0, packetTo(1, 1500, 1))
	if got := drain(r); len(got) != 1 {
		t.Errorf("arrived: %v", got)
	}
}

func TestLossIsAsOftenAsSaidAndTheSameForTheSameSeed(t *testing.T) {
	lossy := plain(time.Millisecond)
	lossy.Loss = 0.1
	const n = 10_000
	send := func(seed uint64, others bool) (numbers []int) {
		r := star(seed, lossy, plain(0), lossy)
		for i := range n {
			now := time.Duration(i) * 20 * time.Microsecond
			r.Send(now, 0, packetTo(1, 100, i))
			if others {
				r.Send(now, 2, packetTo(1, 100, n))
			}
		}
		for _, a := range drain(r) {
			if a.number != n {
				numbers = append(numbers, a.number)
			}
		}
		if lost := r.Stats(0).LostUp; lost != uint64(n-len(numbers)) {
			t.Errorf("%d are missing, and %d counted", n-len(numbers), lost)
		}
		return numbers
	}
	first := send(7, false)
	if lost := n - len(first); lost < n*9/100 || lost > n*11/100 {
		t.Errorf("%d of %d are lost", lost, n)
	}
	if !slices.Equal(first, send(7, false)) {
		t.Error("the same seed loses others")
	}
	if !slices.Equal(first, send(7, true)) {
		t.Error("what another host sends changes which are lost")
	}
	if slices.Equal(first, send(8, false)) {
		t.Error("another seed loses the same")
	}
}

func TestEverythingOrNothingIsLost(t *testing.T) {
	for _, test := range []struct {
		loss float64
		want int
	}{{0, 1000}, {1, 0}} {
		link := plain(0)
		link.Loss = test.loss
		r := star(3, plain(0), link)
		for i := range 1000 {
			r.Send(0, 0, packetTo(1, 100, i))
		}
		if got := drain(r); len(got) != test.want {
			t.Errorf("at a loss of %v, %d of 1000 arrive", test.loss, len(got))
		}
	}
}

func TestJitter(t *testing.T) {
	for _, reorder := range []bool{false, true} {
		link := plain(10 * time.Millisecond)
		link.Jitter = 5 * time.Millisecond
		link.Reorder = reorder
		r := star(1, link, plain(0))
		const n, every = 2000, 500 * time.Microsecond
		for i := range n {
			r.Send(time.Duration(i)*every, 0, packetTo(1, 125, i))
		}
		overtaken := false
		least, most := time.Hour, time.Duration(0)
		got := drain(r)
		for i, a := range got {
			took := a.at - time.Duration(a.number)*every
			least, most = min(least, took), max(most, took)
			overtaken = overtaken || a.number != i
		}
		if len(got) != n || overtaken != reorder {
			t.Errorf("reorder %v: %d arrive, and some overtake others: %v", reorder, len(got), overtaken)
		}
		// All of it is used, and 2 µs are for sending. Who waits for those before takes longer.
		if least < 10*time.Millisecond || reorder && least > 10200*time.Microsecond || most < 14800*time.Microsecond || most > 15*time.Millisecond+2*time.Microsecond {
			t.Errorf("reorder %v: they take %v to %v", reorder, least, most)
		}
	}
}

func TestWhatIsNoPacketForAnybodyHereIsCounted(t *testing.T) {
	r := star(1, plain(0), plain(0))
	stranger := packetTo(1, 100, 1)
	copy(stranger[16:], []byte{8, 8, 8, 8})
	six := packetTo(1, 100, 1)
	six[0] = 0x60
	packets := [][]byte{nil, {0x45}, packetTo(1, MaxPacket+1, 1), stranger, six}
	for _, packet := range packets {
		r.Send(0, 0, packet)
	}
	if s := r.Stats(0); s.Misguided != uint64(len(packets)) || len(drain(r)) != 0 {
		t.Errorf("counted: %+v", s)
	}
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	link := Direction{Delay: time.Hour, Rate: 1 << 40, Queue: 1 << 30}
	r := star(1, link, link)
	packet := packetTo(1, 100, 1)
	for range maxHeld + 10 {
		r.Send(0, 0, packet)
	}
	if s := r.Stats(0); s.Overflow != 10 {
		t.Errorf("counted: %+v", s)
	}
	if got := len(drain(r)); got != maxHeld {
		t.Errorf("%d arrive", got)
	}
	r.Send(2*time.Hour, 0, packet)
	if len(drain(r)) != 1 || len(r.free) > maxHeld {
		t.Error("it holds on to what was delivered")
	}
}

func TestEventsComeInTheOrderOfTime(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	var q events
	var last event
	for i := range 5000 {
		q.push(event{at: time.Duration(chance.IntN(50)), number: uint64(i)})
	}
	for i := range 5000 {
		e := q.pop()
		if i > 0 && !last.before(e) {
			t.Fatalf("%v after %v", e, last)
		}
		last = e
	}
}

func FuzzAnyBytesMayBeSent(f *testing.F) {
	f.Add([]byte{0x45}, uint16(3))
	f.Add(packetTo(1, 60, 1), uint16(0))
	f.Fuzz(func(t *testing.T, packet []byte, micros uint16) {
		link := Direction{Delay: time.Duration(micros) * time.Microsecond, Jitter: time.Millisecond, Loss: 0.01, Rate: 1000, Queue: 10_000, Reorder: true}
		r := star(1, link, link)
		for range 20 {
			r.Send(0, 0, packet)
		}
		for some := true; some; {
			var at time.Duration
			if at, some = r.Next(); some {
				r.Deliver(at, func(_ time.Duration, _ int, got []byte) {
					if !bytes.Equal(got, packet) {
						t.Fatal("it changed on its way")
					}
				})
			}
		}
		if s, d := r.Stats(0), r.Stats(1); s.Sent != s.LostUp+s.FullUp+s.Misguided+d.Delivered+s.Delivered+d.LostDown+d.FullDown+s.LostDown+s.FullDown+s.Overflow {
			t.Errorf("some are not counted: %+v, %+v", s, d)
		}
	})
}

// What the router itself costs: a packet to a neighbour, in and out.
func BenchmarkPacket(b *testing.B) {
	r := star(1, plain(time.Millisecond), plain(time.Millisecond))
	packet := packetTo(1, MaxPacket, 1)
	b.ReportAllocs()
	b.SetBytes(MaxPacket)
	for i := range b.N {
		now := time.Duration(i) * 12 * time.Microsecond
		r.Send(now, 0, packet)
		r.Deliver(now, func(time.Duration, int, []byte) {})
	}
}
