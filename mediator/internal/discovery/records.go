package discovery

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	kadrecords "github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-base32"
	"github.com/multiformats/go-multihash"

	"p2pcdn/common/content"
	"p2pcdn/mediator/internal/limits"
)

// RecordLimits bounds the records that are kept for other mediators. Beyond a
// limit new records are refused; those that are there stay, and can be renewed. Zero
// means that of DefaultRecordLimits, [limits.Off] none.
type RecordLimits struct {
	Total       int
	PerMediator int
	PerHash     int
}

// DefaultRecordLimits: a record takes about 150 bytes, so all of them 30 MB. One
// mediator gets a tenth: enough for all that it announces in a network so small
// that every node holds everything, and it takes ten identities to fill a node.
// A thousand mediators for one content are more than a lookup can use, and
// still fit ten times into one DHT message (4 MiB).
var DefaultRecordLimits = RecordLimits{Total: 200_000, PerMediator: 20_000, PerHash: 1_000}

func (l RecordLimits) withDefaults() RecordLimits {
	limits.Fill(&l.Total, DefaultRecordLimits.Total)
	limits.Fill(&l.PerMediator, DefaultRecordLimits.PerMediator)
	limits.Fill(&l.PerHash, DefaultRecordLimits.PerHash)
	return l
}

var (
	errFull      = errors.New("no room for more records")
	errNotRecord = errors.New("not the key of a provider record")
)

// records holds the provider records of this node, its own and those of others.
// kad-dht reads and writes it as a datastore; withdrawals remove from it.
// Its own goroutine-safety is mu; kad-dht's provider manager caches nothing.
type records struct {
	self   peer.ID
	limits RecordLimits

	mu      sync.Mutex                    // guards what follows
	byHash  map[content.FullHash][]record // lists, since most have one, and a map takes ten times as much
	held    map[peer.ID]int               // records per mediator, without our own
	total   int                           // sum of held
	refused uint64                        // records that there was no room for, ever
}

// record says that a mediator provides a content.
type record struct {
	provider peer.ID
	at       int64 // when it was stored or renewed, in Unix nanoseconds
}

func newRecords(self peer.ID, bounds RecordLimits) *records {
	return &records{
		self: self, limits: bounds,
		byHash: make(map[content.FullHash][]record), held: make(map[peer.ID]int),
	}
}

// put stores or renews a record. Our own are not limited here: the router
// bounds what peers may announce.
func (r *records) put(hash content.FullHash, provider peer.ID, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.byHash[hash]
	if i := indexOf(list, provider); i >= 0 {
		list[i].at = at.UnixNano()
		return nil
	}
	if provider != r.self {
		if limits.Reached(r.total, r.limits.Total) || limits.Reached(r.held[provider], r.limits.PerMediator) ||
			limits.Reached(len(list), r.limits.PerHash) {
			r.refused++
			return errFull
		}
		r.total++
		r.held[provider]++
	}
	r.byHash[hash] = append(list, record{provider, at.UnixNano()})
	return nil
}

func indexOf(list []record, provider peer.ID) int {
	return slices.IndexFunc(list, func(held record) bool { return held.provider == provider })
}

func (r *records) remove(hash content.FullHash, provider peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeWhere(hash, func(held record) bool { return held.provider == provider })
}

// removeWhere removes the records of a content for which it holds. mu is held.
func (r *records) removeWhere(hash content.FullHash, holds func(record) bool) {
	list := slices.DeleteFunc(r.byHash[hash], func(one record) bool {
		if !holds(one) {
			return false
		}
		if one.provider != r.self {
			r.total--
			if r.held[one.provider]--; r.held[one.provider] == 0 {
				delete(r.held, one.provider)
			}
		}
		return true
	})
	if len(list) == 0 {
		delete(r.byHash, hash)
	} else {
		r.byHash[hash] = list
	}
}

// collect removes the records of others that were stored before a time.
func (r *records) collect(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for hash := range r.byHash {
		r.removeWhere(hash, func(held record) bool { return held.at < before.UnixNano() && held.provider != r.self })
	}
}

// size returns how many records are kept for other mediators.
func (r *records) size() int {
	held, _ := r.counts()
	return held
}

// counts returns how many records of others are kept, and how many were ever refused.
func (r *records) counts() (held int, refused uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total, r.refused
}

// What follows is the datastore that kad-dht's provider manager wants. Its keys
// are /providers/<multihash>/<peer id>, both in base32; the value is the time of
// the record as a varint of nanoseconds.

var _ ds.Batching = (*records)(nil)

func recordKey(hash content.FullHash, provider peer.ID) string {
	return kadrecords.ProvidersKeyPrefix + base32.RawStdEncoding.EncodeToString(multihashOf(hash)) +
		"/" + base32.RawStdEncoding.EncodeToString([]byte(provider))
}

func parseRecordKey(key ds.Key) (content.FullHash, peer.ID, error) {
	rest, ok := strings.CutPrefix(key.String(), kadrecords.ProvidersKeyPrefix)
	hashText, providerText, both := strings.Cut(rest, "/")
	hash, err := parseHashPart(hashText)
	if !ok || !both || err != nil {
		return content.FullHash{}, "", errNotRecord
	}
	id, err := base32.RawStdEncoding.DecodeString(providerText)
	if err != nil {
		return content.FullHash{}, "", errNotRecord
	}
	provider, err := peer.IDFromBytes(id)
	if err != nil {
		return content.FullHash{}, "", errNotRecord
	}
	return hash, provider, nil
}

// parseHashPart refuses whatever is no SHA-256 multihash: kad-dht stores any
// key of up to 80 bytes, but nobody of this network looks for another kind.
func parseHashPart(text string) (content.FullHash, error) {
	key, err := base32.RawStdEncoding.DecodeString(text)
	if err != nil || len(key) != 2+content.HashSize || key[0] != multihash.SHA2_256 || key[1] != content.HashSize {
		return content.FullHash{}, errNotRecord
	}
	return content.FullHash(key[2:]), nil
}

// Put implements [ds.Datastore].
func (r *records) Put(_ context.Context, key ds.Key, value []byte) error {
	hash, provider, err := parseRecordKey(key)
	if err != nil {
		return err
	}
	nanoseconds, n := binary.Varint(value)
	if n <= 0 {
		return errNotRecord
	}
	return r.put(hash, provider, time.Unix(0, nanoseconds))
}

// Delete implements [ds.Datastore].
func (r *records) Delete(_ context.Context, key ds.Key) error {
	hash, provider, err := parseRecordKey(key)
	if err == nil {
		r.remove(hash, provider)
	}
	return nil
}

// Get implements [ds.Datastore].
func (r *records) Get(_ context.Context, key ds.Key) ([]byte, error) {
	hash, provider, err := parseRecordKey(key)
	if err != nil {
		return nil, ds.ErrNotFound
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at, there := r.stored(hash, provider)
	if !there {
		return nil, ds.ErrNotFound
	}
	return encodeTime(at), nil
}

// stored is when a record was stored or renewed. mu is held.
func (r *records) stored(hash content.FullHash, provider peer.ID) (at time.Time, there bool) {
	list := r.byHash[hash]
	i := indexOf(list, provider)
	if i < 0 {
		return time.Time{}, false
	}
	return time.Unix(0, list[i].at), true
}

func encodeTime(at time.Time) []byte { return binary.AppendVarint(nil, at.UnixNano()) }

// Has implements [ds.Datastore].
func (r *records) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := r.Get(ctx, key)
	return err == nil, nil
}

// GetSize implements [ds.Datastore].
func (r *records) GetSize(ctx context.Context, key ds.Key) (int, error) {
	value, err := r.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(value), nil
}

// Query implements [ds.Datastore] for the one query that the provider manager
// makes: all records of one hash. (The other one is its sweep, which is off.)
func (r *records) Query(_ context.Context, q query.Query) (query.Results, error) {
	var entries []query.Entry
	hash, err := parseHashPart(strings.TrimPrefix(q.Prefix, kadrecords.ProvidersKeyPrefix))
	if err == nil {
		r.mu.Lock()
		for _, record := range r.byHash[hash] {
			value := encodeTime(time.Unix(0, record.at))
			entries = append(entries, query.Entry{Key: recordKey(hash, record.provider), Value: value, Size: len(value)})
		}
		r.mu.Unlock()
	}
	return query.ResultsWithEntries(q, entries), nil
}

// Batch implements [ds.Batching].
func (r *records) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(r), nil }

// Sync implements [ds.Datastore]: everything is in memory, for a mediator that
// starts again announces again.
func (r *records) Sync(context.Context, ds.Key) error { return nil }

// Close implements [ds.Datastore].
func (r *records) Close() error { return nil }
