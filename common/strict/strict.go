// Package strict reads JSON from strangers so that every implementation takes
// the same texts and understands the same by them. The parsers of Go and of
// JavaScript differ in what they let pass; these rules leave no room for it:
//
//   - The text is UTF-8 without a byte order mark, and one JSON object (RFC 8259)
//     with nothing but white space around it.
//   - Names match to the letter, case included. A name twice counts as its last.
//   - An escaped surrogate (\ud800 to \udfff) is one half of an escaped pair, high
//     before low. Alone it stands for no character: Go would replace it,
//     JavaScript would keep it. This holds for the whole text, ignored fields included.
//   - Objects and lists are nested at most [MaxDepth] deep, ignored fields included.
//   - A number is the IEEE 754 double that is nearest to it, and an integer if that
//     has no fraction: 1000, 1e3 and 1000.0 are one number, and -0 is 0.
//   - null is no value of any type.
package strict

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// MaxDepth is how deep objects and lists may be nested, the outermost one
	// counted. The protocols need four levels; what is ignored may have some more.
	MaxDepth = 32

	// MaxInt is the largest integer, and -MaxInt the smallest, that a double
	// tells apart from its neighbours (ECMAScript, Number.MAX_SAFE_INTEGER).
	MaxInt = 1<<53 - 1
)

// Text reads a raw value as a string.
func Text(raw json.RawMessage) (text string, ok bool) {
	utf8, ok := Bytes(raw)
	return string(utf8), ok
}

// Bytes reads a raw value as a string, of which it returns the UTF-8: a part of raw, where nothing is escaped.
func Bytes(raw json.RawMessage) (text []byte, ok bool) {
	if len(raw) >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 { // as in most
		return raw[1 : len(raw)-1], true
	}
	var unescaped string
	ok = read(raw, `"`, &unescaped)
	return []byte(unescaped), ok
}

// Hex decodes a text of lower-case hex digits, two for each byte, and reports whether it is one.
// What it is decoded to is undefined if not.
func Hex[Text string | []byte](into []byte, digits Text) bool {
	if len(digits) != 2*len(into) {
		return false
	}
	for i := range into {
		high, low := hexDigits[digits[2*i]], hexDigits[digits[2*i+1]]
		if high|low > 15 {
			return false
		}
		into[i] = high<<4 | low
	}
	return true
}

// hexDigits are the values of the lower-case hex digits; those of all else are larger.
var hexDigits = func() (values [256]byte) {
	for i := range values {
		values[i] = 0xff
	}
	for i, digit := range "0123456789abcdef" {
		values[digit] = byte(i)
	}
	return values
}()

// Int reads a raw value as an integer from -MaxInt to MaxInt.
func Int(raw json.RawMessage) (n int64, ok bool) {
	var double float64
	if !read(raw, "-0123456789", &double) || double != math.Trunc(double) || math.Abs(double) > MaxInt {
		return 0, false
	}
	return int64(double), true
}

// read decodes a value that begins with one of the given characters, which
// tell the types of JSON apart.
func read(raw json.RawMessage, first string, into any) bool {
	return len(raw) > 0 && strings.IndexByte(first, raw[0]) >= 0 && json.Unmarshal(raw, into) == nil
}

// Encode returns a value as JSON in its shortest form, the one of JSON.stringify:
// nothing is escaped that need not be, so that a text never grows by being decoded
// and encoded. The value must be one that encoding/json can encode; else Encode panics.
func Encode(value any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return unescapeSeparators(bytes.TrimSuffix(buffer.Bytes(), []byte("\n")))
}

// AppendText appends the text as Encode writes it, many times faster: signals, which are
// most of what mediators write, are one long text.
func AppendText(out []byte, text string) []byte {
	if !utf8.ValidString(text) {
		return append(out, Encode(text)...) // with what stands for no character replaced
	}
	out = append(out, '"')
	plain := 0 // where what needs no escape begins
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			out = appendEscape(append(out, text[plain:i]...), c)
			plain = i + 1
		}
	}
	return append(append(out, text[plain:]...), '"')
}

// Shortest reports whether a valid raw string is what AppendText writes of its text, and if so
// how many bytes that text has.
func Shortest(raw json.RawMessage) (length int, ok bool) {
	length = len(raw) - len(`""`)
	for i := 1; ; i++ {
		if i += plain(raw[i:]); i >= len(raw)-1 {
			return length, true
		}
		i++ // behind a backslash
		switch char := raw[i]; char {
		case '"', '\\', 'b', 'f', 'n', 'r', 't':
			length--
		case 'u':
			control := unit(raw[i-1:])
			if control >= ' ' || shortEscapes[control] != 0 || string(raw[i:i+5]) != string(appendEscape(nil, byte(control))[1:]) {
				return 0, false
			}
			i += 4
			length -= len(`\u0000`) - 1
		default:
			return 0, false
		}
	}
}

// shortEscapes are the characters that a backslash and one letter stand for.
var shortEscapes = [256]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

func appendEscape(out []byte, c byte) []byte {
	if letter := shortEscapes[c]; letter != 0 {
		return append(out, '\\', letter)
	}
	const digits = "0123456789abcdef"
	return append(out, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}

// unescapeSeparators writes U+2028 and U+2029, which encoding/json always
// escapes, as they are. It overwrites text.
func unescapeSeparators(text []byte) []byte {
	out := text[:0]
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out = append(out, text[i])
			continue
		}
		if char := unit(text[i:]); char == '\u2028' || char == '\u2029' {
			out = utf8.AppendRune(out, char)
			i += len(`\u2028`) - 1
			continue
		}
		out = append(out, text[i], text[i+1]) // both, so that \\ does not begin an escape
		i++
	}
	return out
}

// Clip cuts a text for people to at most limit bytes of valid UTF-8, so that a
// reader with that limit takes it.
func Clip(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for len(text) > limit {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
