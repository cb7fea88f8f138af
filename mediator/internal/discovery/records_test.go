package discovery

import (
	"context"
	"errors"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	kadrecords "github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	"github.com/multiformats/go-base32"
)

func randomID(t *testing.T) peer.ID {
	t.Helper()
	id, err := test.RandPeerID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRecordLimits(t *testing.T) {
	self, a, b, c := randomID(t), randomID(t), randomID(t), randomID(t)
	r := newRecords(self, RecordLimits{Total: 4, PerMediator: 3, PerHash: 2})
	now := time.Now()
	put := func(hash string, id peer.ID, want error) {
		t.Helper()
		if err := r.put(hashOf(hash), id, now); !errors.Is(err, want) {
			t.Errorf("storing %s: %v, want %v", hash, err, want)
		}
	}
	put("1", a, nil)
	put("2", a, nil)
	put("3", a, nil)
	put("4", a, errFull) // a has three
	put("1", a, nil)     // which it may renew
	put("1", b, nil)
	put("1", c, errFull) // two have 1
	put("5", c, errFull) // there are four
	put("6", self, nil)  // our own are not counted
	if got := r.size(); got != 4 {
		t.Errorf("%d records, want 4", got)
	}
	r.remove(hashOf("1"), c) // it has none
	r.remove(hashOf("9"), a)
	r.remove(hashOf("2"), a)
	r.remove(hashOf("2"), a)
	if got := r.size(); got != 3 {
		t.Errorf("%d records, want 3", got)
	}
	put("5", c, nil)
	for _, hash := range []string{"1", "3", "5"} {
		for _, id := range []peer.ID{a, b, c} {
			r.remove(hashOf(hash), id)
		}
	}
	if len(r.held) != 0 || len(r.byHash) != 1 || r.size() != 0 {
		t.Errorf("left: %v, %v", r.held, r.byHash)
	}
}

func TestRecordsEnd(t *testing.T) {
	self, a := randomID(t), randomID(t)
	r := newRecords(self, DefaultRecordLimits)
	now := time.Now()
	for hash, id := range map[string]peer.ID{"old": a, "new": a, "own": self} {
		at := now
		if hash != "new" {
			at = now.Add(-time.Hour)
		}
		if err := r.put(hashOf(hash), id, at); err != nil {
			t.Fatal(err)
		}
	}
	r.collect(now.Add(-time.Minute))
	if got := r.size(); got != 1 {
		t.Errorf("%d records, want the new one", got)
	}
	if _, there := r.byHash[hashOf("own")]; !there {
		t.Error("our own record was collected: renewing is the announce's business")
	}
}

// TestRecordsAsDatastore goes the way of kad-dht.
func TestRecordsAsDatastore(t *testing.T) {
	ctx := context.Background()
	self, a, b := randomID(t), randomID(t), randomID(t)
	r := newRecords(self, DefaultRecordLimits)
	hash, now := hashOf("x"), time.Now()
	for _, id := range []peer.ID{a, b} {
		if err := r.Put(ctx, ds.NewKey(recordKey(hash, id)), encodeTime(now)); err != nil {
			t.Fatal(err)
		}
	}
	key := ds.NewKey(recordKey(hash, a))
	value, err := r.Get(ctx, key)
	if err != nil || string(value) != string(encodeTime(now)) {
		t.Errorf("got %x, %v", value, err)
	}
	if size, err := r.GetSize(ctx, key); err != nil || size != len(value) {
		t.Errorf("size %d, %v", size, err)
	}
	prefix := kadrecords.ProvidersKeyPrefix + base32.RawStdEncoding.EncodeToString(multihashOf(hash))
	results, err := r.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := results.Rest()
	if err != nil || len(entries) != 2 {
		t.Errorf("got %v, %v", entries, err)
	}
	if err := r.Delete(ctx, key); err != nil {
		t.Error(err)
	}
	if has, err := r.Has(ctx, key); has || err != nil {
		t.Errorf("after deleting: %v, %v", has, err)
	}
	if r.size() != 1 {
		t.Errorf("%d records", r.size())
	}
	if err := r.Sync(ctx, key); err != nil {
		t.Error(err)
	}
	batch, err := r.Batch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(batch.Delete(ctx, ds.NewKey(recordKey(hash, b))), batch.Commit(ctx), r.Close()); err != nil {
		t.Error(err)
	}
	if r.size() != 0 {
		t.Errorf("%d records", r.size())
	}
}

func TestWhatIsNoRecord(t *testing.T) {
	ctx := context.Background()
	r := newRecords(randomID(t), DefaultRecordLimits)
	b32 := base32.RawStdEncoding.EncodeToString
	id, hash := b32([]byte(randomID(t))), b32(multihashOf(hashOf("x")))
	good := encodeTime(time.Now())
	for _, text := range []string{
		"/", "/x", "/providers", "/providers/" + hash, "/providers/" + hash + "/!", "/providers/" + hash + "/" + b32([]byte("x")),
		"/providers/" + b32([]byte("short")) + "/" + id, "/providers/" + b32(make([]byte, 34)) + "/" + id, "/values/" + hash + "/" + id,
	} {
		if err := r.Put(ctx, ds.NewKey(text), good); err == nil {
			t.Errorf("%s was stored", text)
		}
		if _, err := r.Get(ctx, ds.NewKey(text)); !errors.Is(err, ds.ErrNotFound) {
			t.Errorf("%s: %v", text, err)
		}
		if size, err := r.GetSize(ctx, ds.NewKey(text)); size != -1 || err == nil {
			t.Errorf("%s has a size", text)
		}
		if err := r.Delete(ctx, ds.NewKey(text)); err != nil {
			t.Error(err)
		}
	}
	if err := r.Put(ctx, ds.NewKey("/providers/"+hash+"/"+id), nil); err == nil {
		t.Error("a record without a time was stored")
	}
	if r.size() != 0 {
		t.Errorf("%d records", r.size())
	}
}
