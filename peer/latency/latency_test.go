package latency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/client"
	"p2pcdn/peer/signaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a mediator that says what a test wants, and keeps what it was told.
type scripted struct {
	url string

	mu   sync.Mutex
	told []mediation.Message // guarded by mu
}

// startScripted starts one. answer is called for each message in turn.
func startScripted(t *testing.T, answer func(nth int, message mediation.Message) []mediation.Message) *scripted {
	s := &scripted{}
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(mediation.MaxMessageSize)
		for nth := 0; ; nth++ {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return
			}
			message, err := mediation.Decode(text)
			if err != nil {
				t.Errorf("a peer said %s: %v", text, err)
				return
			}
			s.mu.Lock()
			s.told = append(s.told, message)
			s.mu.Unlock()
			for _, reply := range answer(nth, message) {
				if err := conn.Write(ctx, websocket.MessageText, mediation.Encode(reply)); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	s.url = "ws" + strings.TrimPrefix(server.URL, "http") + mediation.Path
	return s
}

// types returns of which types what it was told is.
func (s *scripted) types() (types []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, message := range s.told {
		types = append(types, message.Type())
	}
	return types
}

// TestPrototypePolls shows the flow of the prototype as the mediator sees it: the lookup behind established, again until
// somebody is named, and an offer with every candidate in it.
func TestPrototypePolls(t *testing.T) {
	hash := content.FullHash{1}
	named := ident.PeerID{2}
	lookups := 0
	var offer string
	m := startScripted(t, func(_ int, message mediation.Message) []mediation.Message {
		switch message := message.(type) {
		case mediation.Handshake:
			return []mediation.Message{mediation.Established{}}
		case mediation.GetPeers:
			if lookups++; lookups < 3 {
				return []mediation.Message{mediation.Peers{FullHash: hash}}
			}
			return []mediation.Message{mediation.Peers{FullHash: hash, Peers: []ident.PeerID{named}}}
		case mediation.Ping: // behind its answer, what was found since: the prototype's mediator does not tell of it by itself
			return []mediation.Message{mediation.Pong{}, mediation.Peers{FullHash: hash, Peers: []ident.PeerID{{3}}}}
		case mediation.Signal:
			offer = message.SignalData.String()
			return []mediation.Message{(&mediation.Error{Code: mediation.CodePeerNotFound, Message: "gone"}).About(hash).With(named)}
		}
		return nil
	})
	p := newPrototype(m.url, 200*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stamps, failure := p.fetch(ctx, content.Info{FullHash: hash, TotalLength: 5, PieceLength: content.LeafLength})
	p.close()
	if failure == nil || failure.Code != CodeConnectionFailed {
		t.Errorf("the peer is gone, and the failure is %v", failure)
	}
	want := []string{"handshake", "get_peers", "ping", "get_peers", "ping", "get_peers", "ping", "signal"}
	if types := m.types(); !slices.Equal(types, want) && !slices.Equal(types, append(want, "finish")) {
		t.Errorf("the mediator was told %v", types)
	}
	if !strings.Contains(offer, "a=candidate:") || !strings.Contains(offer, "a=end-of-candidates") {
		t.Errorf("an offer without its candidates: %s", offer)
	}
	for _, phase := range []timeline.Phase{timeline.MediatorOpen, timeline.Established, timeline.LookupSent, timeline.PeersNamed, timeline.OfferSent} {
		if _, reached := stamps[phase]; !reached {
			t.Errorf("%s has no stamp", phase)
		}
	}
	if p.peerID() == "" || stamps[timeline.LookupSent] < stamps[timeline.Established] {
		t.Errorf("peer %q, %v", p.peerID(), stamps)
	}
}

// TestMediatorSaysNo has both flows, and a seeder, meet a mediator that does not want them, and one that goes.
func TestMediatorSaysNo(t *testing.T) {
	refuses := startScripted(t, func(int, mediation.Message) []mediation.Message {
		return []mediation.Message{&mediation.Error{Code: mediation.CodeOverloaded, Message: "full"}}
	})
	babbles := startScripted(t, func(int, mediation.Message) []mediation.Message {
		return []mediation.Message{mediation.Peers{}}
	})
	goes := startScripted(t, func(_ int, message mediation.Message) []mediation.Message {
		if _, is := message.(mediation.Handshake); is {
			return []mediation.Message{mediation.Established{}}
		}
		return []mediation.Message{&mediation.Error{Code: mediation.CodeGoingAway, Message: "going"}}
	})
	for _, test := range []struct {
		m    *scripted
		code string
	}{{refuses, CodeMediatorRefused}, {babbles, CodeNoMediator}, {goes, CodeMediatorLost}} {
		for _, flow := range []timeline.Flow{timeline.Fast, timeline.Prototype} {
			t.Run(fmt.Sprint(test.code, " ", flow), func(t *testing.T) {
				info := content.Info{FullHash: content.FullHash{1}, TotalLength: 5, PieceLength: content.LeafLength}
				var rows []*timeline.Row
				tally, err := Run(t.Context(), Config{
					Lines: []Line{{Contents: []content.Info{info, info}, Mediators: []string{test.m.url}}}, Flow: flow, Timeout: time.Minute,
					Row: func(row *timeline.Row) error { rows = append(rows, row); return nil },
				})
				if err != nil || tally.Failed != 1 || tally.Complete != 0 || tally.Left() != 0 {
					t.Errorf("%+v, %v", tally, err)
				}
				if len(rows) != 2 || rows[0].ErrorCode != test.code || rows[1].Outcome != timeline.Skipped || rows[1].ErrorCode != CodeEarlierFailed {
					t.Errorf("rows %+v", rows)
				}
				for _, row := range rows {
					if err := row.Check(); err != nil {
						t.Errorf("%+v: %v", row, err)
					}
				}
			})
		}
		t.Run(test.code+" seeder", func(t *testing.T) {
			var rows []*timeline.Row
			tally, err := Run(t.Context(), Config{
				Mediators: []string{test.m.url}, N: 1, Contents: 2, Size: 100, Flow: timeline.Fast, Timeout: time.Minute,
				Row: func(row *timeline.Row) error { rows = append(rows, row); return nil },
			})
			if err != nil || tally.Failed != 1 || len(rows) != 4 {
				t.Fatalf("%+v, %v, %d rows", tally, err, len(rows))
			}
			for i, role := range []timeline.Role{timeline.Leecher, timeline.Leecher, timeline.Seeder, timeline.Seeder} {
				if rows[i].Role != role || rows[i].Outcome == timeline.Done || i != 1 && rows[i].ErrorCode != test.code || rows[i].ContentBytes != 100 {
					t.Errorf("row %d: %+v", i, rows[i])
				}
			}
		})
	}
}

// TestRowsCannotBeTold shows that a run whose results are lost ends.
func TestRowsCannotBeTold(t *testing.T) {
	full := errors.New("full")
	rows := 0
	tally, err := Run(t.Context(), Config{
		Lines: make([]Line, 100), Parallel: 4, Flow: timeline.Fast, Timeout: time.Minute,
		Row: func(*timeline.Row) error { rows++; return full },
	})
	if err != nil || tally.Failed != 100 || rows != 0 {
		t.Errorf("lines without contents: %+v, %v, %d rows", tally, err, rows)
	}
	lines := make([]Line, 100)
	for i := range lines {
		lines[i].Contents = []content.Info{{PieceLength: content.LeafLength}}
	}
	tally, err = Run(t.Context(), Config{
		Lines: lines, Flow: timeline.Fast, Timeout: time.Minute, Row: func(*timeline.Row) error { rows++; return full },
	})
	if !errors.Is(err, full) || rows != 1 || tally.Left() < 90 {
		t.Errorf("%+v, %v, %d rows", tally, err, rows)
	}
}

func TestCause(t *testing.T) {
	stamps := func(phases ...timeline.Phase) timeline.Stamps {
		all := timeline.Stamps{timeline.Started: 0}
		for i, phase := range phases {
			all[phase] = time.Duration(i)
		}
		return all
	}
	ended, end := context.WithTimeoutCause(t.Context(), 0, nil)
	defer end()
	<-ended.Done()
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	lost, lose := context.WithCancelCause(t.Context())
	lose(failed(CodeMediatorLost, "it died"))
	for _, test := range []struct {
		ctx    context.Context
		stamps timeline.Stamps
		want   string
	}{
		{ended, nil, CodeMediatorUnreachable},
		{ended, stamps(timeline.MediatorOpen), CodeMediatorUnreachable},
		{ended, stamps(timeline.MediatorOpen, timeline.LookupSent, timeline.Established), CodeNoPeer},
		{ended, stamps(timeline.Established, timeline.PeersNamed, timeline.OfferSent), CodeConnectionFailed},
		{ended, stamps(timeline.AnswerReceived), CodeConnectionFailed}, // the answer came before the names
		{ended, stamps(timeline.Established, timeline.PeersNamed, timeline.ChannelOpen), CodeTimeout},
		{interrupted, stamps(timeline.PeersNamed), CodeInterrupted},
		{lost, stamps(timeline.PeersNamed), CodeMediatorLost},
	} {
		if got := cause(test.ctx, test.stamps); got.Code != test.want {
			t.Errorf("%v: %s instead of %s", test.stamps, got.Code, test.want)
		}
	}
	for err, want := range map[error]string{
		signaling.ErrUnreachable: CodeMediatorUnreachable, signaling.ErrRefused: CodeMediatorRefused,
		signaling.ErrNotMediator: CodeNoMediator, signaling.ErrLost: CodeMediatorLost,
	} {
		if got := lineFailure(fmt.Errorf("dialling: %w", err)); got.Code != want || !errors.Is(got, err) {
			t.Errorf("%v: %s instead of %s", err, got.Code, want)
		}
	}
}

// introducer is a mediator that knows whoever is connected to it, and can go.
type introducer struct {
	url  string
	gone context.CancelFunc // ends every line, and takes no others

	mu    sync.Mutex
	peers map[ident.PeerID]*websocket.Conn // guarded by mu
}

func startIntroducer(t *testing.T) *introducer {
	m := &introducer{peers: make(map[ident.PeerID]*websocket.Conn)}
	ctx, gone := context.WithCancel(context.Background())
	m.gone = gone
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(mediation.MaxMessageSize)
		m.serve(ctx, conn)
	}))
	t.Cleanup(func() {
		gone()
		server.Close()
	})
	m.url = "ws" + strings.TrimPrefix(server.URL, "http") + mediation.Path
	return m
}

func (m *introducer) serve(ctx context.Context, conn *websocket.Conn) {
	var self ident.PeerID
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return
		}
		message, err := mediation.Decode(text)
		if err != nil {
			return
		}
		m.mu.Lock()
		var reply mediation.Message
		to := conn
		switch message := message.(type) {
		case mediation.Handshake:
			self = message.PeerID
			m.peers[self] = conn
			reply = mediation.Established{}
		case mediation.Announce:
			reply = mediation.Announced(message)
		case mediation.GetPeers:
			peers := mediation.Peers{FullHash: message.FullHash}
			for id := range m.peers {
				if id != self {
					peers.Peers = append(peers.Peers, id)
				}
			}
			reply = peers
		case mediation.Signal:
			to, reply = m.peers[message.PeerID], mediation.Signal{FullHash: message.FullHash, PeerID: self, SignalData: message.SignalData}
		}
		if reply != nil && to != nil {
			_ = to.Write(ctx, websocket.MessageText, mediation.Encode(reply)) // who is gone hears nothing
		}
		m.mu.Unlock()
	}
}

// TestMediatorGoesBetweenTwoContents shows that the second one comes by the connection that is open, and needs no mediator; unless
// it is not to be asked for there.
func TestMediatorGoesBetweenTwoContents(t *testing.T) {
	for _, test := range []struct {
		without []client.Cut
		code    string
	}{{nil, ""}, {[]client.Cut{client.CutJoin}, CodeMediatorLost}} {
		t.Run(fmt.Sprint("without ", test.without), func(t *testing.T) {
			m := startIntroducer(t)
			config := Config{Contents: 2, Size: 1000, Timeout: time.Minute, Flow: timeline.Fast}.withDefaults()
			seeder, err := startSeeder(t.Context(), &config, m.url, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer seeder.close()
			if failure := seeder.announced(t.Context(), time.Minute); failure != nil {
				t.Fatal(failure)
			}
			leecher := newFast([]string{m.url}, nil, test.without)
			defer leecher.close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, failure := leecher.fetch(ctx, seeder.infos[0]); failure != nil {
				t.Fatal(failure)
			}
			m.gone()
			for _, w := range []*watch{leecher.watch, seeder.watch} {
				for down := false; !down; w.look(func(w *watch) { down = w.down != nil }) {
					select {
					case <-w.changed:
					case <-ctx.Done():
						t.Fatal("a line outlives its mediator")
					}
				}
			}
			select {
			case leecher.watch.changed <- struct{}{}: // whoever waits looks at the line, which is down
			default:
			}
			// Also before the connection takes the second content up.
			stranger := client.Start([]string{m.url}, client.Config{Without: []client.Cut{client.CutOffer}}) // it prepares no connection
			defer stranger.Close()
			target, err := client.CreateTemporary(seeder.infos[1], client.FileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			searching, err := stranger.Get(seeder.infos[1], target)
			if err != nil {
				t.Fatal(err)
			}
			leecher.share.Store(searching)
			if needed := !leecher.connected(); needed != (test.code != "") {
				t.Errorf("a mediator is needed: %v", needed)
			}
			r := &run{config: config}
			_, failure := r.fetch(ctx, leecher, seeder.infos[1], seeder)
			if code := codeOf(failure); code != test.code {
				t.Errorf("the second content: %q instead of %q: %v", code, test.code, failure)
			}
		})
	}
}

func codeOf(failure *Failure) string {
	if failure == nil {
		return ""
	}
	return failure.Code
}

// TestSeederFails shows that a content that cannot be served is told at once, as that.
func TestSeederFails(t *testing.T) {
	s := &seeder{watch: newWatch(), shares: make([]*client.Share, 1)}
	s.watch.observe(client.StateChanged{State: client.Failed, Err: errors.New("it cannot be read")})
	if failure := s.announced(t.Context(), time.Hour); codeOf(failure) != CodeLocal {
		t.Errorf("told as %v", failure)
	}
}

// TestSeederCannotStart shows that the rows of an introduction that never began say which content it would have been.
func TestSeederCannotStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &run{config: Config{Mediators: []string{"ws://a.example/mediation"}, Contents: 2, Size: 1 << 20, Row: func(row *timeline.Row) error {
		if row.ContentBytes != 1<<20 || row.Outcome == timeline.Done {
			t.Errorf("a row: %+v", row)
		}
		return nil
	}}.withDefaults()}
	r.introduce(ctx, 1)
	if r.tally.Failed != 1 {
		t.Errorf("%+v", r.tally)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\r\n\tb":                     "a b",
		"\xff":                         "?",
		strings.Repeat("ä", 600):       strings.Repeat("ä", 512),
		"x" + strings.Repeat("ä", 600): "x" + strings.Repeat("ä", 511),
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%.20q became %.20q of %d bytes", text, got, len(got))
		}
	}
}

func TestGenerate(t *testing.T) {
	config := Config{Seed: 7, Size: 70_000}.withDefaults()
	make := func(index, number int) *generated {
		g, err := generate(t.Context(), &config, index, number)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := make(1, 1)
	if err := first.info.Validate(); err != nil || first.info.TotalLength != 70_000 || len(first.info.PieceHashes) != 2 {
		t.Errorf("%+v: %v", first.info, err)
	}
	if again := make(1, 1); !reflect.DeepEqual(again, first) {
		t.Error("the same numbers give another content")
	}
	for _, other := range []*generated{make(2, 1), make(1, 2)} {
		if bytes.Equal(other.data, first.data) {
			t.Error("other numbers give the same content")
		}
	}
	var source client.Source = first
	block := [5]byte{}
	if err := source.ReadBlock(1, 3, block[:]); err != nil || !bytes.Equal(block[:], first.data[1<<16+3:][:5]) {
		t.Errorf("a block is %x: %v", block, err)
	}
}

func TestParseLine(t *testing.T) {
	g, err := generate(t.Context(), &Config{Size: 100_000, PieceLength: 1 << 16, Contents: 1}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	link := g.info.Link("ws://a.example/mediation").String()
	line, err := ParseLine(" " + link + "\t" + link)
	if err != nil || len(line.Contents) != 2 || line.Contents[0].FullHash != g.info.FullHash || !slices.Equal(line.Mediators, []string{"ws://a.example/mediation"}) {
		t.Errorf("%+v, %v", line, err)
	}
	line, err = ParseLine(string(g.info.Encode()) + string(g.info.Encode()))
	if err != nil || len(line.Contents) != 2 || !reflect.DeepEqual(line.Contents[1], g.info) || line.Mediators != nil {
		t.Errorf("%+v, %v", line, err)
	}
	for _, text := range []string{"", " \t", "x", link + " x", "{", "{}", string(g.info.Encode()) + "x"} {
		if line, err := ParseLine(text); err == nil {
			t.Errorf("%q was read as %+v", text, line)
		}
	}
	lines, err := ReadLines(strings.NewReader(link+"\n\r\n"+link+"\r\n"+link), 2)
	if err != nil || len(lines) != 2 {
		t.Errorf("%d lines: %v", len(lines), err)
	}
}

func TestServeTellsTheFirstFailure(t *testing.T) {
	m := startScripted(t, func(_ int, message mediation.Message) []mediation.Message {
		switch message := message.(type) {
		case mediation.Handshake:
			return []mediation.Message{mediation.Established{}}
		case mediation.Announce:
			return []mediation.Message{mediation.Announced(message)}
		}
		return nil
	})
	unread := errors.New("nobody reads")
	config := Config{
		Mediators: []string{m.url}, N: 20, Size: 100, Flow: timeline.Fast, Timeout: time.Minute, Row: func(*timeline.Row) error { return nil },
	}
	if err := Serve(t.Context(), config, func(string) error { return unread }); !errors.Is(err, unread) {
		t.Errorf("nobody reads the links, and Serve says %v", err)
	}
	// Of two mediators one is not there: the other one's seeders serve until the end, which says how many are missing.
	config.Mediators, config.N = []string{m.url, "ws://127.0.0.1:1/nobody"}, 4
	ctx, cancel := context.WithCancel(t.Context())
	said, rows := 0, 0
	both := func() {
		if said == 2 && rows == 4 {
			cancel()
		}
	}
	config.Row = func(*timeline.Row) error { rows++; both(); return nil }
	err := Serve(ctx, config, func(line string) error { said++; both(); return nil })
	if err == nil || err.Error() != "2 of 4 seeders were not announced" {
		t.Errorf("said %d, %d rows: %v", said, rows, err)
	}
}
