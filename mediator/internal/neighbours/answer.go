package neighbours

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"p2pcdn/common/strict"
)

const (
	// maxAnswer bounds an answer, in bytes of JSON. The longest of this version has
	// some 400; the rest is for fields of later ones.
	maxAnswer = 4 << 10

	// maxVersion bounds a version, in bytes: a tag and a commit.
	maxVersion = 64

	request = 0x01
)

var errBadAnswer = errors.New("not the answer of a mediator")

// answer is what a mediator says of itself.
type answer struct {
	PublicURL string `json:"public_url,omitempty"` // ""; or one that parseTarget takes
	Version   string `json:"version"`
	Peers     int64  `json:"peers"`
	Swarms    int64  `json:"swarms"`
}

func encodeAnswer(a answer) []byte { return strict.Encode(a) }

// writeAnswer writes an answer with its length, in one write.
func writeAnswer(w io.Writer, a answer) error {
	text := encodeAnswer(a)
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(text)), uint16(len(text)))
	_, err := w.Write(append(framed, text...))
	return err
}

// readAnswer reads what writeAnswer writes. It takes no more memory than an answer may have.
func readAnswer(r io.Reader) (answer, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return answer{}, fmt.Errorf("reading an answer's length: %w", err)
	}
	length := binary.BigEndian.Uint16(head[:])
	if length == 0 || length > maxAnswer {
		return answer{}, fmt.Errorf("%w: it has 1 to %d bytes, not %d", errBadAnswer, maxAnswer, length)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return answer{}, fmt.Errorf("reading an answer of %d bytes: %w", length, err)
	}
	return decodeAnswer(text)
}

// decodeAnswer reads the JSON of an answer. Every failure is errBadAnswer.
func decodeAnswer(text []byte) (answer, error) {
	fields, ok := strict.Object(text)
	if !ok {
		return answer{}, fmt.Errorf("%w: it is one JSON object in UTF-8", errBadAnswer)
	}
	var a answer
	if raw, there := fields.Get("public_url"); there {
		url, ok := strict.Text(raw)
		if _, err := parseTarget(url); !ok || err != nil {
			return answer{}, fmt.Errorf("%w: public_url is no URL of a mediator", errBadAnswer)
		}
		a.PublicURL = url
	}
	version, _ := fields.Get("version")
	if a.Version, ok = strict.Text(version); !ok || len(a.Version) > maxVersion || strings.ContainsFunc(a.Version, unprintable) {
		return answer{}, fmt.Errorf("%w: version is a text of at most %d bytes", errBadAnswer, maxVersion)
	}
	var peers, swarms bool
	a.Peers, peers = count(fields, "peers")
	a.Swarms, swarms = count(fields, "swarms")
	if !peers || !swarms {
		return answer{}, fmt.Errorf("%w: peers and swarms are integers from 0 on", errBadAnswer)
	}
	return a, nil
}

func unprintable(char rune) bool { return !unicode.IsPrint(char) }

func count(fields strict.Fields, name string) (int64, bool) {
	raw, _ := fields.Get(name)
	n, ok := strict.Int(raw)
	return n, ok && n >= 0
}
