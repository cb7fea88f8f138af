package timeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"p2pcdn/common/timeline"
)

// vectors is csv.json, whose "format" field says what it means. The TypeScript tests read the same file.
type vectors struct {
	Columns string
	Valid   []struct {
		Name, Row string
		Record    timeline.Row
	}
	Readable []struct {
		Name, Text string
		Records    []timeline.Row
	}
	Invalid []struct {
		Name, Text string
		Fill       struct {
			Text  string
			Count int
		}
		Code timeline.Code
		Line int
	}
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", "csv.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Valid) == 0 || len(v.Readable) == 0 || len(v.Invalid) == 0 {
		t.Fatal("there are no vectors")
	}
	return v
}

func TestVectors(t *testing.T) {
	v := readVectors(t)
	if columns := strings.Join(timeline.Columns(), ","); columns != v.Columns {
		t.Errorf("columns %s instead of %s", columns, v.Columns)
	}
	for _, test := range v.Valid {
		t.Run(test.Name, func(t *testing.T) {
			var out bytes.Buffer
			if err := timeline.NewWriter(&out).Write(&test.Record); err != nil {
				t.Fatal(err)
			}
			if want := v.Columns + "\n" + test.Row + "\n"; out.String() != want {
				t.Errorf("written as\n%s instead of\n%s", out.String(), want)
			}
			same(t, v.Columns+"\n"+test.Row+"\n", []timeline.Row{test.Record})
		})
	}
	for _, test := range v.Readable {
		t.Run(test.Name, func(t *testing.T) { same(t, test.Text, test.Records) })
	}
	told := make(map[timeline.Code]bool)
	for _, test := range v.Invalid {
		t.Run(test.Name, func(t *testing.T) {
			told[test.Code] = true
			text := strings.ReplaceAll(test.Text, "{fill}", strings.Repeat(test.Fill.Text, test.Fill.Count))
			_, err := timeline.ReadAll(strings.NewReader(text))
			var failure *timeline.Error
			if !errors.As(err, &failure) || failure.Code != test.Code || failure.Line != test.Line {
				t.Errorf("%v instead of %s at line %d", err, test.Code, test.Line)
			}
			if !errors.Is(err, &timeline.Error{Code: test.Code}) {
				t.Errorf("%v is not of class %s", err, test.Code)
			}
		})
	}
	for _, code := range codes {
		if !told[code] && code != timeline.CodeTooMany {
			t.Errorf("no vector is refused with %s", code)
		}
	}
}

var codes = []timeline.Code{
	timeline.CodeBadText, timeline.CodeTooLong, timeline.CodeTooMany, timeline.CodeNoHeader, timeline.CodeBadHeader,
	timeline.CodeNewerSchema, timeline.CodeBadFieldCount, timeline.CodeBadField,
}

func same(t *testing.T, text string, records []timeline.Row) {
	t.Helper()
	rows, err := timeline.ReadAll(strings.NewReader(text))
	if err != nil || len(rows) != len(records) {
		t.Fatalf("%d rows instead of %d: %v", len(rows), len(records), err)
	}
	for i, row := range rows {
		if !reflect.DeepEqual(*row, records[i]) {
			t.Errorf("read as\n%+v instead of\n%+v", *row, records[i])
		}
	}
}

// rowsOf repeats a row without end.
type rowsOf struct {
	header, row string
	rest        string
}

func (r *rowsOf) Read(p []byte) (int, error) {
	if r.rest == "" {
		r.rest = r.header + strings.Repeat(r.row, 1000)
		r.header = ""
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func TestEndlessTable(t *testing.T) {
	v := readVectors(t)
	reader := timeline.NewReader(&rowsOf{header: v.Columns + "\n", row: v.Valid[4].Row + "\n"})
	for n := 0; ; n++ {
		_, err := reader.Read()
		if err == nil {
			continue
		}
		if n != timeline.MaxRows || !errors.Is(err, &timeline.Error{Code: timeline.CodeTooMany}) {
			t.Errorf("after %d rows: %v", n, err)
		}
		return
	}
}

// TestWritten says that a row is one write, so that a program that is killed leaves whole rows.
func TestWritten(t *testing.T) {
	v := readVectors(t)
	var writes writeCounter
	writer := timeline.NewWriter(&writes)
	for _, test := range v.Valid {
		if err := writer.Write(&test.Record); err != nil {
			t.Fatal(err)
		}
	}
	if int(writes) != 1+len(v.Valid) {
		t.Errorf("%d writes for %d rows", writes, len(v.Valid))
	}
	row := v.Valid[0].Record
	row.Outcome = timeline.Failed
	if err := writer.Write(&row); !errors.Is(err, &timeline.Error{Code: timeline.CodeBadField}) || int(writes) != 1+len(v.Valid) {
		t.Errorf("a row that failed without a code: %v, %d writes", err, writes)
	}
}

type writeCounter int

func (w *writeCounter) Write(p []byte) (int, error) {
	*w++
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	reader, writer := io.Pipe()
	_ = reader.CloseWithError(io.ErrShortWrite)
	if err := timeline.NewWriter(writer).Header(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a failed write gave %v", err)
	}
}

func TestSince(t *testing.T) {
	begin := time.Now()
	after := func(d time.Duration) time.Time { return begin.Add(d) }
	stamps := timeline.Since(timeline.Leecher, map[timeline.Phase]time.Time{
		timeline.Started: begin, timeline.MediatorOpen: after(1499 * time.Nanosecond), timeline.Complete: after(time.Second),
		timeline.Established: after(-time.Second), timeline.ChannelOpen: after(1000 * time.Hour),
		timeline.Announced: after(time.Second),
	})
	want := timeline.Stamps{timeline.Started: 0, timeline.MediatorOpen: time.Microsecond, timeline.Complete: time.Second}
	if !reflect.DeepEqual(stamps, want) {
		t.Errorf("%v instead of %v", stamps, want)
	}
	if stamps := timeline.Since(timeline.Leecher, map[timeline.Phase]time.Time{timeline.Complete: begin}); stamps != nil {
		t.Errorf("without a start: %v", stamps)
	}
}
