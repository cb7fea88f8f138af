package strict

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Fields are the fields of an object, in their order. Names and values are parts of its text.
type Fields []field

type field struct {
	name  []byte // without its escapes
	value json.RawMessage
}

// Get returns the value of a field, the last one of that name.
func (f Fields) Get(name string) (value json.RawMessage, there bool) {
	for i := len(f) - 1; i >= 0; i-- {
		if string(f[i].name) == name {
			return f[i].value, true
		}
	}
	return nil, false
}

// usualFields is how many fields a message has at the most, mostly.
const usualFields = 6

// Object parses a text to the fields of its object, and reports whether
// the text follows the rules of this package. Values stay raw, for the other
// functions to read, and are parts of the text.
//
// It passes over the text once. (encoding/json does so once to see that it is valid, and by
// reflection once more for the fields: for a signal that took ten times as long as all the rest of passing it on.)
func Object(text []byte) (fields Fields, ok bool) {
	return object(text, make(Fields, 0, usualFields)) // inlined, so that the caller's stack can hold them
}

func object(text []byte, fields Fields) (_ Fields, ok bool) {
	in := scanner{text: text}
	if !utf8.Valid(text) || !in.is('{') {
		return nil, false
	}
	ok = in.members('}', func() bool {
		name, ok := in.name()
		if !ok {
			return false
		}
		value, ok := in.raw()
		fields = append(fields, field{name, value})
		return ok
	})
	if in.space(); !ok || in.at < len(text) {
		return nil, false
	}
	return fields, true
}

// List reads a raw value as a list.
func List(raw json.RawMessage) (items []json.RawMessage, ok bool) {
	in := scanner{text: raw}
	if !in.is('[') {
		return nil, false
	}
	items = []json.RawMessage{}
	ok = in.members(']', func() bool {
		item, ok := in.raw()
		items = append(items, item)
		return ok
	})
	if in.space(); !ok || in.at < len(raw) {
		return nil, false
	}
	return items, true
}

// scanner passes over a text that is UTF-8, and checks it by RFC 8259 and the rules of this
// package on the way. Its methods report whether the text goes on as it must.
type scanner struct {
	text  []byte
	at    int // where it is
	depth int // of objects and lists around it
}

// is passes over white space, and over the character if it comes next.
func (s *scanner) is(char byte) bool {
	if s.space(); s.at < len(s.text) && s.text[s.at] == char {
		s.at++
		return true
	}
	return false
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\n', '\t', '\r':
			s.at++
		default:
			return
		}
	}
}

// members passes over what is in an object or a list, its opening bracket being behind us.
func (s *scanner) members(closing byte, one func() bool) bool {
	if s.depth++; s.depth > MaxDepth {
		return false
	}
	if !s.is(closing) {
		for more := true; more; more = s.is(',') {
			if !one() {
				return false
			}
		}
		if !s.is(closing) {
			return false
		}
	}
	s.depth--
	return true
}

// name passes over a field's name and the colon behind it.
func (s *scanner) name() (name []byte, ok bool) {
	s.space()
	from := s.at
	escaped, ok := s.string()
	if !ok {
		return nil, false
	}
	if raw := s.text[from:s.at]; escaped {
		text, _ := Text(raw) // a valid one can be read
		name = []byte(text)
	} else {
		name = raw[1 : len(raw)-1]
	}
	return name, s.is(':')
}

// raw passes over a value and returns it.
func (s *scanner) raw() (json.RawMessage, bool) {
	s.space()
	from := s.at
	ok := s.value()
	return s.text[from:s.at:s.at], ok
}

func (s *scanner) value() bool {
	s.space()
	if s.at == len(s.text) {
		return false
	}
	switch char := s.text[s.at]; char {
	case '"':
		_, ok := s.string()
		return ok
	case '{':
		s.at++
		return s.members('}', func() bool {
			_, ok := s.name()
			return ok && s.value()
		})
	case '[':
		s.at++
		return s.members(']', s.value)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) word(word string) bool {
	if len(s.text)-s.at < len(word) || string(s.text[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

// string passes over a text in quotes.
func (s *scanner) string() (escaped, ok bool) {
	if s.at == len(s.text) || s.text[s.at] != '"' {
		return false, false
	}
	for i := s.at + 1; ; {
		i += plain(s.text[i:])
		switch {
		case i == len(s.text):
			return false, false
		case s.text[i] == '"':
			s.at = i + 1
			return escaped, true
		case s.text[i] == '\\':
			length := escape(s.text[i:])
			if length == 0 {
				return false, false
			}
			escaped = true
			i += length
		default: // a control character
			return false, false
		}
	}
}

// plain is the length of what stands for itself within quotes at the beginning of a text: all up
// to a quote, a backslash or a control character.
func plain(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(text)-i >= 8; i += 8 { // eight at once: of each byte the highest bit tells, and of those set the lowest is right
		word := binary.LittleEndian.Uint64(text[i:])
		quote, backslash := word^ones*'"', word^ones*'\\'
		special := ((quote-ones)&^quote | (backslash-ones)&^backslash | (word-ones*' ')&^word) & highs
		if special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

// escape is the length of the escape that the text begins with, of both escapes where they
// are a pair of surrogates; 0 where it is none.
func escape(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		high := unit(text)
		switch {
		case high < 0:
			return 0
		case !utf16.IsSurrogate(high):
			return 6
		case utf16.DecodeRune(high, unit(text[6:])) != utf8.RuneError:
			return 12
		}
	}
	return 0
}

// unit is the UTF-16 code unit of the escape \uXXXX at the start of text, or -1.
func unit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	var value rune
	for _, char := range text[2:6] {
		switch {
		case '0' <= char && char <= '9':
			value = value<<4 | rune(char-'0')
		case 'a' <= char|0x20 && char|0x20 <= 'f':
			value = value<<4 | rune(char|0x20-'a'+10)
		default:
			return -1
		}
	}
	return value
}

func (s *scanner) number() bool {
	s.one('-')
	if !s.one('0') && !s.digits() {
		return false
	}
	if s.one('.') && !s.digits() {
		return false
	}
	if s.one('e') || s.one('E') {
		if !s.one('+') {
			s.one('-')
		}
		return s.digits()
	}
	return true
}

// one passes over the character if it comes at once.
func (s *scanner) one(char byte) bool {
	if s.at < len(s.text) && s.text[s.at] == char {
		s.at++
		return true
	}
	return false
}

// digits passes over one or more of them.
func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > from
}
