package neighbours

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// frame puts a length before a text, as writeAnswer does.
func frame(text string) []byte {
	return append([]byte{byte(len(text) >> 8), byte(len(text))}, text...)
}

func FuzzReadAnswer(f *testing.F) {
	// Without the committed seeds a plain test run would show nothing.
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnswer(bytes.NewReader(data))
		if err != nil {
			cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if bad := errors.Is(err, errBadAnswer); bad == cut || a != (answer{}) {
				t.Fatalf("%q: %+v, %v", data, a, err)
			}
			return
		}
		var out bytes.Buffer
		if err := writeAnswer(&out, a); err != nil {
			t.Fatal(err)
		}
		if again, err := readAnswer(&out); err != nil || again != a {
			t.Fatalf("%q: %+v was written and read as %+v, %v", data, a, again, err)
		}
		if a.Peers < 0 || a.Swarms < 0 || len(a.Version) > maxVersion {
			t.Fatalf("%q: %+v", data, a)
		}
		if _, err := parseTarget(a.PublicURL); a.PublicURL != "" && err != nil {
			t.Fatalf("%q: %v", data, err)
		}
	})
}

func TestReadAnswer(t *testing.T) {
	for text, want := range map[string]answer{
		`{"version":"v1","peers":0,"swarms":0}`:                                          {Version: "v1"},
		`{"public_url":"ws://a.example","version":"","peers":1e3,"swarms":2,"new":[{}]}`: {PublicURL: "ws://a.example", Peers: 1000, Swarms: 2},
		strings.Repeat(" ", maxAnswer-37) + `{"version":"v1","peers":0,"swarms":0}`:      {Version: "v1"},
	} {
		if got, err := readAnswer(bytes.NewReader(frame(text))); err != nil || got != want {
			t.Errorf("%.100s is %+v, %v", text, got, err)
		}
	}
	for name, text := range map[string]string{
		"nothing":              "",
		"no JSON":              "hello",
		"a list":               "[]",
		"too long":             strings.Repeat(" ", maxAnswer-36) + `{"version":"v1","peers":0,"swarms":0}`,
		"an empty URL":         `{"public_url":"","version":"v1","peers":0,"swarms":0}`,
		"an http URL":          `{"public_url":"http://a.example","version":"v1","peers":0,"swarms":0}`,
		"a URL with a user":    `{"public_url":"ws://u@a.example","version":"v1","peers":0,"swarms":0}`,
		"a number as URL":      `{"public_url":1,"version":"v1","peers":0,"swarms":0}`,
		"null as URL":          `{"public_url":null,"version":"v1","peers":0,"swarms":0}`,
		"no version":           `{"peers":0,"swarms":0}`,
		"a long version":       `{"version":"` + strings.Repeat("v", maxVersion+1) + `","peers":0,"swarms":0}`,
		"an unprintable one":   `{"version":"\u001b[2J","peers":0,"swarms":0}`,
		"no peers":             `{"version":"v1","swarms":0}`,
		"less than no peers":   `{"version":"v1","peers":-1,"swarms":0}`,
		"half a swarm":         `{"version":"v1","peers":0,"swarms":0.5}`,
		"a text as swarms":     `{"version":"v1","peers":0,"swarms":"1"}`,
		"names of other cases": `{"Version":"v1","peers":0,"swarms":0}`,
	} {
		if got, err := readAnswer(bytes.NewReader(frame(text))); !errors.Is(err, errBadAnswer) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	whole := frame(`{"version":"v1","peers":0,"swarms":0}`)
	for cut := range whole {
		if _, err := readAnswer(bytes.NewReader(whole[:cut])); err == nil || errors.Is(err, errBadAnswer) {
			t.Errorf("cut to %d bytes: %v", cut, err)
		}
	}
}

// The longest answer of ours fits.
func TestLongestAnswer(t *testing.T) {
	longest := answer{
		PublicURL: "wss://" + strings.Repeat("a", 255-len("wss://")), Version: strings.Repeat(`"`, maxVersion),
		Peers: 1<<53 - 1, Swarms: 1<<53 - 1,
	}
	var out bytes.Buffer
	if err := writeAnswer(&out, longest); err != nil {
		t.Fatal(err)
	}
	if out.Len() > maxAnswer/4 {
		t.Errorf("%d bytes leave little for later versions", out.Len())
	}
	if got, err := readAnswer(&out); err != nil || got != longest {
		t.Errorf("%+v, %v", got, err)
	}
}
