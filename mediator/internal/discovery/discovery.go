package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kadrecords "github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	routedhost "github.com/libp2p/go-libp2p/p2p/host/routed"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multihash"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

// ProtocolPrefix is the prefix of the DHT's protocols; its own, so that this
// DHT and that of IPFS never mix.
const ProtocolPrefix = "/p2pcdn"

const kadProtocol = ProtocolPrefix + "/kad/1.0.0" // as kad-dht makes it

const (
	// smallNetwork: with so many peers in the routing table or fewer, records are
	// stored anew when it grows. A lookup finds a record while one of the 20
	// closest nodes of then is one of the 20 of now; a network must grow many
	// times over for that to end, and from this size on it does not between two
	// renewals.
	smallNetwork = 100

	// endTimeout is how long Close waits for calls to end by themselves, and
	// closeTimeout bounds its withdrawals. A mediator stops within five seconds of
	// a signal.
	endTimeout   = time.Second
	closeTimeout = 2 * time.Second

	// collectEvery is how often ended records are removed: an ended record is
	// never served, it only takes room.
	collectEvery = time.Minute
)

// ErrClosed is returned by methods of a closed Discovery.
var ErrClosed = errors.New("discovery is closed")

// Discovery is this mediator's place in the DHT. Its methods may be called
// together. Fields without a note are set by New and never change.
type Discovery struct {
	log    *slog.Logger
	timing Timing
	http   *http.Client

	raw         host.Host    // without routing: what the DHT itself uses
	host        host.Host    // raw, with the DHT to look addresses up
	swarm       *swarm.Swarm // of raw
	self        peer.ID      // of raw
	dht         *kad.IpfsDHT
	messenger   *pb.ProtocolMessenger
	records     *records
	withdrawals *withdrawer
	missing     *missing
	reachable   *reachability
	started     time.Time // when the first round of renewals began

	ctx     context.Context // of all but the last withdrawals
	cancel  context.CancelFunc
	final   context.CancelFunc // ends the withdrawer
	lookups chan struct{}      // one token per lookup for an announce or a finish
	serving chan struct{}      // one token per served withdrawal stream
	wakes   []chan struct{}    // one per bootstrap; written by watch
	wg      sync.WaitGroup     // everything that runs: background, calls, served streams

	mu      sync.Mutex
	closed  bool                        // guarded by mu; nothing is added to wg afterwards
	entries map[content.FullHash]*entry // guarded by mu
	lost    map[peer.ID]struct{}        // of the routing table, whose connection has ended; guarded by mu
}

// New starts the libp2p host and the DHT, and joins the DHT of the bootstraps in
// the background. It fails where the configuration is wrong or the port is
// taken, and never because a bootstrap is not reached. ctx bounds New alone.
func New(ctx context.Context, config Config) (*Discovery, error) {
	bootstraps, err := config.validate()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := &Discovery{
		log: config.Logger, timing: config.Timing, http: config.HTTPClient,
		lookups: make(chan struct{}, maxLookups), serving: make(chan struct{}, maxServed),
		missing: &missing{members: make(map[peer.ID]*absentee)}, started: time.Now(),
		entries: make(map[content.FullHash]*entry), lost: make(map[peer.ID]struct{}),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	raw, err := d.newHost(config)
	if err != nil {
		return nil, fmt.Errorf("starting libp2p: %w", err)
	}
	d.raw, d.self, d.swarm = raw, raw.ID(), raw.Network().(*swarm.Swarm)
	d.records = newRecords(raw.ID(), config.Records)
	d.dht, err = kad.New(impatient(raw), append([]kad.Option{
		kad.ProtocolPrefix(ProtocolPrefix),
		kad.Mode(kad.ModeAutoServer), // a server until reachability finds that nobody reaches it
		kad.DisableValues(),
		kad.RoutingTableRefreshPeriod(config.Timing.RefreshAll),
		kad.AddressFilter(nil), // keeps loopback and private addresses
		kad.ProviderDatastore(d.records),
		kad.ProviderManagerOpts(
			kadrecords.Cache(noCache{}),
			kadrecords.CleanupInterval(0), // watch collects, without its race against renewals
			kadrecords.ProvideValidity(config.Timing.RecordValidity),
			kadrecords.ProviderAddrTTL(config.Timing.RecordValidity),
		),
	}, config.dhtOptions...)...)
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("starting the DHT: %w", err)
	}
	d.host = relayedHost{routedhost.Wrap(raw, d.dht)}
	d.messenger, err = pb.NewProtocolMessenger(d.dht.MessageSender())
	if err == nil {
		raw.SetStreamHandler(WithdrawProtocol, d.serveWithdrawals)
		raw.Network().Notify(&network.NotifyBundle{DisconnectedF: d.noteLost})
		// Last, so that whoever connects finds everything in place.
		err = listen(d.swarm, config.ListenHosts, config.ListenPort)
	}
	if err != nil {
		_ = d.dht.Close()
		_ = raw.Close()
		return nil, err
	}
	var final context.Context
	final, d.final = context.WithCancel(context.Background())
	d.withdrawals = newWithdrawer(final, d.host)
	for _, bootstrap := range bootstraps {
		wake := make(chan struct{}, 1)
		d.wakes = append(d.wakes, wake)
		d.wg.Go(func() { d.join(d.ctx, bootstrap, wake) })
	}
	d.wg.Go(func() { d.watch(d.ctx) })
	return d, nil
}

// begin starts a call or a served stream: its context ends with the Discovery
// too, and Close waits for done.
func (d *Discovery) begin(parent context.Context) (ctx context.Context, done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, ErrClosed
	}
	d.wg.Add(1)
	ctx, cancel := context.WithCancel(parent)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		d.wg.Done()
	}, nil
}

// watch looks at the routing table and at what is due, until ctx is done.
func (d *Discovery) watch(ctx context.Context) {
	ticker := time.NewTicker(d.timing.Watch)
	defer ticker.Stop()
	var (
		known               = make(map[peer.ID]struct{})
		refreshed           = time.Now()
		firstGain, lastGain time.Time // of peers that no record was stored at yet; zero: none
		collected           = time.Now()
		tending             chan struct{} // closed when the last round of tend ended; nil before the first
		seeking             = make(chan struct{}, maxSeeking)
		checking            = make(chan struct{}, maxSeeking)
	)
	for {
		var now time.Time
		select {
		case now = <-ticker.C:
		case <-ctx.Done():
			return
		}
		peers := d.dht.RoutingTable().ListPeers()
		if len(peers) == 0 {
			d.wakeBootstraps()
		}
		gained := false
		next := make(map[peer.ID]struct{}, len(peers))
		for _, peer := range peers {
			next[peer] = struct{}{}
			if _, old := known[peer]; !old {
				gained = true
				d.missing.forget(peer)
			}
		}
		for peer := range known {
			if _, still := next[peer]; !still {
				d.missing.note(d.raw.Peerstore().PeerInfo(peer), now, d.timing.MissingMin)
			}
		}
		known = next
		d.checkLost(ctx, checking)
		for _, absent := range d.missing.due(now, maxSeeking-len(seeking)) {
			seeking <- struct{}{}
			d.wg.Go(func() {
				defer func() { <-seeking }()
				d.seek(ctx, absent)
			})
		}
		d.reachable.judge(now)
		if gained && len(peers) <= smallNetwork {
			lastGain = now
			if firstGain.IsZero() {
				firstGain = now
			}
		}
		// While a network grows without a pause, records are stored anew now and then.
		if !firstGain.IsZero() && (now.Sub(lastGain) >= d.timing.Settle || now.Sub(firstGain) >= 5*d.timing.Settle) {
			firstGain = time.Time{}
			d.renewAll(now)
		}
		if len(peers) > 0 && len(peers) <= smallNetwork && now.Sub(refreshed) >= d.timing.Refresh {
			refreshed = now
			d.dht.RefreshRoutingTable()
		}
		if now.Sub(collected) >= collectEvery {
			collected = now
			d.records.collect(now.Add(-d.timing.RecordValidity))
		}
		select {
		case <-tending:
			tending = nil
		default:
		}
		if tending == nil {
			if single, renewals := d.due(now); len(single)+len(renewals) > 0 {
				ended := make(chan struct{})
				tending = ended
				d.wg.Go(func() {
					defer close(ended)
					d.tend(ctx, single)
					d.sweep(ctx, renewals)
				})
			}
		}
	}
}

func (d *Discovery) wakeBootstraps() {
	for _, wake := range d.wakes {
		select {
		case wake <- struct{}{}:
		default: // it knows
		}
	}
}

// Host returns the libp2p host, for other protocols between mediators. It looks
// addresses that it does not know up in the DHT, and reaches those that nobody
// reaches directly through a relay. Discovery closes it.
func (d *Discovery) Host() host.Host { return d.host }

// ID returns this mediator's id.
func (d *Discovery) ID() ident.MediatorID {
	id, err := ident.ParseMediatorID(d.self.String())
	if err != nil { // every libp2p id is one
		panic(err)
	}
	return id
}

// Addrs returns the multiaddrs, with /p2p/<id>, under which this mediator can be
// dialled, as far as it knows: those of all interfaces where it listens on all,
// without those that the package comment says are not announced.
func (d *Discovery) Addrs() []string {
	var out []string
	for _, address := range d.raw.Addrs() {
		out = append(out, address.String()+"/p2p/"+d.self.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Members returns the mediators in the routing table: those that this one knows
// best, some 200 in a network of thousands.
func (d *Discovery) Members() []ident.MediatorID {
	peers := d.dht.RoutingTable().ListPeers()
	members := make([]ident.MediatorID, 0, len(peers))
	for _, peer := range peers {
		if id, err := ident.ParseMediatorID(peer.String()); err == nil {
			members = append(members, id)
		}
	}
	return members
}

// Missing returns how many mediators fell out of the routing table and are tried
// again.
func (d *Discovery) Missing() int { return d.missing.size() }

// Status is a moment of a Discovery, for people.
type Status struct {
	Peers     int    // mediators in the routing table
	Reach     Reach  // how others reach this one
	Announced int    // records of this mediator that can be found
	Pending   int    // records that are not stored yet, or not withdrawn everywhere
	Held      int    // records kept for other mediators
	Refused   uint64 // records of others that there was no room for, ever
}

// Status returns how things are.
func (d *Discovery) Status() Status {
	status := Status{Peers: d.dht.RoutingTable().Size(), Reach: d.reachable.status()}
	status.Held, status.Refused = d.records.counts()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if e.wanted && e.stored {
			status.Announced++
		} else {
			status.Pending++
		}
	}
	return status
}

// Close withdraws what is announced, within about two seconds, leaves the DHT,
// and waits for everything that New started. Calls that are under way end with
// an error. Whatever uses the host must have ended before.
func (d *Discovery) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	d.closed = true
	d.mu.Unlock()
	d.raw.RemoveStreamHandler(WithdrawProtocol)
	d.cancel()
	// Those that serve would wait for the other side.
	for _, conn := range d.raw.Network().Conns() {
		for _, stream := range conn.GetStreams() {
			if stream.Protocol() == WithdrawProtocol {
				_ = stream.Reset()
			}
		}
	}
	ended := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(endTimeout): // kad-dht writes without a deadline, maybe to one who does not read
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	d.withdrawAll(ctx)
	d.final()
	d.withdrawals.wg.Wait()
	d.reachable.close()
	err := errors.Join(d.dht.Close(), d.raw.Close()) // which ends such a write
	<-ended
	return err
}

func multihashOf(hash content.FullHash) multihash.Multihash {
	key, err := multihash.Encode(hash[:], multihash.SHA2_256)
	if err != nil { // only for an unknown code
		panic(err)
	}
	return key
}

func cidOf(hash content.FullHash) cid.Cid { return cid.NewCidV1(cid.Raw, multihashOf(hash)) }

// noCache is a cache for kad-dht's provider manager that keeps nothing: a
// withdrawal must not have to find its way into a cache as well.
type noCache struct{}

func (noCache) Add(_, _ any) bool              { return false }
func (noCache) Get(any) (any, bool)            { return nil, false }
func (noCache) Contains(any) bool              { return false }
func (noCache) Peek(any) (any, bool)           { return nil, false }
func (noCache) Remove(any) bool                { return false }
func (noCache) RemoveOldest() (any, any, bool) { return nil, nil, false }
func (noCache) GetOldest() (any, any, bool)    { return nil, nil, false }
func (noCache) Keys() []any                    { return nil }
func (noCache) Len() int                       { return 0 }
func (noCache) Purge()                         {}
func (noCache) Resize(int) int                 { return 0 }
