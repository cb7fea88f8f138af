package client

import (
	"bytes"
	"sync"
	"testing"

	"p2pcdn/common/wire"
)

// A poisoning seeder among honest ones, over real connections: the download finishes, the liar is
// named and left, and nobody else is. Every piece here is large enough to be fetched from
// all of them together, so the liar's blocks are mixed with right ones.
func TestAPoisonerAmongHonestSeedersOverWebRTC(t *testing.T) {
	data, source := randomPieces(10<<20+5, 2<<20)
	info := source.info
	hub, connect := newHub(), overWebRTC()
	lied := make(chan struct{}) // closed with the first lie: the honest ones send nothing before
	source.spoil = func(int, int64, []byte) error {
		<-lied
		return nil
	}
	for range 2 {
		honest := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := honest.Seed(source); err != nil {
			t.Fatal(err)
		}
	}
	served := 0
	var once sync.Once
	poisoner := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
		switch f := frame.(type) {
		case wire.Handshake:
			greet(info, l)
		case wire.Request:
			for _, asked := range f.Blocks {
				at := info.Geometry().PieceOffset(int(asked.Piece)) + int64(asked.Begin)
				block := bytes.Clone(data[at : at+int64(asked.Length)])
				if served++; served%2 == 1 { // now and then it tells the truth
					block[len(block)/2] ^= 1
				}
				once.Do(func() { close(lied) })
				l.send(wire.Piece{Number: 9, Piece: asked.Piece, Begin: asked.Begin, Data: block})
			}
		}
	}).start()
	defer poisoner.end()
	poisoner.line.Announce(info.FullHash)
	heard := &recorder{}
	leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, Observe: heard.observe})
	target := newTarget(info)
	share, err := leecher.Get(info, target)
	if err != nil {
		t.Fatal(err)
	}
	await(t, share)
	if !target.holds(data) {
		t.Error("another content arrived")
	}
	named := heard.find(func(e Event) bool {
		dropped, is := e.(PeerDropped)
		return is && dropped.Banned && dropped.Peer == poisoner.line.id && dropped.Reason == wire.ReasonPoisoned
	})
	if !named {
		t.Error("the poisoner was not named")
	}
	if heard.find(func(e Event) bool {
		dropped, is := e.(PeerDropped)
		return is && dropped.Banned && dropped.Peer != poisoner.line.id
	}) {
		t.Error("somebody honest was blamed")
	}
}
