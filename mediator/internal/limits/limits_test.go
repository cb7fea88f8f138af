package limits

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestZeroIsTheDefaultAndOffIsNone(t *testing.T) {
	for _, c := range []struct{ given, want int }{{0, 7}, {3, 3}, {Off, Off}} {
		limit := c.given
		if Fill(&limit, 7); limit != c.want {
			t.Errorf("%d became %d instead of %d", c.given, limit, c.want)
		}
	}
	wait := time.Duration(0)
	if Fill(&wait, time.Minute); wait != time.Minute {
		t.Errorf("a duration became %v", wait)
	}
}

func TestReached(t *testing.T) {
	for _, c := range []struct {
		count, limit int
		reached      bool
	}{{4, 5, false}, {5, 5, true}, {6, 5, true}, {1 << 40, Off, false}} {
		if Reached(c.count, c.limit) != c.reached {
			t.Errorf("%d of %d: %v", c.count, c.limit, Reached(c.count, c.limit))
		}
	}
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := Limiter(10, 0)
		now := time.Now()
		for i := range 10 * BurstSeconds {
			if !limiter.AllowN(now, 1) {
				t.Fatalf("number %d of a burst is refused", i)
			}
		}
		if limiter.AllowN(now, 1) {
			t.Error("one more is not")
		}
		if !limiter.AllowN(now.Add(100*time.Millisecond), 1) {
			t.Error("nor is one after a tenth of a second")
		}
		if !Limiter(1, 1000).AllowN(now, 1000) {
			t.Error("a single thing of the least size cannot pass")
		}
		off := Limiter(Off, 0)
		for range 1000 {
			if !off.AllowN(now, 1<<30) {
				t.Fatal("a limit that is off holds")
			}
		}
	})
}

func TestSource(t *testing.T) {
	same := [][2]string{
		{"192.0.2.1", "192.0.2.1"}, {"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1", "2001:db8::ffff:2"}, {"fe80::1%eth0", "fe80::2%eth1"},
	}
	other := [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8:0:1::1"}}
	for _, pair := range same {
		if Source(netip.MustParseAddr(pair[0])) != Source(netip.MustParseAddr(pair[1])) {
			t.Errorf("%s and %s are not one", pair[0], pair[1])
		}
	}
	for _, pair := range other {
		if Source(netip.MustParseAddr(pair[0])) == Source(netip.MustParseAddr(pair[1])) {
			t.Errorf("%s and %s are one", pair[0], pair[1])
		}
	}
	if Source(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("no address is somebody")
	}
}
