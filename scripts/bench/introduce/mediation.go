package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/coder/websocket"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// mediationNetwork is ours.
type mediationNetwork struct{}

func contentNumber(n int) (hash content.FullHash) {
	binary.BigEndian.PutUint64(hash[:], uint64(n)+1)
	return hash
}

func signalData(kind string) string {
	text, err := json.Marshal(map[string]string{"type": kind, "sdp": sdp})
	if err != nil {
		panic(err) // two texts
	}
	return string(text)
}

func say(ctx context.Context, conn *websocket.Conn, message mediation.Message) error {
	return conn.Write(ctx, websocket.MessageText, mediation.Encode(message))
}

// hear returns the next message that is wanted; an error of the mediator is one.
func hear[M mediation.Message](ctx context.Context, conn *websocket.Conn) (message M, err error) {
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return message, err
		}
		heard, err := mediation.Decode(text)
		if err != nil {
			return message, err
		}
		if wanted, is := heard.(M); is {
			return wanted, nil
		}
		if refusal, is := heard.(*mediation.Error); is {
			return message, fmt.Errorf("it was told: %w", refusal)
		}
	}
}

func shakeHands(ctx context.Context, conn *websocket.Conn) error {
	id, err := ident.NewPeerID(rand.Reader)
	if err != nil {
		return err
	}
	if err := say(ctx, conn, mediation.Handshake{PeerID: id}); err != nil {
		return err
	}
	_, err = hear[mediation.Established](ctx, conn)
	return err
}

func (mediationNetwork) seed(ctx context.Context, conn *websocket.Conn, n int) (func() error, error) {
	if err := shakeHands(ctx, conn); err != nil {
		return nil, err
	}
	hash := contentNumber(n)
	if err := say(ctx, conn, mediation.Announce{FullHash: hash}); err != nil {
		return nil, err
	}
	if _, err := hear[mediation.Announced](ctx, conn); err != nil {
		return nil, err
	}
	answer := signalData("answer")
	return func() error {
		for {
			offer, err := hear[mediation.Signal](ctx, conn)
			if err != nil {
				return err
			}
			if err := say(ctx, conn, mediation.Signal{FullHash: hash, PeerID: offer.PeerID, SignalData: mediation.NewSignalData(answer)}); err != nil {
				return err
			}
		}
	}, nil
}

func (mediationNetwork) leech(ctx context.Context, conn *websocket.Conn, n int) (func() error, error) {
	if err := shakeHands(ctx, conn); err != nil {
		return nil, err
	}
	hash, offer := contentNumber(n), signalData("offer")
	return func() error {
		if err := say(ctx, conn, mediation.GetPeers{FullHash: hash}); err != nil {
			return err
		}
		for {
			named, err := hear[mediation.Peers](ctx, conn)
			if err != nil {
				return err
			}
			if len(named.Peers) == 0 {
				continue
			}
			if err := say(ctx, conn, mediation.Signal{FullHash: hash, PeerID: named.Peers[0], SignalData: mediation.NewSignalData(offer)}); err != nil {
				return err
			}
			_, err = hear[mediation.Signal](ctx, conn)
			return err
		}
	}, nil
}
