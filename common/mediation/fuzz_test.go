package mediation_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"p2pcdn/common/mediation"
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

// checkDecoded holds what Decode returned to its contract: a message survives
// being encoded and decoded, in no more bytes; a failure has a known class and can be sent.
func checkDecoded(t *testing.T, text []byte, message mediation.Message, err error) {
	t.Helper()
	if err != nil {
		var failure *mediation.Error
		if !errors.As(err, &failure) || !slices.Contains(decoderCodes, failure.Code) || message != nil {
			t.Fatalf("%q: %v, %v", text, message, err)
		}
		message = failure
	}
	encoded := mediation.Encode(message)
	if room := mediation.Room(message); len(encoded) > room || room > len(encoded)+256 {
		t.Fatalf("%q: its %d bytes count for %d", text, len(encoded), room)
	}
	again, errAgain := mediation.Decode(encoded)
	if errAgain != nil || !reflect.DeepEqual(again, message) {
		t.Fatalf("%q: %+v was encoded as %q and decoded as %+v, %v", text, message, encoded, again, errAgain)
	}
	if twice := mediation.Encode(again); !bytes.Equal(twice, encoded) {
		t.Fatalf("%q: encoded as %q and then as %q", text, encoded, twice)
	}
	if err == nil && len(encoded) > len(text) {
		t.Fatalf("%q: grew to %q", text, encoded)
	}
}

func FuzzDecode(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		buffer := bytes.Clone(text)
		message, err := mediation.Decode(buffer)
		for i := range buffer { // which is used for something else afterwards
			buffer[i] = 'x'
		}
		checkDecoded(t, text, message, err)
		if again, errAgain := mediation.Decode(text); !reflect.DeepEqual(again, message) || (err == nil) != (errAgain == nil) {
			t.Fatalf("%q: the message keeps a part of the text: %+v instead of %+v", text, message, again)
		}
	})
}

func FuzzReadFrom(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for stream := bytes.NewReader(data); ; {
			rest := data[len(data)-stream.Len():]
			message, err := mediation.ReadFrom(stream)
			var failure *mediation.Error
			if wrong := errors.As(err, &failure); err != nil && !wrong {
				// Only the end is left: between messages, or within one.
				between := err == io.EOF
				if within := errors.Is(err, io.ErrUnexpectedEOF); between == within || between != (len(rest) == 0) {
					t.Fatalf("%q: %v before %q", data, err, rest)
				}
				return
			}
			if failure != nil && failure.Code == mediation.CodeMessageTooBig {
				return // the stream is closed
			}
			text := rest[4 : len(rest)-stream.Len()]
			checkDecoded(t, text, message, err)
			if err == nil {
				var out bytes.Buffer
				if err := mediation.WriteTo(&out, message); err != nil || !bytes.Equal(out.Bytes(), frame(mediation.Encode(message))) {
					t.Fatalf("%q: %v", text, err)
				}
			}
		}
	})
}
