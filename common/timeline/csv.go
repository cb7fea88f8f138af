package timeline

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// plain are the columns before those of the phases.
var plain = []string{
	"schema", "scenario", "seed", "index", "flow", "endpoint", "role", "mediators", "content_bytes", "content", "peer",
	"outcome", "error_code", "error",
}

// Columns returns the names of all columns, in the order in which they are written.
func Columns() []string {
	columns := slices.Clone(plain)
	for _, phase := range Phases {
		columns = append(columns, string(phase))
	}
	return columns
}

// Writer writes a table. Its methods must not be called together.
type Writer struct {
	out    io.Writer
	headed bool // the column names are written
}

// NewWriter returns a Writer; each row is one call of out.Write.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Header writes the column names, where that was not done yet: a table without rows has them too.
func (w *Writer) Header() error {
	if w.headed {
		return nil
	}
	w.headed = true
	return w.write(Columns())
}

// Write writes a row, and before the first one the column names. One that [Row.Check] refuses is not written.
func (w *Writer) Write(row *Row) error {
	if err := row.Check(); err != nil {
		return err
	}
	if err := w.Header(); err != nil {
		return err
	}
	return w.write(row.fields())
}

func (w *Writer) write(fields []string) error {
	var line []byte
	for i, field := range fields {
		if i > 0 {
			line = append(line, ',')
		}
		if strings.ContainsAny(field, ",\"\r\n") {
			field = `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
		}
		line = append(line, field...)
	}
	if _, err := w.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

// fields returns the row in the order of Columns.
func (r *Row) fields() []string {
	fields := []string{
		strconv.Itoa(Schema), r.Scenario, strconv.FormatUint(r.Seed, 10), strconv.Itoa(r.Index), string(r.Flow),
		string(r.Endpoint), string(r.Role), strconv.Itoa(r.Mediators), strconv.FormatInt(r.ContentBytes, 10),
		strconv.Itoa(r.Content), r.Peer, string(r.Outcome), r.ErrorCode, r.Error,
	}
	for _, phase := range Phases {
		field := ""
		if at, reached := r.Stamps[phase]; reached {
			field = milliseconds(at)
		}
		fields = append(fields, field)
	}
	return fields
}

// Reader reads a table, row by row and in bounded memory. Its methods must not be called together.
type Reader struct {
	in      *bufio.Reader
	line    int            // that is read, from 1
	columns int            // how many there are; 0 before the first line
	place   map[string]int // where each column of ours stands
	missing string         // the first one of ours that is not there
	rows    int
}

// NewReader returns a Reader.
func NewReader(in io.Reader) *Reader { return &Reader{in: bufio.NewReader(in)} }

// Read returns the next row, and [io.EOF] behind the last. What is wrong with the text is an [*Error]; where several
// things are, it is the first of: the form of the row and its length, how many fields it has, its schema, columns that are
// missing, and then the fields. After an error there is nothing more to be read.
func (r *Reader) Read() (*Row, error) {
	if r.columns == 0 {
		if err := r.header(); err != nil {
			return nil, err
		}
	}
	line := r.line + 1
	fields, err := r.record()
	if errors.Is(err, io.EOF) && r.missing != "" {
		return nil, r.errMissing()
	}
	if err != nil {
		return nil, err
	}
	if r.rows++; r.rows > MaxRows {
		return nil, at(line, fail(CodeTooMany, "a table has at most %d rows", MaxRows))
	}
	if len(fields) != r.columns {
		return nil, at(line, fail(CodeBadFieldCount, "%d fields in a table of %d columns", len(fields), r.columns))
	}
	if err := r.schema(fields); err != nil {
		return nil, at(line, err)
	}
	if r.missing != "" {
		return nil, r.errMissing()
	}
	row, err := r.parse(fields)
	return row, at(line, err)
}

// ReadAll returns all rows, and with an error those before it.
func ReadAll(in io.Reader) ([]*Row, error) {
	reader := NewReader(in)
	var rows []*Row
	for {
		row, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return rows, nil
		case err != nil:
			return rows, err
		}
		rows = append(rows, row)
	}
}

// at adds the line to a failure of a row.
func at(line int, err error) error {
	var failure *Error
	if errors.As(err, &failure) {
		return &Error{failure.Code, line, failure.Message}
	}
	return err
}

func (r *Reader) errMissing() error {
	return &Error{CodeBadHeader, 1, fmt.Sprintf("the column %q is missing: this is no table of this project", r.missing)}
}

// header reads the column names. That some are missing is told with the first row: a newer schema may have left them out.
func (r *Reader) header() error {
	names, err := r.record()
	if errors.Is(err, io.EOF) {
		return &Error{CodeNoHeader, 1, "the table is empty"}
	}
	if err != nil {
		return err
	}
	r.columns, r.place = len(names), make(map[string]int)
	for _, column := range Columns() {
		i := slices.Index(names, column)
		switch {
		case i < 0 && r.missing == "":
			r.missing = column
		case i >= 0 && slices.Contains(names[i+1:], column):
			return &Error{CodeBadHeader, 1, fmt.Sprintf("the column %q is there twice", column)}
		case i >= 0:
			r.place[column] = i
		}
	}
	return nil
}

// schema checks the version of a row.
func (r *Reader) schema(fields []string) error {
	i, there := r.place["schema"]
	if !there {
		return nil // errMissing says so
	}
	schema, err := number(fields[i], 1)
	switch {
	case err != nil:
		return bad("schema", fields[i])
	case schema > Schema:
		return fail(CodeNewerSchema, "a row of schema %d, but this program reads schema %d at most: a newer version is needed", schema, Schema)
	}
	return nil
}

// parse reads the fields of a row.
func (r *Reader) parse(fields []string) (*Row, error) {
	var wrong error
	field := func(column string) string { return fields[r.place[column]] }
	integer := func(column string, least uint64) uint64 {
		value, err := number(field(column), least)
		if err != nil && wrong == nil {
			wrong = bad(column, field(column))
		}
		return value
	}
	row := &Row{
		Scenario: field("scenario"), Flow: Flow(field("flow")), Endpoint: Endpoint(field("endpoint")), Role: Role(field("role")),
		Peer: field("peer"), Outcome: Outcome(field("outcome")), ErrorCode: field("error_code"), Error: field("error"),
		Stamps: make(Stamps),
	}
	row.Seed, row.Index = integer("seed", 0), int(integer("index", 1))
	row.Mediators, row.ContentBytes, row.Content = int(integer("mediators", 1)), int64(integer("content_bytes", 0)), int(integer("content", 1))
	for _, phase := range Phases {
		text := field(string(phase))
		if text == "" {
			continue
		}
		stamp, err := parseStamp(text)
		if err != nil && wrong == nil {
			wrong = bad(string(phase), text)
		}
		row.Stamps[phase] = stamp
	}
	if wrong == nil {
		wrong = row.Check()
	}
	if wrong != nil {
		return nil, wrong
	}
	return row, nil
}

// number reads an integer, of at least least.
func number(text string, least uint64) (uint64, error) {
	value, err := strconv.ParseUint(text, 10, 53)
	if err != nil || value < least || strconv.FormatUint(value, 10) != text {
		return 0, errNumber
	}
	return value, nil
}

var errNumber = errors.New("no number of this column")

// parseStamp reads milliseconds with three decimals.
func parseStamp(text string) (time.Duration, error) {
	whole, decimals, found := strings.Cut(text, ".")
	ms, err := number(whole, 0)
	us, err2 := strconv.ParseUint(decimals, 10, 16)
	stamp := time.Duration(ms)*time.Millisecond + time.Duration(us)*time.Microsecond
	if !found || err != nil || err2 != nil || len(decimals) != 3 || len(whole) > 7 {
		return 0, errNumber
	}
	return stamp, nil
}

// byteOrderMark is what some programs put in front of UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// record reads the fields of one row; io.EOF where there is none any more. Empty lines are passed over.
func (r *Reader) record() ([]string, error) {
	for {
		r.line++
		begin := r.line
		raw, err := r.row()
		if err != nil {
			return nil, at(begin, err)
		}
		if begin == 1 {
			raw = bytes.TrimPrefix(raw, byteOrderMark)
		}
		if len(raw) == 0 {
			continue
		}
		fields, err := split(string(raw))
		if err != nil {
			return nil, at(begin, err)
		}
		return fields, nil
	}
}

// row reads the text of one row, without its line end: up to the first one that is not in quotes.
func (r *Reader) row() ([]byte, error) {
	var raw []byte
	quotes := 0
	for {
		part, err := r.in.ReadSlice('\n')
		raw = append(raw, part...)
		if len(raw) > MaxRow {
			return nil, fail(CodeTooLong, "a row of more than %d bytes", MaxRow)
		}
		quotes += bytes.Count(part, []byte{'"'})
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(raw) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return bytes.TrimSuffix(raw, []byte("\r")), nil
		case err != nil:
			return nil, fmt.Errorf("reading the table: %w", err)
		case quotes%2 == 1: // the line end is within quotes
			r.line++
			continue
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r")), nil
	}
}

// split cuts a row into its fields.
func split(row string) ([]string, error) {
	if !utf8.ValidString(row) {
		return nil, fail(CodeBadText, "a row that is not UTF-8")
	}
	var fields []string
	for {
		if len(fields) == MaxColumns {
			return nil, fail(CodeTooLong, "a row of more than %d fields", MaxColumns)
		}
		field, rest, err := cut(row)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		if rest == "" {
			return fields, nil
		}
		row = rest[1:] // behind the comma
	}
}

// cut takes the first field off a row; rest begins with the comma behind it, or is empty.
func cut(row string) (field, rest string, err error) {
	if !strings.HasPrefix(row, `"`) {
		end := strings.IndexByte(row, ',')
		if end < 0 {
			end = len(row)
		}
		if strings.ContainsAny(row[:end], "\"\r") {
			return "", "", fail(CodeBadText, "a quote, or a line end, within a field that is not in quotes")
		}
		return row[:end], row[end:], nil
	}
	var text strings.Builder
	for row = row[1:]; ; {
		end := strings.IndexByte(row, '"')
		if end < 0 {
			return "", "", fail(CodeBadText, "a quote that is not closed")
		}
		text.WriteString(row[:end])
		switch row = row[end+1:]; {
		case strings.HasPrefix(row, `"`):
			text.WriteByte('"')
			row = row[1:]
		case row == "" || row[0] == ',':
			return text.String(), row, nil
		default:
			return "", "", fail(CodeBadText, "text behind a quote that is closed")
		}
	}
}
