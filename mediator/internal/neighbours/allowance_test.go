package neighbours

import (
	"testing"
	"time"
)

func TestAllowances(t *testing.T) {
	a, now := newAllowances[int](time.Second, 2), time.Unix(1000, 0)
	for i, want := range []bool{true, true, false} {
		if a.take(1, now) != want {
			t.Errorf("number %d: %v", i, !want)
		}
	}
	if !a.take(2, now) || !a.take(1, now.Add(time.Second)) {
		t.Error("another one, or the same one later, is refused")
	}
	for range 100 {
		if !a.take(0, now) {
			t.Fatal("the key for no limit has one")
		}
	}
}

func TestAllowancesAreBounded(t *testing.T) {
	a, now := newAllowances[int](time.Second, 2), time.Unix(1000, 0)
	for key := range maxAllowances {
		if !a.take(key+1, now) {
			t.Fatalf("key %d is refused", key)
		}
	}
	if a.take(-1, now) {
		t.Error("there is one too many")
	}
	if !a.take(1, now) || a.take(1, now) {
		t.Error("those that are there have lost theirs, or have got a new one")
	}
	if now = now.Add(2 * time.Second); !a.take(-1, now) || len(a.of) > maxAllowances {
		t.Errorf("%d are kept although all have got theirs back", len(a.of))
	}
}
