package mediation

import (
	"encoding/json"
	"strings"

	"p2pcdn/common/strict"
)

// SignalData is the opaque text of a signal. It is kept as JSON has it, in its shortest form, so
// that a mediator passes it on as it came. The zero value is the empty text; two of one text are equal.
type SignalData struct {
	quoted string // "" where the text is empty
	length int    // of the text
}

// NewSignalData returns the data of a text. What is no UTF-8 in it is replaced by U+FFFD.
func NewSignalData(text string) SignalData {
	if text == "" {
		return SignalData{}
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	return SignalData{string(strict.AppendText(make([]byte, 0, len(text)+len(text)/8+2), text)), len(text)}
}

// quoted reads a raw value as signal data.
func quoted(raw json.RawMessage) (data SignalData, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return SignalData{}, false
	}
	if length, shortest := strict.Shortest(raw); shortest && length > 0 {
		return SignalData{string(raw), length}, true
	}
	text, ok := strict.Text(raw)
	return NewSignalData(text), ok
}

// String returns the text.
func (d SignalData) String() string {
	text, _ := strict.Text(json.RawMessage(d.json()))
	return text
}

// Len returns the length of the text, in bytes of UTF-8.
func (d SignalData) Len() int { return d.length }

func (d SignalData) json() string {
	if d.quoted == "" {
		return `""`
	}
	return d.quoted
}
