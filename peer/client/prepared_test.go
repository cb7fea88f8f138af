package client

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
)

// counted counts the ends of connections that were begun.
type counted struct {
	connect func(rtc.Peering) Conn
	mu      sync.Mutex
	begun   int // guarded by mu
}

func (c *counted) Connect(p rtc.Peering) Conn {
	c.mu.Lock()
	c.begun++
	c.mu.Unlock()
	return c.connect(p)
}

func (c *counted) ends() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun
}

// TestOneConnectionHoweverTheMediator: whether it hands offers out, or is an older one, or names the peer when
// there is no offer any more, there is one connection, and nothing is waited for.
func TestOneConnectionHoweverTheMediator(t *testing.T) {
	for name, offers := range map[string]bool{"it hands offers out": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				hub.offers = offers
				ends := &counted{connect: connect}
				seeder := newPeer(t, Config{Line: hub.line(), Connect: ends.Connect})
				leecher := newPeer(t, Config{Line: hub.line(), Connect: ends.Connect})
				var shares []*Share
				for length := range 20 { // all at once, as a page does
					_, source := random(length * 10_000)
					if _, err := seeder.Seed(source); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				for length := range 20 {
					_, source := random(length * 10_000)
					share, err := leecher.Get(source.info, newTarget(source.info))
					if err != nil {
						t.Fatal(err)
					}
					shares = append(shares, share)
				}
				for _, share := range shares {
					await(t, share)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
				if n := ends.ends(); n != 2 {
					t.Errorf("%d ends of connections instead of 2", n)
				}
				if shares[0].Timeline()[timeline.OfferSent].IsZero() {
					t.Error("it does not say when the offer was sent")
				}
				leecher.Close()
				seeder.Close()
			})
		})
	}
}

// TestTwoWhoOfferEachOther: each wants what the other has, at the same moment, and both offers are handed out.
func TestTwoWhoOfferEachOther(t *testing.T) {
	for _, lowerFirst := range []bool{true, false} {
		bubble(t, func(t *testing.T, hub *hub, _ func(rtc.Peering) Conn) {
			hub.offers = true
			network := newMemory()
			network.setup = 100 * time.Millisecond // as on a network, where signals are not slower than all of ICE and DTLS
			connect := network.connect
			peers := []*Client{newPeer(t, Config{Line: hub.line(), Connect: connect}), newPeer(t, Config{Line: hub.line(), Connect: connect})}
			if !lowerFirst {
				peers[0], peers[1] = peers[1], peers[0]
			}
			var shares []*Share
			for i, peer := range peers {
				_, source := random(100_000 + i)
				if _, err := peer.Seed(source); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			for i, peer := range peers {
				_, source := random(100_000 + 1 - i)
				share, err := peer.Get(source.info, newTarget(source.info))
				if err != nil {
					t.Fatal(err)
				}
				shares = append(shares, share)
			}
			for _, share := range shares {
				await(t, share)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %v", took)
			}
			for _, peer := range peers {
				peer.Close()
			}
		})
	}
}

// TestOfferThatNobodyGot: when the search ends with nobody, or the share is over, there is no connection any more.
func TestOfferThatNobodyGot(t *testing.T) {
	for name, end := range map[string]func(*Share){
		"the search ends": func(*Share) {},
		"it is stopped":   func(share *Share) { share.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				hub.offers = true
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
				_, source := random(1000)
				share, err := leecher.Get(source.info, newTarget(source.info))
				if err != nil {
					t.Fatal(err)
				}
				end(share)
				time.Sleep(time.Second)
				synctest.Wait()
				left := 0
				leecher.do(func() { left = leecher.unbound + len(leecher.all) })
				if left != 0 {
					t.Errorf("%d connections are left", left)
				}
				leecher.Close()
			})
		})
	}
}

// TestOfferIsTakenBack: when nobody took it in time, or somebody is connected, the mediator is not to hand it out any more.
func TestOfferIsTakenBack(t *testing.T) {
	for name, connected := range map[string]bool{"nobody took it": false, "somebody came": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				line := &searchingLine{hubLine: hub.line()}
				leecher := newPeer(t, Config{Line: line, Connect: connect})
				_, seeded := random(1000)
				if _, err := leecher.Seed(seeded); err != nil {
					t.Fatal(err)
				}
				_, wanted := random(2000)
				if _, err := leecher.Get(wanted.info, newTarget(wanted.info)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if connected {
					other := newPeer(t, Config{Line: hub.line(), Connect: connect})
					defer other.Close()
					share, err := other.Get(seeded.info, newTarget(seeded.info))
					if err != nil {
						t.Fatal(err)
					}
					await(t, share)
				} else {
					time.Sleep(rtc.DefaultConnectTimeout)
				}
				synctest.Wait()
				if asked := line.asked(); !slices.Equal(asked, []bool{true, false}) {
					t.Errorf("it asked with an offer: %v", asked)
				}
				leecher.Close()
			})
		})
	}
}

// searchingLine is one to a mediator whose searches do not end.
type searchingLine struct {
	*hubLine
	mu        sync.Mutex
	questions []bool // whether each had an offer; guarded by mu
}

func (l *searchingLine) GetPeers(_ content.FullHash, offer signaling.Offering) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.questions = append(l.questions, offer != nil && offer() != "")
}

func (l *searchingLine) asked() []bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.questions)
}

// TestOfferInStrangeHands: what a mediator says of an offer that cannot be is not followed, and others are found all the same.
func TestOfferInStrangeHands(t *testing.T) {
	for name, offered := range map[string]func(self ident.PeerID) ident.PeerID{
		"our own":                   func(self ident.PeerID) ident.PeerID { return self },
		"somebody who is not there": func(ident.PeerID) ident.PeerID { return ident.PeerID{99} },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				_, source := random(1000)
				line := hub.line()
				seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
				if _, err := seeder.Seed(source); err != nil {
					t.Fatal(err)
				}
				strange := &strangeLine{hubLine: line, offered: offered(line.id)}
				leecher := newPeer(t, Config{Line: strange, Connect: connect})
				began := time.Now()
				share, err := leecher.Get(source.info, newTarget(source.info))
				if err != nil {
					t.Fatal(err)
				}
				await(t, share)
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
				time.Sleep(rtc.DefaultConnectTimeout)
				left := 0
				leecher.do(func() { left = leecher.unbound + len(leecher.all) })
				if left > 1 { // the seeder's may be kept
					t.Errorf("%d connections are left", left)
				}
				leecher.Close()
				seeder.Close()
			})
		})
	}
}

// strangeLine says of every offer, before all else, that somebody has it.
type strangeLine struct {
	*hubLine
	offered ident.PeerID
}

func (l *strangeLine) GetPeers(hash content.FullHash, offer signaling.Offering) {
	l.hub.mu.Lock()
	l.tell(mediation.Peers{FullHash: hash, Peers: []ident.PeerID{l.offered}, Offered: l.offered})
	l.hub.mu.Unlock()
	l.hubLine.GetPeers(hash, offer)
}

// TestNextContentIsAskedOfWhoIsThere: before the mediator has said anything, and who does not have it says so.
func TestNextContentIsAskedOfWhoIsThere(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		deaf := &deafLine{hubLine: hub.line()}
		leecher := newPeer(t, Config{Line: deaf, Connect: connect})
		get := func(length int) *Share {
			_, source := random(length)
			share, err := leecher.Get(source.info, newTarget(source.info))
			if err != nil {
				t.Fatal(err)
			}
			return share
		}
		for _, length := range []int{1000, 2000} {
			_, source := random(length)
			if _, err := seeder.Seed(source); err != nil {
				t.Fatal(err)
			}
		}
		await(t, get(1000))
		deaf.mu.Lock()
		deaf.deaf = true
		deaf.mu.Unlock()
		next := get(2000)
		await(t, next)
		if stamps := next.Timeline(); !stamps[timeline.PeersNamed].IsZero() || !stamps[timeline.ChannelOpen].IsZero() {
			t.Errorf("the phases are %v", stamps)
		}
		nobodys := get(3000)
		time.Sleep(time.Second)
		if status := nobodys.Status(); status.State != Searching {
			t.Errorf("what nobody has is %s", status.State)
		}
		leecher.Close()
		seeder.Close()
	})
}

// deafLine is one whose mediator names nobody while it is deaf.
type deafLine struct {
	*hubLine
	mu   sync.Mutex
	deaf bool // guarded by mu
}

func (l *deafLine) GetPeers(hash content.FullHash, offer signaling.Offering) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.deaf {
		l.hubLine.GetPeers(hash, offer)
	}
}
