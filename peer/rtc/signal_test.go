package rtc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"p2pcdn/common/mediation"
)

func TestParseSignal(t *testing.T) {
	const sdp = "v=0\\r\\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\\r\\n"
	good := map[string]Kind{
		`{"type":"offer","sdp":"` + sdp + `"}`:                                             Offer,
		`{"type":"answer","sdp":"` + sdp + `","more":1}`:                                   Answer,
		`{"type":"candidate","candidate":null}`:                                            Candidate,
		`{"type":"candidate","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0}}`: Candidate,
		`{"type":"candidate","candidate":{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"abcd"}}`: Candidate,
	}
	for text, kind := range good {
		signal, err := ParseSignal(text)
		if err != nil || signal.Kind != kind {
			t.Errorf("%s: %v, %v", text, signal.Kind, err)
			continue
		}
		if again, err := ParseSignal(signal.String()); err != nil || again.String() != signal.String() {
			t.Errorf("%s does not come back: %s", text, again)
		}
	}
	bad := []string{
		"", "null", "[]", "7", `{}`, `{"type":7}`, `{"type":"bye"}`, `{"type":"offer"}`, `{"type":"offer","sdp":7}`,
		`{"type":"offer","sdp":"v=0"}`, `{"type":"candidate"}`, `{"type":"candidate","candidate":"x"}`,
		`{"type":"candidate","candidate":{"candidate":"` + strings.Repeat("x", maxCandidate+1) + `"}}`,
		`{"type":"offer","sdp":"m=application ` + strings.Repeat("x", mediation.MaxSignalData) + `"}`,
	}
	for _, text := range bad {
		if _, err := ParseSignal(text); !errors.Is(err, ErrBadSignal) {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func TestMaxFrame(t *testing.T) {
	for sdp, want := range map[string]int{
		"":                             64 << 10,
		"a=max-message-size:262144":    64 << 10,
		"a=max-message-size:0":         64 << 10,
		"a=max-message-size:30000\r\n": 30000,
		"a=max-message-size:-1":        64 << 10,
		"a=max-message-size:many":      64 << 10,
	} {
		if got := maxFrame("v=0\r\n" + sdp); got != want {
			t.Errorf("%q: %d instead of %d", sdp, got, want)
		}
	}
	once := announceMessageSize("v=0\r\n")
	if once != "v=0\r\na=max-message-size:262144\r\n" || announceMessageSize(once) != once {
		t.Errorf("announced as %q", once)
	}
}

func FuzzParseSignal(f *testing.F) {
	// Without the committed seeds a plain test run would show nothing.
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		signal, err := ParseSignal(text)
		if err != nil {
			return
		}
		again, err := ParseSignal(signal.String())
		if err != nil {
			if len(signal.String()) > mediation.MaxSignalData {
				return // printed, an odd text can be longer than it was
			}
			t.Fatalf("%q does not parse: %v", signal, err)
		}
		if again.String() != signal.String() {
			t.Fatalf("%q came back as %q", signal, again)
		}
	})
}
