package swarm

import (
	"fmt"
	"testing"
	"time"

	"p2pcdn/common/wire"
)

// waste is what came to the node and was not needed, over the content.
func (w *world) waste(n *node) float64 {
	return float64(w.fetched(n))/float64(len(w.data)) - 1
}

// speed runs until the node is complete, and returns the content's length over the time since now, in bytes/s.
func (w *world) speed(bound time.Duration, n *node) float64 {
	w.t.Helper()
	began := w.now
	w.finish(bound, n)
	return float64(len(w.data)) / n.doneAt.Sub(began).Seconds()
}

// TestSeedersTogether: four seeders fill a leecher's downlink, or their uplinks.
func TestSeedersTogether(t *testing.T) {
	for _, pieceLength := range []int64{64 * kib, mib} {
		t.Run(fmt.Sprint(pieceLength), func(t *testing.T) {
			w := newWorld(t, 1, 16*mib, pieceLength)
			leecher := w.leecher()
			for range 4 {
				seeder := w.seeder()
				seeder.up = 2e6
				w.over(40*time.Millisecond, leecher, seeder)
			}
			speed, waste := w.speed(time.Minute, leecher), w.waste(leecher)
			t.Logf("%.3f of 8 MB/s, waste %.4f", speed/8e6, waste)
			if speed < 0.9*8e6 || waste > 0.02 {
				t.Errorf("%.2f MB/s of 8, and %.3f of it for nothing", speed/1e6, waste)
			}
		})
	}
}

// TestASlowSeederDoesNotHoldUpTheEnd: what it owes at the end comes from the others.
func TestASlowSeederDoesNotHoldUpTheEnd(t *testing.T) {
	for _, pieceLength := range []int64{64 * kib, mib} {
		for _, slow := range []float64{10e3, 100e3, 1e6} {
			t.Run(fmt.Sprint(pieceLength, slow), func(t *testing.T) {
				w := newWorld(t, 2, 32*mib, pieceLength)
				leecher := w.leecher()
				for _, up := range []float64{slow, 4e6, 4e6, 4e6} {
					seeder := w.seeder()
					seeder.up = up
					w.over(40*time.Millisecond, leecher, seeder)
				}
				speed, waste := w.speed(time.Minute, leecher), w.waste(leecher)
				t.Logf("%.3f of all uplinks together, waste %.4f", speed/(12e6+slow), waste)
				if speed < 0.88*(12e6+slow) || waste > 0.03 {
					t.Errorf("%.2f MB/s of %.2f, and %.3f of it for nothing", speed/1e6, (12e6+slow)/1e6, waste)
				}
			})
		}
	}
}

// TestPipelineFollowsThePath: a long fat path is filled, and a short thin one is not overfilled.
func TestPipelineFollowsThePath(t *testing.T) {
	for _, test := range []struct {
		rtt  time.Duration
		up   float64
		most int // bytes in flight
	}{
		{100 * time.Millisecond, 20e6, DefaultInFlight},
		{20 * time.Millisecond, 2e6, 1 << 20},
		{time.Millisecond, 100e3, 192 * kib},
	} {
		t.Run(fmt.Sprint(test.rtt, test.up), func(t *testing.T) {
			w := newWorld(t, 3, max(2*mib, int64(9*test.up)), 64*kib)
			seeder, leecher := w.seeder(), w.leecher()
			seeder.up = test.up
			w.over(test.rtt, leecher, seeder)
			w.run(7 * time.Second) // until what was asked for before anything was known has come
			r := leecher.swarm.peers[seeder.id]
			most := 0
			for range 100 {
				w.run(10 * time.Millisecond)
				most = max(most, r.inFlight)
			}
			speed := float64(seeder.uploaded) / w.passed().Seconds()
			t.Logf("%.3f of the uplink; %d bytes in flight", speed/test.up, most)
			if speed < 0.9*test.up {
				t.Errorf("%.2f of the uplink", speed/test.up)
			}
			if most > test.most {
				t.Errorf("%d bytes in flight", most)
			}
		})
	}
}

// TestAllowHoldsARate: what may be asked for per second is what comes per second.
func TestAllowHoldsARate(t *testing.T) {
	const rate = 1e6
	w := newWorld(t, 4, 8*mib, 64*kib)
	free := start // until when the rate is used up; owned by the swarm's Allow
	leecher := w.join(Config{Info: w.info, Allow: func(now time.Time, bytes int) time.Duration {
		if wait := free.Sub(now); wait > 0 {
			return wait
		}
		free = later(free, now).Add(time.Duration(float64(bytes) / rate * float64(time.Second)))
		return 0
	}})
	for range 3 {
		w.over(40*time.Millisecond, leecher, w.seeder())
	}
	for second := range 5 {
		before := w.fetched(leecher)
		w.run(time.Second)
		if came := float64(w.fetched(leecher) - before); second > 0 && (came < 0.9*rate || came > 1.1*rate) {
			t.Errorf("%.0f bytes came in second %d", came, second)
		}
	}
	if speed := w.speed(time.Minute, leecher); speed > 8.0/3*rate*1.05 {
		t.Errorf("the rest came at %.0f bytes/s", speed)
	}
	if took := w.passed().Seconds(); took < 0.97*8*mib/rate || took > 1.03*8*mib/rate {
		t.Errorf("it took %.2f s instead of %.2f", took, 8*mib/rate)
	}
}

// TestStallingSeeder: a seeder stops in the middle, for a while or for ever; nobody waits for it.
func TestStallingSeeder(t *testing.T) {
	for _, test := range []struct {
		name  string
		pause time.Duration
	}{{"for ever", time.Hour}, {"for five seconds", 5 * time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 5, 32*mib, 256*kib)
			leecher, stalling, other := w.leecher(), w.seeder(), w.seeder()
			stalling.up, other.up = 4e6, 4e6
			w.over(40*time.Millisecond, leecher, stalling)
			w.over(40*time.Millisecond, leecher, other)
			w.run(time.Second)
			stalling.upFree = w.now.Add(test.pause) // what it says comes later, too
			for _, n := range []*node{leecher, stalling} {
				for _, l := range n.order {
					if l.from == stalling {
						l.last = w.now.Add(test.pause)
					}
				}
			}
			w.finish(time.Minute, leecher)
			// The second alone needs 6.3 s for the rest; with the first again after five it is less.
			took := w.passed()
			t.Logf("%v; waste %.4f; the stalling one sent %.2f", took, w.waste(leecher), float64(stalling.uploaded)/32/mib)
			if took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
			if waste := w.waste(leecher); waste > 0.05 {
				t.Errorf("%.3f of the content for nothing", waste)
			}
		})
	}
}

// TestChain: each of ten leechers sees only the one before; all of them begin to serve with their first piece.
func TestChain(t *testing.T) {
	const up = 4e6
	w := newWorld(t, 6, 8*mib, 64*kib)
	before := w.seeder()
	before.up = up
	var chain []*node
	for range 10 {
		next := w.leecher()
		next.up = up
		w.over(20*time.Millisecond, before, next)
		chain = append(chain, next)
		before = next
	}
	w.finish(time.Minute, chain...)
	alone := 8 * mib / up
	t.Logf("%.2f times what one transfer takes", w.passed().Seconds()/alone)
	if took := w.passed().Seconds(); took > 2*alone {
		t.Errorf("ten transfers in a row took %.1f times as long as one", took/alone)
	}
	for i, n := range chain { // have to everybody who lacked it
		for _, l := range n.order {
			haves := map[uint32]int{}
			for _, frame := range l.sent {
				if have, is := frame.(wire.Have); is {
					haves[have.Piece]++
				}
			}
			for piece, times := range haves {
				if times > 1 {
					t.Errorf("peer %d said %d times that it has piece %d", i, times, piece)
				}
			}
			if next := i+1 < len(chain) && l.to == chain[i+1]; next && len(haves) != 128 {
				t.Errorf("peer %d told the next one of %d pieces", i, len(haves))
			}
		}
	}
}
