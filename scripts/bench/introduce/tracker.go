package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/coder/websocket"
)

// trackerNetwork is the WebSocket protocol of WebTorrent's tracker: a leecher announces with
// an offer, which the tracker hands to a seeder, and the answer goes back the same way. Hashes and ids are
// strings of 20 bytes; these have letters alone.
type trackerNetwork struct{}

type description struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

type offer struct {
	Offer   description `json:"offer"`
	OfferID string      `json:"offer_id"`
}

// trackerMessage is every message of the protocol, as far as it is used.
type trackerMessage struct {
	Action   string       `json:"action"`
	InfoHash string       `json:"info_hash"`
	PeerID   string       `json:"peer_id,omitempty"`
	Event    string       `json:"event,omitempty"`
	Left     *int         `json:"left,omitempty"`
	NumWant  int          `json:"numwant"`
	Offers   []offer      `json:"offers,omitempty"`
	Offer    *description `json:"offer,omitempty"`
	OfferID  string       `json:"offer_id,omitempty"`
	Answer   *description `json:"answer,omitempty"`
	ToPeerID string       `json:"to_peer_id,omitempty"`
	Failure  string       `json:"failure reason,omitempty"`
}

func infoHash(n int) string { return fmt.Sprintf("hash%016d", n) }

func send(ctx context.Context, conn *websocket.Conn, message trackerMessage) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, text)
}

func receive(ctx context.Context, conn *websocket.Conn) (message trackerMessage, err error) {
	_, text, err := conn.Read(ctx)
	if err != nil {
		return message, err
	}
	if err := json.Unmarshal(text, &message); err != nil {
		return message, err
	}
	if message.Failure != "" {
		return message, errors.New(message.Failure)
	}
	return message, nil
}

func (trackerNetwork) seed(ctx context.Context, conn *websocket.Conn, n int) (func() error, error) {
	id, nothing := rand.Text()[:20], 0
	if err := send(ctx, conn, trackerMessage{Action: "announce", InfoHash: infoHash(n), PeerID: id, Event: "started", Left: &nothing}); err != nil {
		return nil, err
	}
	if _, err := receive(ctx, conn); err != nil { // it is stored
		return nil, err
	}
	return func() error {
		for {
			heard, err := receive(ctx, conn)
			if err != nil {
				return err
			}
			if heard.Offer == nil {
				continue
			}
			answer := trackerMessage{
				Action: "announce", InfoHash: heard.InfoHash, PeerID: id,
				ToPeerID: heard.PeerID, OfferID: heard.OfferID, Answer: &description{"answer", sdp},
			}
			if err := send(ctx, conn, answer); err != nil {
				return err
			}
		}
	}, nil
}

func (trackerNetwork) leech(ctx context.Context, conn *websocket.Conn, n int) (func() error, error) {
	id, all, event := rand.Text()[:20], 1, "started"
	return func() error {
		announce := trackerMessage{
			Action: "announce", InfoHash: infoHash(n), PeerID: id, Event: event, Left: &all, NumWant: 1,
			Offers: []offer{{description{"offer", sdp}, rand.Text()[:20]}},
		}
		event = "" // the later ones are updates
		if err := send(ctx, conn, announce); err != nil {
			return err
		}
		for {
			heard, err := receive(ctx, conn)
			if err != nil {
				return err
			}
			if heard.Answer != nil {
				return nil
			}
		}
	}, nil
}
