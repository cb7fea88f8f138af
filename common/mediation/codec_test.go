package mediation_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

var (
	hash   = content.FullHash{0xab, 31: 0xcd}
	peer   = ident.PeerID{1, 19: 2}
	sender = ident.PeerID{3, 19: 4}
)

// frame puts a length before a text, as WriteTo does.
func frame(text []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// messages are one of each kind, full.
func messages(t testing.TB) []mediation.Message {
	mediator, err := ident.ParseMediatorID("12D3KooWGzxzKZYveHXtpG6AsrUJBcWfHBFS2HsEoGTxrMLvKXtF")
	if err != nil {
		t.Fatal(err)
	}
	return []mediation.Message{
		mediation.Handshake{PeerID: peer},
		mediation.Replication{MediatorID: mediator},
		mediation.Established{},
		mediation.Established{
			ICEServers: []mediation.ICEServer{{URLs: []string{"stun:a", "stun:b"}}, {URLs: []string{"turn:c"}, Username: "u", Credential: "<&>\u2028"}},
			Mediators:  []string{"ws://a/mediation"},
		},
		mediation.GetPeers{FullHash: hash},
		mediation.Peers{FullHash: hash, Peers: []ident.PeerID{}},
		mediation.Peers{FullHash: hash, Peers: []ident.PeerID{peer, sender}},
		mediation.Signal{FullHash: hash, PeerID: peer, SignalData: mediation.NewSignalData(`{"type":"offer","sdp":"v=0\r\n"}`)},
		mediation.Signal{FullHash: hash, PeerID: peer, SenderID: sender, SignalData: mediation.NewSignalData("\x00\u2028\u2029\\u2028<&>😀")},
		mediation.Announce{FullHash: hash},
		mediation.Announced{FullHash: hash},
		mediation.Finish{FullHash: hash},
		&mediation.Error{Code: mediation.CodeRateLimited, Message: "slower"},
		(&mediation.Error{Code: mediation.CodePeerNotFound, Message: "gone", SenderID: sender}).About(hash).With(peer),
		&mediation.Error{Code: mediation.CodeGoingAway, Message: "elsewhere", Mediators: []string{"ws://a/mediation", "wss://b/mediation"}},
	}
}

func TestEncodeThenDecode(t *testing.T) {
	for _, message := range messages(t) {
		encoded := mediation.Encode(message)
		again, err := mediation.Decode(encoded)
		if err != nil || !reflect.DeepEqual(again, message) {
			t.Errorf("%+v became %+v, %v", message, again, err)
		}
		if !strings.Contains(string(encoded), `"type":"`+message.Type()+`"`) {
			t.Errorf("%s does not say %s", encoded, message.Type())
		}
	}
	if got := mediation.Append([]byte("before"), mediation.Ping{}); string(got) != `before{"type":"ping"}` {
		t.Errorf("a ping is appended as %s", got)
	}
	if got := string(mediation.Encode(mediation.Peers{FullHash: hash})); !strings.HasSuffix(got, `"peers":[]}`) {
		t.Errorf("no peers are encoded as %s", got)
	}
}

// A signal that came as large as one may be is sent on with a sender's id: that must fit too.
func TestFullSignalFitsWithSender(t *testing.T) {
	for _, data := range []string{
		strings.Repeat(`"`, mediation.MaxSignalData),
		strings.Repeat("\u2028", mediation.MaxSignalData/3),
		strings.Repeat("\x01", mediation.MaxSignalData/3),
	} {
		arrived, err := mediation.Decode(mediation.Encode(mediation.Signal{FullHash: hash, PeerID: peer, SignalData: mediation.NewSignalData(data)}))
		if err != nil {
			t.Fatal(err)
		}
		signal := arrived.(mediation.Signal)
		signal.SenderID = sender
		var stream bytes.Buffer
		if err := mediation.WriteTo(&stream, signal); err != nil {
			t.Fatal(err)
		}
		if again, err := mediation.ReadFrom(&stream); err != nil || again != signal {
			t.Errorf("it arrived changed, or with %v", err)
		}
	}
}

func TestLongErrorTextIsCut(t *testing.T) {
	decoded, err := mediation.Decode(mediation.Encode(&mediation.Error{Code: "x", Message: "a" + strings.Repeat("ä", mediation.MaxText)}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := decoded.(*mediation.Error).Message, "a"+strings.Repeat("ä", mediation.MaxText/2-1); got != want {
		t.Errorf("%d bytes instead of %d", len(got), len(want))
	}
}

// What was read before the failure says whom the error is about.
func TestErrorNamesWhatItIsAbout(t *testing.T) {
	h, p, s := `"full_hash":"`+hash.String()+`"`, `"peer_id":"`+peer.String()+`"`, `"sender_id":"`+sender.String()+`"`
	for _, test := range []struct {
		text  string
		about *content.FullHash
		with  ident.PeerID
		from  ident.PeerID
	}{
		{`{"type":"signal","full_hash":"x",` + p + `,"signal_data":""}`, nil, ident.PeerID{}, ident.PeerID{}},
		{`{"type":"signal",` + h + `,"peer_id":"x","signal_data":""}`, &hash, ident.PeerID{}, ident.PeerID{}},
		{`{"type":"signal",` + h + `,` + p + `,"signal_data":1}`, &hash, peer, ident.PeerID{}},
		{`{"type":"peers",` + h + `,"peers":1}`, &hash, ident.PeerID{}, ident.PeerID{}},
		{`{"type":"nonsense",` + h + `,` + p + `,` + s + `}`, nil, ident.PeerID{}, ident.PeerID{}},
	} {
		_, err := mediation.Decode([]byte(test.text))
		var failure *mediation.Error
		if !errors.As(err, &failure) || !reflect.DeepEqual(failure.FullHash, test.about) || failure.PeerID != test.with || failure.SenderID != test.from {
			t.Errorf("%s: %+v", test.text, failure)
		}
		if again, err := mediation.Decode(mediation.Encode(failure)); err != nil || !reflect.DeepEqual(again, failure) {
			t.Errorf("%s: the error came back as %+v, %v", test.text, again, err)
		}
	}
}

func TestAboutAndWithCopy(t *testing.T) {
	first := &mediation.Error{Code: mediation.CodePeerNotFound}
	second := first.About(hash).With(peer)
	if first.FullHash != nil || !first.PeerID.IsZero() {
		t.Error("the first error was changed")
	}
	if *second.FullHash != hash || second.PeerID != peer || !errors.Is(second, first) || errors.Is(second, &mediation.Error{Code: "other"}) {
		t.Errorf("%+v", second)
	}
	if errors.Is(second, io.EOF) || second.Error() != " (peer_not_found)" {
		t.Errorf("%v", second)
	}
}

func TestStream(t *testing.T) {
	var stream bytes.Buffer
	for _, message := range messages(t) {
		if err := mediation.WriteTo(&stream, message); err != nil {
			t.Fatal(err)
		}
	}
	whole := stream.Bytes()
	for name, reader := range map[string]io.Reader{
		"at once":           bytes.NewReader(whole),
		"byte by byte":      iotest.OneByteReader(bytes.NewReader(whole)),
		"in halves":         iotest.HalfReader(bytes.NewReader(whole)),
		"with the last EOF": iotest.DataErrReader(bytes.NewReader(whole)),
	} {
		for _, want := range messages(t) {
			if got, err := mediation.ReadFrom(reader); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
		}
		if message, err := mediation.ReadFrom(reader); err != io.EOF {
			t.Errorf("%s: %v, %v instead of the end", name, message, err)
		}
	}
}

func TestWholeSaysWhatNeedNotBeWaitedFor(t *testing.T) {
	text := mediation.Encode(mediation.GetPeers{FullHash: hash})
	framed := frame(text)
	for have := range len(framed) + 2 {
		reader := bufio.NewReader(bytes.NewReader(slices.Concat(framed, framed)[:have]))
		_, _ = reader.Peek(have)
		if whole := mediation.Whole(reader); whole != (have >= len(framed)) {
			t.Errorf("%d bytes of %d are a whole message: %v", have, len(framed), whole)
		}
		if reader.Buffered() != have {
			t.Errorf("it took %d bytes", have-reader.Buffered())
		}
	}
	if mediation.Whole(bufio.NewReader(iotest.ErrReader(errors.New("it must not read")))) {
		t.Error("nothing is a message")
	}
}

// A stream that ends within a message is told from one that ends between messages.
func TestStreamCutOff(t *testing.T) {
	whole := frame(mediation.Encode(mediation.Announce{FullHash: hash}))
	for end := 1; end < len(whole); end++ {
		message, err := mediation.ReadFrom(bytes.NewReader(whole[:end]))
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Fatalf("cut at %d: %v, %v", end, message, err)
		}
		var failure *mediation.Error
		if errors.As(err, &failure) {
			t.Fatalf("cut at %d: %v looks like a wrong message", end, err)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, err := mediation.ReadFrom(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := mediation.ReadFrom(io.MultiReader(bytes.NewReader([]byte{0, 0, 0, 9, '{'}), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Error(err)
	}
	reader, writer := io.Pipe()
	reader.CloseWithError(broken)
	if err := mediation.WriteTo(writer, mediation.Established{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	tooMany := mediation.Established{Mediators: []string{strings.Repeat("a", mediation.MaxMessageSize)}}
	if err := mediation.WriteTo(io.Discard, tooMany); !errors.Is(err, &mediation.Error{Code: mediation.CodeMessageTooBig}) {
		t.Error(err)
	}
}

// A length over the limit is refused at once: nothing is allocated for it, and
// nothing more is read.
func TestStreamHugeLength(t *testing.T) {
	for _, length := range []uint32{mediation.MaxMessageSize + 1, math.MaxInt32, math.MaxUint32} {
		stream := bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, length), "{}"...))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		message, err := mediation.ReadFrom(stream)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, &mediation.Error{Code: mediation.CodeMessageTooBig}) {
			t.Errorf("%d: %v, %v", length, message, err)
		}
		if stream.Len() != 2 {
			t.Errorf("%d: it read on", length)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > mediation.MaxMessageSize {
			t.Errorf("%d: %d bytes were allocated", length, grown)
		}
	}
	if _, err := mediation.ReadFrom(bytes.NewReader(make([]byte, 4))); !errors.Is(err, &mediation.Error{Code: mediation.CodeBadMessage}) {
		t.Errorf("a length of zero: %v", err)
	}
}

// oneWrite counts the calls of Write.
type oneWrite struct {
	bytes.Buffer
	calls int
}

func (w *oneWrite) Write(p []byte) (int, error) {
	w.calls++
	return w.Buffer.Write(p)
}

func TestWriteIsOneWrite(t *testing.T) {
	for _, message := range messages(t) {
		var w oneWrite
		if err := mediation.WriteTo(&w, message); err != nil || w.calls != 1 || !bytes.Equal(w.Bytes(), frame(mediation.Encode(message))) {
			t.Errorf("%+v: %v, %d writes", message, err, w.calls)
		}
	}
}
