package timeline_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"p2pcdn/common/timeline"
)

func FuzzRead(f *testing.F) {
	// Without the committed seeds a plain test run would show nothing.
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := timeline.ReadAll(bytes.NewReader(data))
		if err != nil {
			var failure *timeline.Error
			if !errors.As(err, &failure) || !slices.Contains(codes, failure.Code) || failure.Line < 1 {
				t.Fatalf("%q: %v", data, err)
			}
		}
		var out bytes.Buffer
		writer := timeline.NewWriter(&out)
		for _, row := range rows {
			if err := writer.Write(row); err != nil {
				t.Fatalf("%q was read as %+v, and not written: %v", data, row, err)
			}
		}
		if len(rows) == 0 {
			return
		}
		again, err := timeline.ReadAll(&out)
		if err != nil || !reflect.DeepEqual(again, rows) {
			t.Fatalf("%q was read as %+v and, written and read again, as %+v: %v", data, rows, again, err)
		}
	})
}
