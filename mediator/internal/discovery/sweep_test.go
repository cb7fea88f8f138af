package discovery

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"

	"p2pcdn/common/content"
)

func TestRenewalsAreSpreadOverTheRound(t *testing.T) {
	d := &Discovery{self: "some node", started: time.Now(), timing: DefaultTiming}
	now := d.started.Add(12345 * time.Second)
	due := make(map[time.Time]int)
	const records = 10_000
	for i := range records {
		at := d.renewal(placeOfHash(hashOf(fmt.Sprint(i))), now)
		if wait := at.Sub(now); wait < d.timing.Renew/4 || wait > d.timing.Renew*5/4 {
			t.Fatalf("renewed after %v", wait)
		}
		due[at]++
	}
	if len(due) != renewalSlots {
		t.Errorf("they are due at %d times, want %d", len(due), renewalSlots)
	}
	for at, n := range due {
		if n > 2*records/renewalSlots {
			t.Errorf("%d are due at %v", n, at)
		}
		// A round later, or so: its place in the round is that of the keyspace.
		place := placeOfHash(hashOf("0"))
		first := d.renewal(place, now)
		if again := d.renewal(place, first); again.Sub(first) != d.timing.Renew {
			t.Errorf("renewed again after %v", again.Sub(first))
		}
	}
}

// entriesOf makes entries that are announced and stored, for a sweep.
func entriesOf(d *Discovery, name string, n int) []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var entries []*entry
	for i := range n {
		hash := hashOf(fmt.Sprint(name, i))
		e := &entry{hash: hash, place: placeOfHash(hash), turn: make(chan struct{}, 1), wanted: true, stored: true, users: 1, queued: true,
			next: time.Now().Add(time.Hour)} // the node itself leaves it alone
		d.entries[hash] = e
		entries = append(entries, e)
	}
	return entries
}

func TestSweepInASmallNetwork(t *testing.T) {
	var lookups atomic.Int64
	count := func(c *Config) {
		c.dhtOptions = append(c.dhtOptions, kad.OnRequestHook(func(_ context.Context, _ network.Stream, message *pb.Message) {
			if message.GetType() == pb.Message_FIND_NODE {
				lookups.Add(1)
			}
		}))
	}
	owner := start(t, func(c *Config) { c.Timing.Settle = time.Hour }) // it renews nothing because the network grew
	nodes := []*Discovery{owner}
	for range 4 {
		nodes = append(nodes, start(t, func(c *Config) {
			joining(owner)(c)
			count(c)
		}))
	}
	settle(t, nodes)
	entries := entriesOf(owner, "x", 2*maxRenewing+1)
	before := lookups.Load()
	owner.sweep(testContext(t), slices.Clone(entries))
	t.Logf("%d messages of lookups, some of them to fill routing tables", lookups.Load()-before)
	for _, e := range entries {
		if got := recordsOf(nodes, e.hash, owner); got != 5 {
			t.Fatalf("%d nodes hold a record, want all", got)
		}
		owner.mu.Lock()
		got := *e
		owner.mu.Unlock()
		if len(got.holders) != 4 || !got.holders[0].sure || got.users != 0 {
			t.Fatalf("%d holders are known, %+v", len(got.holders), got)
		}
	}
	finish(t, owner, entries[0].hash)
	if got := recordsOf(nodes, entries[0].hash, owner); got != 0 {
		t.Errorf("%d nodes hold what is finished", got)
	}
	// What somebody works on, and what is finished meanwhile, is left alone.
	busy, finished := entries[1], entries[2]
	owner.mu.Lock()
	for _, e := range []*entry{busy, finished} {
		e.users++
		e.queued = true
	}
	finished.wanted, finished.stored = false, false
	owner.mu.Unlock()
	busy.turn <- struct{}{}
	took := owner.renewable(busy) || owner.renewable(finished)
	owner.mu.Lock()
	took = took || busy.users != 0 || finished.queued
	owner.mu.Unlock()
	if took {
		t.Error("it is renewed all the same")
	}
	<-busy.turn
	owner.mu.Lock()
	finished.wanted, finished.stored = true, true
	owner.mu.Unlock()
}

func TestFullNodeKeepsWhatItHas(t *testing.T) {
	const room = 100
	full := start(t, func(c *Config) { c.Records = RecordLimits{Total: room, PerMediator: room, PerHash: 1} })
	owner := start(t, joining(full))
	settle(t, []*Discovery{full, owner})
	entries := entriesOf(owner, "first", room)
	owner.sweep(testContext(t), slices.Clone(entries))
	if got := full.Status().Held; got != room {
		t.Fatalf("it holds %d", got)
	}
	more := entriesOf(owner, "more", 20)
	entries = append(entries, more...)
	owner.mu.Lock()
	for _, e := range entries {
		e.users, e.queued = 1, true
	}
	owner.mu.Unlock()
	for i, e := range entries {
		if i < room {
			if err := full.records.put(e.hash, owner.self, time.Now().Add(-time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
	}
	owner.sweep(testContext(t), slices.Clone(entries))
	full.records.mu.Lock()
	defer full.records.mu.Unlock()
	owner.mu.Lock()
	defer owner.mu.Unlock()
	for i, e := range entries {
		at, held := full.records.stored(e.hash, owner.self)
		if held != (i < room) || held && time.Since(at) > 50*time.Second {
			t.Errorf("record %d is held: %v, since %v", i, held, at)
		}
		if confirmed := e.holders.confirmed(full.self); confirmed != held || !held && e.tries == 0 {
			t.Errorf("record %d is taken for held: %v; %d tries", i, confirmed, e.tries)
		}
	}
}

func TestRecordsOnTheWire(t *testing.T) {
	d := &Discovery{entries: make(map[content.FullHash]*entry)}
	entries := entriesOf(d, "x", 3)
	self := peer.AddrInfo{ID: "me", Addrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/192.0.2.1/tcp/1")}}
	text, err := appendRecords(nil, entries, self)
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(bytes.NewReader(text))
	for i := range 4 {
		message, err := readMessage(reader)
		if err != nil {
			t.Fatal(err)
		}
		want := pb.Message_ADD_PROVIDER
		if i == 3 {
			want = pb.Message_GET_PROVIDERS
		}
		if message.GetType() != want || !bytes.Equal(message.GetKey(), multihashOf(entries[min(i, 2)].hash)) {
			t.Errorf("message %d: %v", i, message)
		}
	}
	if _, err := readMessage(reader); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	for cut := 1; cut < len(text); cut += 7 {
		reader := bufio.NewReader(bytes.NewReader(text[:cut]))
		var err error
		for err == nil {
			_, err = readMessage(reader)
		}
	}
	long := bufio.NewReader(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}))
	if _, err := readMessage(long); err == nil {
		t.Error("a message of 32 GiB")
	}
}

func FuzzReadMessage(f *testing.F) {
	text, err := appendMessage(nil, pb.NewMessage(pb.Message_GET_PROVIDERS, multihashOf(hashOf("x")), 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if message, err := readMessage(bufio.NewReader(bytes.NewReader(text))); (message == nil) == (err == nil) {
			t.Errorf("%v and %v", message, err)
		}
	})
}

// meter counts the messages of the DHT that all nodes get.
type meter struct {
	messages, lookups atomic.Int64
	bytes             traffic // of the owner
}

// traffic counts the bytes of a host. (libp2p's own counter leaves a goroutine behind.)
type traffic struct {
	metrics.Reporter // none: nobody asks
	total            atomic.Int64
}

func (c *traffic) LogSentMessage(n int64)                           { c.total.Add(n) }
func (c *traffic) LogRecvMessage(n int64)                           { c.total.Add(n) }
func (c *traffic) LogSentMessageStream(int64, protocol.ID, peer.ID) {}
func (c *traffic) LogRecvMessageStream(int64, protocol.ID, peer.ID) {}

func (m *meter) hook(_ context.Context, _ network.Stream, message *pb.Message) {
	m.messages.Add(1)
	if message.GetType() == pb.Message_FIND_NODE {
		m.lookups.Add(1)
	}
}

type reading struct{ messages, lookups, bytes, cpu float64 }

func (m *meter) read() reading {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return reading{
		float64(m.messages.Load()), float64(m.lookups.Load()), float64(m.bytes.total.Load()),
		float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9,
	}
}

func (r reading) since(before reading, factor float64) reading {
	return reading{
		(r.messages - before.messages) * factor, (r.lookups - before.lookups) * factor,
		(r.bytes - before.bytes) * factor, (r.cpu - before.cpu) * factor,
	}
}

// benchRecords is how many records the sweep renews; benchSingle how many are
// renewed with a lookup each, for the yardstick.
const (
	benchNodes   = 48
	benchRecords = 10_000
	benchSingle  = 100
)

// held returns how many of the nearest nodes hold records of the first node.
func held(nodes []*Discovery, entries []*entry) float64 {
	byID := make(map[peer.ID]*Discovery)
	var ids []peer.ID
	for _, node := range nodes[1:] {
		byID[node.self] = node
		ids = append(ids, node.self)
	}
	holding := 0
	for _, e := range entries {
		for _, node := range nearest(e.place, locate(ids), bucketSize) {
			holding += recordsOf([]*Discovery{byID[node.id]}, e.hash, nodes[0])
		}
	}
	return float64(holding) / float64(bucketSize*len(entries))
}

func TestHoldersTakeLittleMemory(t *testing.T) {
	var nodes []peer.ID
	for i := range 100 {
		nodes = append(nodes, peer.ID(fmt.Sprintf("%038d", i)))
	}
	heap := func() float64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapAlloc)
	}
	before := heap()
	const records = 10_000
	all := make([]holders, records)
	for i := range all {
		for j := range bucketSize {
			all[i].set(nodes[(i+j)%len(nodes)], time.Now(), true)
		}
	}
	took := heap() - before
	t.Logf("%d records with %d holders each take %.1f MB", records, bucketSize, took/1e6)
	if took > 12e6 {
		t.Errorf("that is too much")
	}
	runtime.KeepAlive(all)
}

// BenchmarkReprovide says what it costs to keep 10,000 records for an hour: the
// sweep, and a lookup and 20 verified puts for each record, as an announce does
// it. CPU time is that of all nodes, which are in this process; bytes are those
// of the announcer.
func BenchmarkReprovide(b *testing.B) {
	m := new(meter)
	begin := func(change func(*Config)) *Discovery {
		config := Config{Key: newKey(b), ListenHosts: []string{"127.0.0.1"}, Timing: quick, dhtOptions: []kad.Option{kad.OnRequestHook(m.hook)}}
		config.Timing.Refresh, config.Timing.Settle = time.Hour, time.Hour // nothing but what is measured
		change(&config)
		d, err := New(b.Context(), config)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	owner := begin(func(c *Config) { c.hostOptions = []libp2p.Option{libp2p.BandwidthReporter(&m.bytes)} })
	nodes := []*Discovery{owner}
	for range benchNodes - 1 {
		nodes = append(nodes, begin(joining(owner)))
	}
	defer func() {
		var wg sync.WaitGroup
		for _, node := range nodes {
			wg.Go(func() { _ = node.Close() })
		}
		wg.Wait()
	}()
	for range 2 {
		var wg sync.WaitGroup
		for _, node := range nodes {
			wg.Go(func() { <-node.dht.ForceRefresh() })
		}
		wg.Wait()
	}
	b.Logf("%d nodes; the announcer knows %d", benchNodes, owner.Status().Peers)

	ctx := b.Context()
	rounds := float64(time.Hour / DefaultTiming.Renew)
	single := entriesOf(owner, "single", benchSingle)
	before := m.read()
	for _, e := range single {
		if err := e.take(ctx); err != nil {
			b.Fatal(err)
		}
		if err := owner.provide(ctx, e, nil); err != nil {
			b.Fatal(err)
		}
		e.leave()
	}
	old := m.read().since(before, rounds*benchRecords/benchSingle)

	records := entriesOf(owner, "swept", benchRecords)
	parts := make(map[time.Time][]*entry)
	for _, e := range records {
		at := owner.renewal(e.place, owner.started)
		parts[at] = append(parts[at], e)
	}
	for range b.N {
		before = m.read()
		for _, part := range parts { // as they become due
			owner.mu.Lock()
			for _, e := range part {
				e.users, e.queued = 1, true
			}
			owner.mu.Unlock()
			owner.sweep(ctx, slices.Clone(part))
		}
	}
	swept := m.read().since(before, rounds)
	b.Logf("of the nearest %d of a record, %.1f%% hold it where it was looked up, %.1f%% after the sweep",
		bucketSize, 100*held(nodes, single), 100*held(nodes, records[:500]))
	for _, row := range []struct {
		name     string
		old, now float64
		unit     float64
	}{
		{"messages", old.messages, swept.messages, 1}, {"lookup-messages", old.lookups, swept.lookups, 1},
		{"MB", old.bytes, swept.bytes, 1e6}, {"cpu-s", old.cpu, swept.cpu, 1},
	} {
		b.ReportMetric(row.now/row.unit, row.name+"/h")
		b.ReportMetric(row.old/row.unit, row.name+"-single/h")
		b.ReportMetric(row.old/row.now, row.name+"-ratio")
	}
	b.ReportMetric(0, "ns/op")
}
