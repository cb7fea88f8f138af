package swarm

import (
	"testing"
	"time"
)

// crowd is a seeder and eight leechers that come together.
type crowd struct {
	*world
	seeder   *node
	leechers []*node
}

const (
	crowdLength = 16 * mib
	crowdUplink = 4e6 // bytes/s
)

func newCrowd(t *testing.T, seed uint64) *crowd {
	c := &crowd{world: newWorld(t, seed, crowdLength, 64*kib)}
	c.seeder = c.world.seeder()
	for range 8 {
		c.leechers = append(c.leechers, c.leecher())
	}
	for _, n := range c.order {
		n.up = crowdUplink
	}
	return c
}

// delay has every frame take so long.
func (c *crowd) delay(delay time.Duration) {
	for _, a := range c.order {
		for _, b := range c.order {
			if a != b {
				a.line(b).delay = delay
			}
		}
	}
}

// bound is the time below which no swarm can do: the seeder has to send everything once, and all
// uplinks together everything to everybody.
func (c *crowd) bound() float64 {
	up := c.seeder.up
	for _, n := range c.leechers {
		up += n.up
	}
	return max(crowdLength/c.seeder.up, float64(len(c.leechers))*crowdLength/up)
}

// finish returns the time over the bound, and what each leecher got over what it needed.
func (c *crowd) finish() (ratio, got float64) {
	c.t.Helper()
	began := c.passed()
	c.world.finish(time.Minute, c.leechers...)
	for _, n := range c.leechers {
		got += float64(c.fetched(n)) / crowdLength / float64(len(c.leechers))
	}
	ratio = (c.passed() - began).Seconds() / c.bound()
	c.t.Logf("%.2f of the bound; the seeder sent %.2f of the content, each leecher got %.3f",
		ratio, float64(c.seeder.uploaded)/crowdLength, got)
	return ratio, got
}

// TestFlashCrowd: eight leechers come at once to a seeder. Simulated time is exact, so it may be asserted.
func TestFlashCrowd(t *testing.T) {
	for _, test := range []struct {
		name  string
		most  float64 // times the bound
		setUp func(c *crowd)
	}{
		{"near", 1.2, func(*crowd) {}},
		{"on one machine", 1.2, func(c *crowd) { c.delay(500 * time.Microsecond) }},
		{"far", 1.3, func(c *crowd) { c.delay(50 * time.Millisecond) }},
		{"slow disks", 1.25, func(c *crowd) {
			for _, n := range c.leechers {
				n.disk = func() time.Duration { return time.Duration(c.random.IntN(100)) * time.Millisecond }
			}
		}},
		{"uneven uplinks", 1.45, func(c *crowd) {
			for i, n := range c.leechers {
				n.up = crowdUplink * 2 * float64(i+1) / 9
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCrowd(t, 1)
			test.setUp(c)
			c.mesh()
			if ratio, got := c.finish(); ratio > test.most || got > 1.03 {
				t.Errorf("%.2f of the bound, which is more than %.2f, or %.3f of the content per leecher", ratio, test.most, got)
			}
		})
	}
}
