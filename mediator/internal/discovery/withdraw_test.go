package discovery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"p2pcdn/common/content"
)

func FuzzReadWithdrawal(f *testing.F) {
	f.Add(appendWithdrawal(nil, []content.FullHash{hashOf("a")}))
	f.Fuzz(func(t *testing.T, text []byte) {
		reader := bytes.NewReader(text)
		hashes, err := readWithdrawal(reader)
		used := len(text) - reader.Len()
		if err != nil {
			if len(hashes) != 0 {
				t.Fatalf("%d hashes and %v", len(hashes), err)
			}
			if errors.Is(err, io.EOF) && !errors.Is(err, errBadWithdrawal) && len(text) != 0 {
				t.Fatalf("%d bytes count as the end", len(text))
			}
			return
		}
		if len(hashes) == 0 || len(hashes) > maxWithdrawal {
			t.Fatalf("%d hashes", len(hashes))
		}
		if again := appendWithdrawal(nil, hashes); !bytes.Equal(again, text[:used]) {
			t.Fatalf("%x became %x", text[:used], again)
		}
	})
}

func TestReadWithdrawal(t *testing.T) {
	full := make([]content.FullHash, maxWithdrawal)
	for i := range full {
		full[i] = hashOf(fmt.Sprint(i))
	}
	for _, hashes := range [][]content.FullHash{full[:1], full[:2], full} {
		text := appendWithdrawal(nil, hashes)
		got, err := readWithdrawal(bytes.NewReader(text))
		if err != nil || !slices.Equal(got, hashes) {
			t.Errorf("%d hashes: %v", len(hashes), err)
		}
		for cut := 1; cut < len(text); cut += 31 {
			if _, err := readWithdrawal(bytes.NewReader(text[:cut])); !errors.Is(err, errBadWithdrawal) {
				t.Errorf("cut to %d bytes: %v", cut, err)
			}
		}
	}
	if _, err := readWithdrawal(bytes.NewReader(nil)); err != io.EOF {
		t.Errorf("the end is %v", err)
	}
	for _, count := range []uint16{0, maxWithdrawal + 1, 0xffff} {
		text := append(binary.BigEndian.AppendUint16(nil, count), make([]byte, 1<<16)...)
		if _, err := readWithdrawal(bytes.NewReader(text)); !errors.Is(err, errBadWithdrawal) {
			t.Errorf("a count of %d: %v", count, err)
		}
	}
}

func TestForgedWithdrawal(t *testing.T) {
	nodes := startAll(t, 4)
	owner, forger, hash := nodes[1], nodes[3], hashOf("mine")
	announce(t, owner, hash)
	for _, holder := range nodes[:3] {
		if err := forger.withdrawals.send(testContext(t), holder.self, []content.FullHash{hash}); err != nil {
			t.Errorf("a withdrawal of nothing is fine: %v", err)
		}
	}
	wantFound(t, nodes, hash, owner)
	finish(t, forger, hash) // it never announced it
	wantFound(t, nodes, hash, owner)
}

func TestWithdrawalNonsense(t *testing.T) {
	nodes := startAll(t, 2)
	owner, holder, hash := nodes[0], nodes[1], hashOf("x")
	announce(t, owner, hash)
	good := appendWithdrawal(nil, []content.FullHash{hash})
	for name, text := range map[string][]byte{
		"no hashes":       {0, 0},
		"too many hashes": {0xff, 0xff},
		"cut short":       good[:len(good)-1],
		"half a count":    {0},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := owner.host.NewStream(testContext(t), holder.self, WithdrawProtocol)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Reset()
			_ = stream.SetDeadline(time.Now().Add(testDeadline))
			if _, err := stream.Write(text); err != nil {
				t.Fatal(err)
			}
			_ = stream.CloseWrite()
			if n, err := stream.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("got %d bytes, %v, want a reset", n, err)
			}
		})
	}
	wantFound(t, nodes, hash, owner)
}

func TestManyWithdrawalsShareStreams(t *testing.T) {
	nodes := startAll(t, 2)
	owner, holder := nodes[0], nodes[1]
	var hashes []content.FullHash
	for i := range 3*maxWithdrawal + 1 {
		hash := hashOf(fmt.Sprint(i))
		hashes = append(hashes, hash)
		if err := holder.records.put(hash, owner.self, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := owner.withdrawals.send(testContext(t), holder.self, hashes); err != nil {
		t.Fatal(err)
	}
	if got := holder.records.size(); got != 0 {
		t.Errorf("%d records are left", got)
	}
}

func TestServedWithdrawalsAreBounded(t *testing.T) {
	nodes := startAll(t, 2)
	owner, holder := nodes[0], nodes[1]
	for range maxServed {
		holder.serving <- struct{}{}
	}
	if err := owner.withdrawals.send(testContext(t), holder.self, []content.FullHash{hashOf("x")}); err == nil {
		t.Error("one more was served")
	}
	<-holder.serving
	if err := owner.withdrawals.send(testContext(t), holder.self, []content.FullHash{hashOf("x")}); err != nil {
		t.Error(err)
	}
}
