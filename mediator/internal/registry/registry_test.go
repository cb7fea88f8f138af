package registry

import (
	"math/rand/v2"
	"slices"
	"testing"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

func peerID(n byte) ident.PeerID       { return ident.PeerID{19: n} }
func fullHash(n byte) content.FullHash { return content.FullHash{31: n} }
func mediator(t *testing.T, digit string) ident.MediatorID {
	t.Helper()
	id, err := ident.ParseMediatorID("12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ" + digit)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIDsAreNeverTakenOver(t *testing.T) {
	r := New[string]()
	if !r.Connect(peerID(1), "first") || r.Connect(peerID(1), "second") {
		t.Fatal("an id was given twice, or not at all")
	}
	if conn, connected := r.Conn(peerID(1)); !connected || conn != "first" {
		t.Errorf("the id belongs to %q", conn)
	}
	r.Disconnect(peerID(1))
	if _, connected := r.Conn(peerID(1)); connected {
		t.Error("a disconnected peer is still there")
	}
	if !r.Connect(peerID(1), "third") {
		t.Error("the id is not free again")
	}
}

func TestAnnounceAndFinish(t *testing.T) {
	r := New[int]()
	r.Connect(peerID(1), 0)
	r.Connect(peerID(2), 0)
	if news, first := r.Announce(peerID(1), fullHash(1)); !news || !first {
		t.Error("the first announce is not")
	}
	if news, _ := r.Announce(peerID(1), fullHash(1)); news {
		t.Error("a second announce is news")
	}
	if news, first := r.Announce(peerID(2), fullHash(1)); !news || first {
		t.Error("the second seeder is the first")
	}
	if got := r.Seeders(fullHash(1)); !slices.Equal(got, []ident.PeerID{peerID(1), peerID(2)}) {
		t.Errorf("seeders %v", got)
	}
	if did, last := r.Finish(peerID(1), fullHash(1)); !did || last {
		t.Error("one of two was the last")
	}
	if did, _ := r.Finish(peerID(1), fullHash(1)); did {
		t.Error("it finished twice")
	}
	if unseeded, _ := r.Disconnect(peerID(2)); !slices.Equal(unseeded, []content.FullHash{fullHash(1)}) {
		t.Errorf("unseeded %v", unseeded)
	}
	if did, _ := r.Finish(peerID(9), fullHash(1)); did {
		t.Error("a stranger finished")
	}
}

func TestWaitersAreToldOnce(t *testing.T) {
	r := New[int]()
	r.Connect(peerID(1), 0)
	r.Wait(peerID(1), fullHash(1))
	peers := []ident.PeerID{peerID(1), peerID(2), peerID(3), peerID(4)}
	if got := r.Tell(peerID(1), fullHash(1), peers, 2); !slices.Equal(got, peers[1:3]) {
		t.Errorf("told of %v: itself and what is over the limit must not be", got)
	}
	if got := r.Tell(peerID(1), fullHash(1), peers, 9); !slices.Equal(got, peers[3:]) {
		t.Errorf("told of %v", got)
	}
	if got := r.Told(peerID(1), fullHash(1)); got != 3 {
		t.Errorf("told of %d", got)
	}
	r.Wait(peerID(1), fullHash(1))
	if got := r.Tell(peerID(1), fullHash(1), peers, 9); !slices.Equal(got, peers[1:]) {
		t.Errorf("after asking again it was told of %v", got)
	}
	if got := r.Tell(peerID(2), fullHash(1), peers, 9); got != nil {
		t.Errorf("who does not wait was told of %v", got)
	}
	if !r.Unwait(peerID(1), fullHash(1)) || r.Unwait(peerID(1), fullHash(1)) {
		t.Error("the last waiter left not once")
	}
}

func TestSubscriptions(t *testing.T) {
	r := New[int]()
	a, b := mediator(t, "a"), mediator(t, "b")
	r.Subscribe(a, fullHash(1))
	r.Subscribe(a, fullHash(1))
	r.Subscribe(a, fullHash(2))
	r.Subscribe(b, fullHash(1))
	if got := r.Subscriptions(a); got != 2 {
		t.Errorf("%d subscriptions", got)
	}
	if got := len(r.Subscribers(fullHash(1))); got != 2 {
		t.Errorf("%d subscribers", got)
	}
	r.UnsubscribeAll(a)
	r.UnsubscribeAll(a)
	if got := r.Subscribers(fullHash(1)); !slices.Equal(got, []ident.MediatorID{b}) {
		t.Errorf("subscribers %v", got)
	}
	r.Unsubscribe(b, fullHash(1))
	r.Unsubscribe(b, fullHash(7))
	if got := r.Counts(); got != (Counts{}) || len(r.remote) != 0 {
		t.Errorf("left behind: %+v", got)
	}
}

// TestNothingIsLeftBehind is a property: whatever was done, when everybody has
// gone the registry is empty; and until then both directions agree.
func TestNothingIsLeftBehind(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r := New[int]()
		a := mediator(t, "a")
		for range 300 {
			id, hash := peerID(byte(random.IntN(6))), fullHash(byte(random.IntN(4)))
			_, connected := r.Conn(id)
			switch action := random.IntN(9); {
			case action == 0:
				r.Disconnect(id)
			case action == 1:
				r.Subscribe(a, hash)
			case action == 2:
				r.Unsubscribe(a, hash)
			case action == 3:
				r.UnsubscribeAll(a)
			case !connected:
				r.Connect(id, 0)
			case action < 6:
				r.Announce(id, hash)
			case action == 6:
				r.Finish(id, hash)
			case action == 7:
				r.Wait(id, hash)
			default:
				r.Unwait(id, hash)
			}
			seeds := 0
			for id := range r.peers {
				count, _ := r.Seeds(id, fullHash(0))
				seeds += count
			}
			for hash := range r.swarms {
				seeds -= len(r.Seeders(hash))
			}
			if seeds != 0 {
				t.Fatal("peers and swarms do not agree on who seeds what")
			}
		}
		for n := range byte(6) {
			r.Disconnect(peerID(n))
		}
		r.UnsubscribeAll(a)
		if got := r.Counts(); got != (Counts{}) || len(r.remote) != 0 {
			t.Fatalf("left behind: %+v", got)
		}
	}
}
