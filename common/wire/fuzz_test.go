package wire_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"p2pcdn/common/wire"
)

func FuzzDecode(f *testing.F) {
	// Without the committed seeds a plain test run would show nothing.
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := wire.Decode(data)
		if err != nil {
			var failure *wire.Error
			if !errors.As(err, &failure) || !slices.Contains(decoderCodes, failure.Code) || frame != nil {
				t.Fatalf("%x: %v, %v", data, frame, err)
			}
			return
		}
		encoded := wire.Append(nil, frame)
		again, err := wire.Decode(encoded)
		if err != nil || !reflect.DeepEqual(again, frame) {
			t.Fatalf("%x: %+v was encoded as %x and decoded as %+v, %v", data, frame, encoded, again, err)
		}
		switch frame.(type) {
		case wire.Handshake, wire.Goodbye: // what means nothing in them is dropped
		default:
			if !bytes.Equal(encoded, data) {
				t.Fatalf("%x was encoded as %x", data, encoded)
			}
		}
	})
}
