package rtc

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v3"

	"p2pcdn/common/wire"
)

// The yardstick of scripts/bench: a data channel of pion with the settings of a
// Transport, and nothing else of ours in its way. It lives here because only this room knows
// pion, and so that its settings are those of the Transport by construction.

// rawVariable makes the test binary one end of a raw channel: "send" or "receive".
// scripts/bench sets it, with the number of bytes and the length of a message.
const (
	rawVariable        = "RTC_TEST_RAW"
	rawBytesVariable   = "RTC_TEST_RAW_BYTES"
	rawMessageVariable = "RTC_TEST_RAW_MESSAGE"
)

func init() {
	role := os.Getenv(rawVariable)
	if role == "" {
		return
	}
	if err := rawProcess(role); err != nil {
		fmt.Fprintln(os.Stderr, "raw channel:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// rawProcess is one end in a process of its own: the other end's description comes on
// standard input, ours goes to standard output, a line each, and a receiver adds what it
// measured. It ends with its standard input.
func rawProcess(role string) error {
	in := bufio.NewReaderSize(os.Stdin, wire.MaxFrame)
	end, err := newRawEnd()
	if err != nil {
		return err
	}
	defer end.pc.Close()
	get := func() (Signal, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return Signal{}, fmt.Errorf("waiting for the other end: %w", err)
		}
		return ParseSignal(line)
	}
	put := func(s Signal) { fmt.Println(s) }

	total, err := strconv.ParseInt(os.Getenv(rawBytesVariable), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", rawBytesVariable, err)
	}
	switch role {
	case "send":
		length, err := strconv.Atoi(os.Getenv(rawMessageVariable))
		if err != nil {
			return fmt.Errorf("%s: %w", rawMessageVariable, err)
		}
		if err := end.offer(get, put); err != nil {
			return err
		}
		if err := end.send(total, length); err != nil {
			return err
		}
	case "receive":
		if err := end.answer(get, put); err != nil {
			return err
		}
		result, err := end.receive(total)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is send or receive, not %q", rawVariable, role)
	}
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// rawEnd is one end of a raw channel.
type rawEnd struct {
	pc      *webrtc.PeerConnection
	channel chan *webrtc.DataChannel // the open one; capacity 1
}

// rawResult is what a receiver measured: the bytes after the first message, and the
// time from the first message to the last.
type rawResult struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func newRawEnd() (*rawEnd, error) {
	pc, _, err := New(Config{}).newPeerConnection(webrtc.Configuration{}, func() bool { return false }, func() string { return "" })
	if err != nil {
		return nil, err
	}
	end := &rawEnd{pc, make(chan *webrtc.DataChannel, 1)}
	pc.OnDataChannel(func(dc *webrtc.DataChannel) { dc.OnOpen(func() { end.channel <- dc }) })
	return end, nil
}

func (e *rawEnd) offer(get func() (Signal, error), put func(Signal)) error {
	dc, err := e.pc.CreateDataChannel("raw", nil)
	if err != nil {
		return err
	}
	dc.OnOpen(func() { e.channel <- dc })
	description, err := e.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := e.describe(Offer, description, put); err != nil {
		return err
	}
	answer, err := get()
	if err != nil {
		return err
	}
	return e.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.SDP})
}

func (e *rawEnd) answer(get func() (Signal, error), put func(Signal)) error {
	offer, err := get()
	if err != nil {
		return err
	}
	if err := e.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.SDP}); err != nil {
		return err
	}
	description, err := e.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return e.describe(Answer, description, put)
}

// describe puts our description out with all its candidates: nobody measures how long
// this takes, and one signal is simpler than many.
func (e *rawEnd) describe(kind Kind, description webrtc.SessionDescription, put func(Signal)) error {
	gathered := webrtc.GatheringCompletePromise(e.pc)
	if err := e.pc.SetLocalDescription(description); err != nil {
		return err
	}
	<-gathered
	put(Signal{Kind: kind, SDP: announceMessageSize(e.pc.LocalDescription().SDP)})
	return nil
}

// open waits until the channel is.
func (e *rawEnd) open() (*webrtc.DataChannel, datachannel.ReadWriteCloser, error) {
	select {
	case dc := <-e.channel:
		raw, err := dc.Detach()
		return dc, raw, err
	case <-time.After(DefaultConnectTimeout):
		return nil, nil, ErrTimeout
	}
}

// send sends so many bytes, the last message being as long as the others, with as much
// waiting in the channel as in one of ours. It returns when the last one is queued.
func (e *rawEnd) send(total int64, length int) error {
	dc, raw, err := e.open()
	if err != nil {
		return err
	}
	drained := make(chan struct{}, 1)
	dc.SetBufferedAmountLowThreshold(LowWater)
	dc.OnBufferedAmountLow(func() {
		select {
		case drained <- struct{}{}:
		default:
		}
	})
	message := make([]byte, length)
	for sent := int64(0); sent < total; sent += int64(length) {
		for dc.BufferedAmount() >= HighWater {
			<-drained
		}
		if _, err := raw.Write(message); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
	}
	return nil
}

// receive reads at least so many bytes.
func (e *rawEnd) receive(total int64) (rawResult, error) {
	_, raw, err := e.open()
	if err != nil {
		return rawResult{}, err
	}
	buffer := make([]byte, wire.MaxFrame+1)
	first, _, err := raw.ReadDataChannel(buffer)
	if err != nil {
		return rawResult{}, fmt.Errorf("receiving: %w", err)
	}
	began := time.Now()
	received := int64(first)
	for received < total {
		n, _, err := raw.ReadDataChannel(buffer)
		if err != nil {
			return rawResult{}, fmt.Errorf("receiving after %d bytes: %w", received, err)
		}
		received += int64(n)
	}
	return rawResult{received - int64(first), time.Since(began).Seconds()}, nil
}

// The yardstick itself works: what is sent is counted, to the byte.
func TestRawChannel(t *testing.T) {
	var ends [2]*rawEnd
	for i := range ends {
		end, err := newRawEnd()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := end.pc.GracefulClose(); err != nil {
				t.Error(err)
			}
		}()
		ends[i] = end
	}
	const length, messages = 48 << 10, 64
	toSender, toReceiver := make(chan Signal, 1), make(chan Signal, 1)
	from := func(signals chan Signal) func() (Signal, error) {
		return func() (Signal, error) { return <-signals, nil }
	}
	sent := make(chan error, 1)
	go func() {
		err := ends[0].offer(from(toSender), func(s Signal) { toReceiver <- s })
		if err == nil {
			err = ends[0].send(messages*length, length)
		}
		sent <- err
	}()
	if err := ends[1].answer(from(toReceiver), func(s Signal) { toSender <- s }); err != nil {
		t.Fatal(err)
	}
	result, err := ends[1].receive(messages * length)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if result.Bytes != (messages-1)*length || result.Seconds <= 0 {
		t.Errorf("%d bytes in %v s, want %d", result.Bytes, result.Seconds, (messages-1)*length)
	}
}
