package content

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"p2pcdn/common/strict"
)

// MaxDictionarySize bounds an info dictionary as text: the piece hashes of
// MaxPieces pieces, quoted and on lines of their own, and room for the rest.
const MaxDictionarySize = MaxPieces*80 + 64<<10

const (
	maxFileName    = 255 // bytes: what common file systems allow
	maxContentType = 255 // bytes: more than any registered media type
)

// Info is the info dictionary: all that must be known of a content to fetch it
// from strangers. As JSON its fields are those of the tags; unknown fields are
// ignored, so that it can grow.
type Info struct {
	FullHash    FullHash `json:"full_hash"`
	FileName    string   `json:"file_name"`    // a plain name without a folder; may be ""
	ContentType string   `json:"content_type"` // a media type; may be ""
	TotalLength int64    `json:"total_length"` // bytes
	PieceLength int64    `json:"piece_length"` // bytes; ParseInfo fills in DefaultPieceLength where it was left out

	// PieceHashes is the tree's layer at PieceLength. It is nil where there is
	// one piece, and where the dictionary came without it: then other peers
	// are asked for it, and their answer is checked against FullHash.
	PieceHashes []Hash `json:"piece_hashes,omitempty"`
}

// Geometry returns how the content is cut into pieces.
func (i Info) Geometry() Geometry { return Geometry{i.TotalLength, i.PieceLength} }

// HasPieceHashes reports whether every piece can be checked as it comes.
func (i Info) HasPieceHashes() bool { return i.Geometry().Pieces() == 1 || len(i.PieceHashes) > 0 }

// PieceHash is the hash that the piece must have; HasPieceHashes must hold.
func (i Info) PieceHash(piece int) Hash {
	if len(i.PieceHashes) == 0 {
		return Hash(i.FullHash)
	}
	return i.PieceHashes[piece]
}

// ParseInfo parses and validates an info dictionary: JSON by the rules of
// package strict. Every failure is an [*Error]; where several things are wrong, it
// is the first of: the size, the form of the text, each field in the order of
// [Info] (missing or of the wrong type), and then what [Info.Validate] checks.
func ParseInfo(text []byte) (Info, error) {
	if len(text) > MaxDictionarySize {
		return Info{}, fail(CodeDictionaryTooBig, "an info dictionary has at most %d bytes, not %d", MaxDictionarySize, len(text))
	}
	fields, ok := strict.Object(text)
	if !ok {
		return Info{}, fail(CodeBadDictionary, "an info dictionary is a JSON object")
	}
	info, err := readInfo(fields)
	if err != nil {
		return Info{}, err
	}
	if err := info.Validate(); err != nil {
		return Info{}, err
	}
	if info.Geometry().Pieces() == 1 {
		info.PieceHashes = nil // it said nothing that full_hash does not say
	}
	return info, nil
}

// readInfo reads each field for itself.
func readInfo(fields strict.Fields) (info Info, err error) {
	for _, field := range []struct {
		name string
		read func(json.RawMessage) bool
		code Code
		need bool
	}{
		{"full_hash", info.readFullHash, CodeBadFullHash, true},
		{"file_name", readText(&info.FileName), CodeBadFileName, false},
		{"content_type", readText(&info.ContentType), CodeBadContentType, false},
		{"total_length", readInt(&info.TotalLength), CodeBadTotalLength, true},
		{"piece_length", readInt(&info.PieceLength), CodeBadPieceLength, false},
		{"piece_hashes", info.readPieceHashes, CodeBadPieceHash, false},
	} {
		raw, there := fields.Get(field.name)
		switch {
		case !there && field.need:
			return Info{}, fail(field.code, "the info dictionary has no %s", field.name)
		case there && !field.read(raw):
			return Info{}, fail(field.code, "the info dictionary's %s is malformed", field.name)
		}
	}
	if _, there := fields.Get("piece_length"); !there {
		info.PieceLength = DefaultPieceLength(info.TotalLength)
	}
	return info, nil
}

func readText(into *string) func(json.RawMessage) bool {
	return func(raw json.RawMessage) (ok bool) {
		*into, ok = strict.Text(raw)
		return ok
	}
}

func readInt(into *int64) func(json.RawMessage) bool {
	return func(raw json.RawMessage) (ok bool) {
		*into, ok = strict.Int(raw)
		return ok
	}
}

func (i *Info) readFullHash(raw json.RawMessage) bool {
	text, ok := strict.Text(raw)
	if !ok {
		return false
	}
	var err error
	i.FullHash, err = ParseFullHash(text)
	return err == nil
}

// readPieceHashes leaves nil where the list is empty: it says no more than none.
func (i *Info) readPieceHashes(raw json.RawMessage) bool {
	items, ok := strict.List(raw)
	for _, item := range items {
		text, isText := strict.Text(item)
		hash, isHash := parseHash(text)
		if !isText || !isHash {
			return false
		}
		i.PieceHashes = append(i.PieceHashes, hash)
	}
	return ok
}

// Validate checks, in this order, the file name, the content type, the geometry,
// and that the piece hashes, where they are present, are as many as there are
// pieces and hash up to the full hash. Every failure is an [*Error].
func (i Info) Validate() error {
	if err := i.validateNames(); err != nil {
		return err
	}
	geometry := i.Geometry()
	if err := geometry.Check(); err != nil {
		return err
	}
	if len(i.PieceHashes) == 0 {
		return nil
	}
	if len(i.PieceHashes) != geometry.Pieces() {
		return fail(CodeWrongPieceCount, "%d piece_hashes, but %d bytes in pieces of %d are %d pieces",
			len(i.PieceHashes), i.TotalLength, i.PieceLength, geometry.Pieces())
	}
	if geometry.Root(i.PieceHashes) != i.FullHash {
		return fail(CodeContradiction, "the piece_hashes do not hash up to full_hash")
	}
	return nil
}

func (i Info) validateNames() error {
	if i.FileName != "" && !plainFileName(i.FileName) {
		return fail(CodeBadFileName, "file_name must be a plain file name of at most %d bytes", maxFileName)
	}
	if i.ContentType != "" && (len(i.ContentType) > maxContentType || !mediaType.MatchString(i.ContentType)) {
		return fail(CodeBadContentType, "content_type must be a media type such as image/png")
	}
	return nil
}

// type "/" subtype with optional parameters, all printable ASCII (RFC 9110, 8.3.1).
var mediaType = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+/[A-Za-z0-9!#$%&'*+.^_`|~-]+( *;[ -~]*)?$")

// plainFileName says whether name can be created in a folder without leaving
// it, on any common system: no separators, no control characters, no "." or "..".
func plainFileName(name string) bool {
	return len(name) <= maxFileName && name != "." && name != ".." && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == '\\' || unicode.Is(unicode.Cc, r) })
}

// Encode returns the dictionary as indented JSON, ending in a newline: what a
// person copies and a program reads.
func (i Info) Encode() []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // an & in a file name stays an & for people
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(i); err != nil { // every field is a string, a number or a hash
		panic(err)
	}
	return buffer.Bytes()
}
