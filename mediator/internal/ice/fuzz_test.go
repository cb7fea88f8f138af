package ice

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pion/stun/v3"
)

// seeded fails where the committed seeds of a fuzz test are missing: without
// them a plain test run would show nothing.
func seeded(f *testing.F) {
	f.Helper()
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
}

// FuzzUsername holds what is taken for a name to being one, and the only one of its kind.
func FuzzUsername(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		expiry, peer, err := parseUsername(text)
		if err == nil && username(expiry, peer) != text {
			t.Errorf("%q was taken for %q", text, username(expiry, peer))
		}
	})
}

// FuzzMessage holds what may be given to the library to what it survives.
func FuzzMessage(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		_ = lifetime(packet)
		if !sound(packet) {
			return
		}
		m := &stun.Message{Raw: bytes.Clone(packet)}
		if m.Decode() != nil {
			return
		}
		_ = m.ForEach(stun.AttrXORPeerAddress, func(m *stun.Message) error {
			var at stun.XORMappedAddress
			return at.GetFromAs(m, stun.AttrXORPeerAddress)
		})
		_ = stun.MessageIntegrity("key").Check(m)
	})
}

// FuzzFrames holds frames to their bounds, and reading to an end.
func FuzzFrames(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		frames, err := packets(text)
		if err == nil {
			t.Fatal("it never ends")
		}
		rest := text
		for _, frame := range frames {
			if len(frame) < channelHeader || len(frame) >= maxFrame || !bytes.HasPrefix(rest, frame) {
				t.Fatalf("of %q it reads %q", rest, frame)
			}
			rest = rest[len(frame)+-len(frame)&3:]
		}
	})
}
