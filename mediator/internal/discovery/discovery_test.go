package discovery

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// quick are the times of a network that lives for seconds. Retries and
// renewals stay slow unless a test is about them.
var quick = Timing{
	Watch: 20 * time.Millisecond, Settle: 100 * time.Millisecond,
	BootstrapMin: 20 * time.Millisecond, BootstrapMax: 100 * time.Millisecond,
}

// testDeadline is when a test gives up waiting for something of the network: far
// beyond what it takes on a busy machine with the race detector.
const testDeadline = 60 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// start runs a node on 127.0.0.1; change may be nil.
func start(t *testing.T, change func(*Config)) *Discovery {
	t.Helper()
	config := Config{
		Key: newKey(t), ListenHosts: []string{"127.0.0.1"}, Timing: quick,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&config)
	}
	d, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	closeTogether(t, d)
	return d
}

var closing sync.Map // of *testing.T to *sync.WaitGroup: the nodes of a test that are being closed

// closeTogether closes all nodes of a test at the same time. One after the other
// would make each wait for those before it, which it wants to tell.
func closeTogether(t *testing.T, d *Discovery) {
	group, known := closing.LoadOrStore(t, new(sync.WaitGroup))
	wg := group.(*sync.WaitGroup)
	if !known { // the first cleanup runs last
		t.Cleanup(func() {
			wg.Wait()
			closing.Delete(t)
		})
	}
	t.Cleanup(func() { wg.Go(func() { _ = d.Close() }) })
}

// startAll runs n nodes that all join through the first, and waits until each
// knows as many others as it can.
func startAll(t *testing.T, n int) []*Discovery {
	t.Helper()
	nodes := []*Discovery{start(t, nil)}
	for range n - 1 {
		nodes = append(nodes, start(t, joining(nodes[0])))
	}
	began := time.Now()
	settle(t, nodes)
	t.Logf("%d nodes settled after %v", n, time.Since(began))
	return nodes
}

func joining(to *Discovery) func(*Config) {
	return func(c *Config) { c.Bootstrap = tcpOnly(to.Addrs()) }
}

// tcpOnly keeps one address, so that a node has one bootstrap and not two.
func tcpOnly(addresses []string) []string { return addresses[:1] }

// settle waits until every node has most of the others in its routing table.
// (A bucket has 20 places, so in a larger network it cannot have all.)
func settle(t *testing.T, nodes []*Discovery) {
	t.Helper()
	want := min(len(nodes)-1, 15)
	for _, node := range nodes {
		eventually(t, func() error {
			if have := node.Status().Peers; have < want {
				return fmt.Errorf("node %s knows %d of %d", node.self, have, want)
			}
			return nil
		})
	}
}

// eventually polls, for what the network has no event for.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx := testContext(t)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func hashOf(text string) content.FullHash { return content.FullHash(sha256.Sum256([]byte(text))) }

func find(t *testing.T, d *Discovery, hash content.FullHash) []ident.MediatorID {
	t.Helper()
	var found []ident.MediatorID
	err := d.Find(testContext(t), hash, func(id ident.MediatorID) bool {
		found = append(found, id)
		return true
	})
	if err != nil {
		t.Errorf("finding: %v", err)
	}
	return found
}

// wantFound checks from every node at the same time who is found: want, without
// the node itself.
func wantFound(t *testing.T, nodes []*Discovery, hash content.FullHash, want ...*Discovery) {
	t.Helper()
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			var ids []string
			for _, other := range want {
				if other != node {
					ids = append(ids, other.ID().String())
				}
			}
			var found []string
			for _, id := range find(t, node, hash) {
				found = append(found, id.String())
			}
			slices.Sort(ids)
			slices.Sort(found)
			if !slices.Equal(ids, found) {
				t.Errorf("node %d found %v, want %v", i, found, ids)
			}
		})
	}
	wg.Wait()
}

func announce(t *testing.T, d *Discovery, hash content.FullHash) {
	t.Helper()
	if err := d.Announce(testContext(t), hash); err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, d *Discovery, hash content.FullHash) {
	t.Helper()
	if err := d.Finish(testContext(t), hash); err != nil {
		t.Fatal(err)
	}
}

func TestAnnounceFindFinish(t *testing.T) {
	for _, size := range []int{1, 2, 5, 22} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			if size > 20 && testing.Short() {
				t.Skip("a network larger than a bucket takes its time")
			}
			nodes := startAll(t, size)
			hash, last := hashOf("content"), nodes[size-1]
			wantFound(t, nodes, hash)

			began := time.Now()
			announce(t, last, hash)
			t.Logf("announce took %v", time.Since(began))
			wantFound(t, nodes, hash, last)

			began = time.Now()
			announce(t, last, hash)
			if took := time.Since(began); took > time.Second {
				t.Errorf("announcing what is announced took %v", took)
			}

			announce(t, nodes[0], hash)
			wantFound(t, nodes, hash, nodes[0], last)

			began = time.Now()
			finish(t, last, hash)
			t.Logf("finish took %v", time.Since(began))
			if size == 1 {
				wantFound(t, nodes, hash)
				return
			}
			wantFound(t, nodes, hash, nodes[0])
			finish(t, nodes[0], hash)
			wantFound(t, nodes, hash)
			finish(t, nodes[0], hash)

			announce(t, last, hash)
			wantFound(t, nodes, hash, last)
		})
	}
}

// recordsOf counts the records that nodes hold for another one.
func recordsOf(nodes []*Discovery, hash content.FullHash, owner *Discovery) int {
	count := 0
	for _, node := range nodes {
		node.records.mu.Lock()
		if _, there := node.records.stored(hash, owner.self); there {
			count++
		}
		node.records.mu.Unlock()
	}
	return count
}

func TestAnnouncedAloneIsFoundByThoseWhoCome(t *testing.T) {
	for _, size := range []int{2, 5, 22} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			if size > 20 && testing.Short() {
				t.Skip("a network larger than a bucket takes its time")
			}
			nodes := []*Discovery{start(t, nil)}
			hash := hashOf("first")
			announce(t, nodes[0], hash)
			for range size - 1 {
				nodes = append(nodes, start(t, joining(nodes[0])))
			}
			for i, node := range nodes[1:] {
				eventually(t, func() error {
					if len(find(t, node, hash)) != 1 {
						return fmt.Errorf("node %d does not find it", i+1)
					}
					return nil
				})
			}
			// Not through the announcer alone: most of those that should hold it do.
			// (kad-dht is slow to take newcomers in once it knows 20 nodes.)
			eventually(t, func() error {
				if have, want := recordsOf(nodes[1:], hash, nodes[0]), min(size-1, 15); have < want {
					return fmt.Errorf("%d nodes hold it, want %d", have, want)
				}
				return nil
			})
			finish(t, nodes[0], hash)
			wantFound(t, nodes, hash)
		})
	}
}

func TestRecordsAreRenewedAndStayWithdrawn(t *testing.T) {
	nodes := []*Discovery{start(t, func(c *Config) {
		c.Timing.Renew, c.Timing.RecordValidity, c.Timing.Watch = 5*time.Millisecond, 2*time.Second, time.Millisecond
	})}
	for range 4 {
		nodes = append(nodes, start(t, joining(nodes[0])))
	}
	settle(t, nodes)
	owner, kept := nodes[0], hashOf("kept")
	announce(t, owner, kept)
	storedAt := func() time.Time {
		nodes[1].records.mu.Lock()
		defer nodes[1].records.mu.Unlock()
		at, _ := nodes[1].records.stored(kept, owner.self)
		return at
	}
	renewed := func() { // waits until the record was renewed once more
		before := storedAt()
		eventually(t, func() error {
			if !storedAt().After(before) {
				return fmt.Errorf("not renewed since %v", before)
			}
			return nil
		})
	}
	renewed()
	for round := range 20 { // some of these meet a renewal under way
		hash := hashOf(fmt.Sprint(round))
		announce(t, owner, hash)
		for range round % 4 {
			renewed()
		}
		finish(t, owner, hash)
		if left := recordsOf(nodes, hash, owner); left != 0 {
			t.Fatalf("round %d: %d nodes hold it after finish", round, left)
		}
	}
	renewed()
	renewed()
	for round := range 20 {
		if left := recordsOf(nodes, hashOf(fmt.Sprint(round)), owner); left != 0 {
			t.Errorf("round %d: a renewal brought it back to %d nodes", round, left)
		}
	}
	wantFound(t, nodes, kept, owner)
}

// TestAnnounceCutShort ends announces at every moment of their lives.
func TestAnnounceCutShort(t *testing.T) {
	nodes := startAll(t, 5)
	owner := nodes[2]
	for round := range 60 {
		hash := hashOf(fmt.Sprint(round))
		ctx, cancel := context.WithTimeout(testContext(t), time.Duration(round)*200*time.Microsecond)
		err := owner.Announce(ctx, hash)
		cancel()
		t.Logf("announce: %v", err)
		if err := owner.Finish(testContext(t), hash); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		eventually(t, func() error { // a message may be on its way
			if left := recordsOf(nodes, hash, owner); left != 0 {
				return fmt.Errorf("round %d: %d nodes hold it", round, left)
			}
			return nil
		})
	}
}

func TestAnnounceAndFinishTogether(t *testing.T) {
	nodes := startAll(t, 4)
	owner, hash := nodes[1], hashOf("busy")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%2 == 0 {
				err := owner.Announce(testContext(t), hash)
				if err != nil && !errors.Is(err, errFinished) {
					t.Error(err)
				}
			} else if err := owner.Finish(testContext(t), hash); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	announce(t, owner, hash)
	wantFound(t, nodes, hash, owner)
	finish(t, owner, hash)
	wantFound(t, nodes, hash)
	wantNothingPending(t, owner)
}

// wantNothingPending waits: a renewal that a finish cut short ends a moment later.
func wantNothingPending(t *testing.T, d *Discovery) {
	t.Helper()
	eventually(t, func() error {
		if got := d.Status(); got.Announced != 0 || got.Pending != 0 {
			return fmt.Errorf("status %+v", got)
		}
		return nil
	})
}

func TestManyContents(t *testing.T) {
	nodes := startAll(t, 4)
	const contents = 200
	var wg sync.WaitGroup
	for i := range contents {
		wg.Go(func() { announce(t, nodes[i%4], hashOf(fmt.Sprint(i))) })
	}
	wg.Wait()
	announced := 0
	for _, node := range nodes {
		announced += node.Status().Announced
	}
	if announced != contents {
		t.Errorf("%d are announced, want %d", announced, contents)
	}
	for i := range contents {
		wg.Go(func() { wantFound(t, nodes[(i+1)%4:(i+1)%4+1], hashOf(fmt.Sprint(i)), nodes[i%4]) })
	}
	wg.Wait()
	for i := range contents {
		wg.Go(func() { finish(t, nodes[i%4], hashOf(fmt.Sprint(i))) })
	}
	wg.Wait()
	for i, node := range nodes {
		if got := node.Status(); got.Held != 0 || got.Announced != 0 {
			t.Errorf("node %d: %+v", i, got)
		}
		wantNothingPending(t, node)
	}
}

func TestWithdrawalIsRepeatedUntilTheHolderAnswers(t *testing.T) {
	nodes := []*Discovery{start(t, func(c *Config) { c.Timing.RetryMin = 50 * time.Millisecond })}
	for range 3 {
		nodes = append(nodes, start(t, joining(nodes[0])))
	}
	settle(t, nodes)
	owner, deaf, hash := nodes[0], nodes[3], hashOf("x")
	announce(t, owner, hash)
	deaf.raw.RemoveStreamHandler(WithdrawProtocol)
	err := owner.Finish(testContext(t), hash)
	if !errors.Is(err, errUnconfirmed) {
		t.Fatalf("finishing: %v, want %v", err, errUnconfirmed)
	}
	if left := recordsOf(nodes, hash, owner); left != 1 {
		t.Errorf("%d nodes hold it, want the deaf one", left)
	}
	if got := owner.Status(); got.Pending != 1 {
		t.Errorf("status %+v, want one that is pending", got)
	}
	deaf.raw.SetStreamHandler(WithdrawProtocol, deaf.serveWithdrawals)
	eventually(t, func() error {
		if recordsOf(nodes, hash, owner) != 0 || owner.Status().Pending != 0 {
			return errors.New("the deaf node was not asked again")
		}
		return nil
	})
	wantFound(t, nodes, hash)
}

func TestAnnouncedAgainWhileAWithdrawalIsPending(t *testing.T) {
	nodes := startAll(t, 3)
	owner, deaf, hash := nodes[0], nodes[2], hashOf("x")
	announce(t, owner, hash)
	deaf.raw.RemoveStreamHandler(WithdrawProtocol)
	if err := owner.Finish(testContext(t), hash); !errors.Is(err, errUnconfirmed) {
		t.Fatalf("finishing: %v", err)
	}
	finish(t, owner, hash) // there is nothing more to finish
	announce(t, owner, hash)
	deaf.raw.SetStreamHandler(WithdrawProtocol, deaf.serveWithdrawals)
	wantFound(t, nodes, hash, owner)
	finish(t, owner, hash)
	wantFound(t, nodes, hash)
}

func TestFullNodeRefuses(t *testing.T) {
	full := start(t, func(c *Config) { c.Records = RecordLimits{Total: 1, PerMediator: 1, PerHash: 1} })
	owner := start(t, joining(full))
	settle(t, []*Discovery{full, owner})
	announce(t, owner, hashOf("1"))
	if err := owner.Announce(testContext(t), hashOf("2")); !errors.Is(err, errNotStored) {
		t.Errorf("announcing to a full node: %v, want %v", err, errNotStored)
	}
	wantFound(t, []*Discovery{full}, hashOf("1"), owner)
	finish(t, owner, hashOf("1"))
	announce(t, owner, hashOf("2"))
	wantFound(t, []*Discovery{full}, hashOf("1"))
}

func TestFailedAnnounceIsTriedAgain(t *testing.T) {
	full := start(t, func(c *Config) { c.Records = RecordLimits{Total: 1, PerMediator: 1, PerHash: 1} })
	owner := start(t, func(c *Config) {
		c.Timing.RetryMin = 20 * time.Millisecond
		joining(full)(c)
	})
	settle(t, []*Discovery{full, owner})
	announce(t, owner, hashOf("1"))
	if err := owner.Announce(testContext(t), hashOf("2")); !errors.Is(err, errNotStored) {
		t.Fatalf("announcing to a full node: %v", err)
	}
	finish(t, owner, hashOf("1"))
	eventually(t, func() error {
		if owner.Status().Announced != 1 {
			return errors.New("2 is not announced")
		}
		return nil
	})
	if recordsOf([]*Discovery{full}, hashOf("2"), owner) != 1 {
		t.Error("2 is not stored")
	}
}

func TestKilledMediator(t *testing.T) {
	nodes := startAll(t, 5)
	dead, alive, hash := nodes[4], nodes[:4], hashOf("x")
	announce(t, dead, hash)
	announce(t, alive[2], hash)
	if err := dead.raw.Close(); err != nil { // nobody is told
		t.Fatal(err)
	}
	// Its record is still there, and disturbs nobody.
	var wg sync.WaitGroup
	for i, node := range alive {
		wg.Go(func() {
			for _, id := range find(t, node, hash) {
				if id != dead.ID() && id != alive[2].ID() {
					t.Errorf("node %d found %s", i, id)
				}
			}
		})
	}
	wg.Wait()
	announce(t, alive[0], hashOf("y"))
	wantFound(t, alive, hashOf("y"), alive[0])
	// Then it ends: it was stored more than its validity ago.
	for _, node := range alive {
		if err := node.records.put(hash, dead.self, time.Now().Add(-DefaultTiming.RecordValidity-time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	wantFound(t, alive, hash, alive[2])
	// A holder that died makes a finish incomplete, but no slower than a dial.
	announce(t, alive[0], hash)
	if err := alive[1].raw.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := alive[0].Finish(testContext(t), hash); !errors.Is(err, errUnconfirmed) {
		t.Errorf("finishing with a dead holder: %v", err)
	}
	t.Logf("finish with a dead holder took %v", time.Since(began))
	wantFound(t, []*Discovery{alive[2], alive[3]}, hash, alive[2])
}

func TestCloseWithdraws(t *testing.T) {
	nodes := startAll(t, 4)
	owner := nodes[3]
	var wg sync.WaitGroup
	const contents = 600 // more than a message holds
	for i := range contents {
		wg.Go(func() { announce(t, owner, hashOf(fmt.Sprint(i))) })
	}
	wg.Wait()
	began := time.Now()
	if err := owner.Close(); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	t.Logf("closing with %d contents took %v", contents, took)
	if took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
	for i, node := range nodes[:3] {
		if got := node.Status().Held; got != 0 {
			t.Errorf("node %d still holds %d records", i, got)
		}
	}
	wantFound(t, nodes[:3], hashOf("0"))
}

func TestAfterClose(t *testing.T) {
	d := start(t, nil)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for name, err := range map[string]error{
		"announce": d.Announce(ctx, hashOf("x")),
		"finish":   d.Finish(ctx, hashOf("x")),
		"find":     d.Find(ctx, hashOf("x"), func(ident.MediatorID) bool { return true }),
		"close":    d.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	nodes := startAll(t, 3)
	busy := nodes[2]
	var wg sync.WaitGroup
	ctx := testContext(t)
	for i := range 50 {
		hash := hashOf(fmt.Sprint(i))
		wg.Go(func() { _ = busy.Announce(ctx, hash) })
		wg.Go(func() { _ = busy.Find(ctx, hash, func(ident.MediatorID) bool { return true }) })
		wg.Go(func() { _ = busy.Finish(ctx, hash) })
	}
	if err := busy.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for i := range 50 {
		if left := recordsOf(nodes[:2], hashOf(fmt.Sprint(i)), busy); left != 0 {
			t.Errorf("%d nodes hold record %d of a closed mediator", left, i)
		}
	}
}

func TestFindStops(t *testing.T) {
	nodes := startAll(t, 5)
	hash := hashOf("x")
	for _, node := range nodes[1:] {
		announce(t, node, hash)
	}
	calls := 0
	err := nodes[0].Find(testContext(t), hash, func(ident.MediatorID) bool {
		calls++
		return false
	})
	if err != nil || calls != 1 {
		t.Errorf("yield was called %d times after it said no; %v", calls, err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := nodes[0].Find(ctx, hash, func(ident.MediatorID) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

func TestMembers(t *testing.T) {
	alone := start(t, nil)
	if got := alone.Members(); len(got) != 0 {
		t.Errorf("alone it knows %v", got)
	}
	nodes := startAll(t, 3)
	for i, node := range nodes {
		got := node.Members()
		for j, other := range nodes {
			if slices.Contains(got, other.ID()) != (i != j) {
				t.Errorf("node %d knows %v", i, got)
			}
		}
	}
}

func TestHostFindsAddressesInTheDHT(t *testing.T) {
	nodes := startAll(t, 4)
	from, to := nodes[1], nodes[3]
	for _, conn := range from.raw.Network().ConnsToPeer(to.self) {
		_ = conn.Close()
	}
	eventually(t, func() error {
		from.dht.RoutingTable().RemovePeer(to.self)
		from.raw.Peerstore().ClearAddrs(to.self)
		if len(from.raw.Network().ConnsToPeer(to.self)) != 0 || len(from.raw.Peerstore().Addrs(to.self)) != 0 {
			return errors.New("still known")
		}
		return nil
	})
	stream, err := from.Host().NewStream(testContext(t), to.self, WithdrawProtocol)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Reset()
}

func TestNoRecordForANodeThatCannotDropIt(t *testing.T) {
	foreign := start(t, nil)
	foreign.raw.RemoveStreamHandler(WithdrawProtocol)
	owner := start(t, nil)
	if err := owner.raw.Connect(testContext(t), peer.AddrInfo{ID: foreign.self, Addrs: foreign.raw.Addrs()}); err != nil {
		t.Fatal(err)
	}
	wantPeers(t, owner, 1) // kad-dht takes it for one of us
	if err := owner.Announce(testContext(t), hashOf("x")); !errors.Is(err, errNotStored) {
		t.Errorf("announcing: %v, want %v", err, errNotStored)
	}
	if got := foreign.Status().Held; got != 0 {
		t.Errorf("it holds %d records", got)
	}
	finish(t, owner, hashOf("x"))
}
