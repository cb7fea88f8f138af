package strict_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"p2pcdn/common/strict"
)

func TestObject(t *testing.T) {
	nested := func(depth int) string {
		return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
	}
	for text, want := range map[string]bool{
		`{}`: true, " \t\r\n{} ": true, `{"a":1,"a":null}`: true, `{"":{}}`: true,
		``: false, `null`: false, `[]`: false, `"{}"`: false, `1`: false, `{}{}`: false, `{} x`: false, `{`: false, "\ufeff{}": false,
		"{\"a\":\"\xff\"}": false, "{\"a\":\"\xed\xa0\x80\"}": false,
		`{"a":"\ud83d\ude00"}`: true, `{"a":"\\ud83d"}`: true, `{"a":"\\\\ud83d\u005cud83d"}`: true,
		`{"a":"\ud83d"}`: false, `{"a":"\ude00\ud83d"}`: false, `{"a":"\ud83d\u0041"}`: false, `{"\uDFFF":1}`: false, `{"a":"\\\ud83d"}`: false, `{"a":"\ud83d\`: false, `{"a":"\ud83d\ude0`: false, `{"a":"\`: false, `{"a":"\u+123"}`: false,
		nested(strict.MaxDepth): true, nested(strict.MaxDepth + 1): false,
		`{"a":"` + strings.Repeat("[{", 99) + `"}`: true, `{"a":[` + strings.Repeat("[],", 99) + `1]}`: true,
		`{"a":` + strings.Repeat("[", 1_000_000): false,
	} {
		if fields, ok := strict.Object([]byte(text)); ok != want || !ok && fields != nil {
			t.Errorf("%.80s: %v", text, ok)
		}
	}
	fields, _ := strict.Object([]byte(`{"a":1, "\u0061" : [ 2 ] ,"A":3}`))
	for name, want := range map[string]string{"a": "[ 2 ]", "A": "3"} {
		if raw, there := fields.Get(name); !there || string(raw) != want {
			t.Errorf("%s is %s", name, raw)
		}
	}
	if raw, there := fields.Get("b"); there || raw != nil {
		t.Errorf("b is %s", raw)
	}
}

func TestValues(t *testing.T) {
	for _, raw := range []string{`null`, `true`, `"a"`, `1`, `[]`, `{}`} {
		_, isText := strict.Text(json.RawMessage(raw))
		_, isInt := strict.Int(json.RawMessage(raw))
		_, isList := strict.List(json.RawMessage(raw))
		_, isObject := strict.Object([]byte(raw))
		got := map[string]bool{`"a"`: isText, `1`: isInt, `[]`: isList, `{}`: isObject}
		for of, ok := range got {
			if ok != (of == raw) {
				t.Errorf("%s is read as if it were %s", raw, of)
			}
		}
	}
	if _, ok := strict.Text(nil); ok {
		t.Error("nothing is a text")
	}
	for raw, want := range map[string]int64{
		`0`: 0, `-0`: 0, `-0.0`: 0, `1e3`: 1000, `1000.0`: 1000, `10E-1`: 1, `1e-400`: 0, `-5`: -5,
		`9007199254740991`: 1<<53 - 1, `-9007199254740991`: 1 - 1<<53, `9007199254740990.9999`: 1<<53 - 1,
	} {
		if got, ok := strict.Int(json.RawMessage(raw)); !ok || got != want {
			t.Errorf("%s is %d, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{`0.5`, `1e-5`, `1e400`, `-1e400`, `9007199254740992`, `9007199254740993`, `-9007199254740992`, `1e300`} {
		if got, ok := strict.Int(json.RawMessage(raw)); ok {
			t.Errorf("%s is %d", raw, got)
		}
	}
}

// What is looked at eight bytes at a time is looked at each byte.
func TestEveryByteOfAStringCounts(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for char := range 256 {
				inner := bytes.Repeat([]byte("a\x7f~! \xc3\xbc"), 3)[:length]
				inner[at] = byte(char)
				text := slices.Concat([]byte(`{"a":"`), inner, []byte(`"}`))
				if _, ok := strict.Object(text); ok != json.Valid(text) && utf8.Valid(text) || ok && !utf8.Valid(text) {
					t.Errorf("%q is an object: %v", text, ok)
				}
			}
		}
	}
}

func TestHex(t *testing.T) {
	for digits, want := range map[string]bool{
		"00ff": true, "19af": true, "": false, "00f": false, "00fff": false, "00fF": false, "00fg": false, "g0ff": false, "00f/": false, "00f:": false, "00f`": false, "00f@": false, " 0ff": false, "00\xfff": false, "00f\xff": false, "\x80\x80\xff\xfe": false,
	} {
		var text, slice [2]byte
		if ok := strict.Hex(text[:], digits); ok != want {
			t.Errorf("%q is hex: %v", digits, ok)
		}
		if ok := strict.Hex(slice[:], []byte(digits)); ok != want || slice != text {
			t.Errorf("%q is hex as bytes: %v, %x", digits, ok, slice)
		}
		if want && hex.EncodeToString(text[:]) != digits {
			t.Errorf("%q is decoded to %x", digits, text)
		}
	}
	if !strict.Hex(nil, "") {
		t.Error("nothing is no hex")
	}
}

func TestEncode(t *testing.T) {
	for text, want := range map[string]string{
		"":                            `""`,
		"<&>\u2028\u2029\u007fä😀/":    "\"<&>\u2028\u2029\u007fä😀/\"",
		"\"\\\b\f\n\r\t\x00\x1f":      `"\"\\\b\f\n\r\t\u0000\u001f"`,
		`\u2028 \\u2028` + "\\\u2028": "\"\\\\u2028 \\\\\\\\u2028\\\\\u2028\"",
	} {
		if got := string(strict.Encode(text)); got != want {
			t.Errorf("%q becomes %s instead of %s", text, got, want)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var text string
		for range random.IntN(20) {
			text += string([]rune{'\\', 'u', '2', '0', '8', '9', '"', '\u2028', '\u2029', '\n', rune(random.IntN(0xd800))}[random.IntN(11)])
		}
		encoded := strict.Encode(map[string]string{text: text})
		var again map[string]string
		if err := json.Unmarshal(encoded, &again); err != nil || again[text] != text {
			t.Fatalf("%q became %s, %v", text, encoded, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("what cannot be encoded was")
		}
	}()
	strict.Encode(math.NaN())
}

func TestClip(t *testing.T) {
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aä", 2, "a"}, {"aä", 3, "aä"}, {"a😀", 4, "a"}, {"ä", 0, ""},
		{"a\xffb", 9, "a\uFFFDb"}, {"a\xffb", 4, "a\uFFFD"}, {"a\xff", 3, "a"},
	} {
		if got := strict.Clip(test.text, test.limit); got != test.want || !utf8.ValidString(got) {
			t.Errorf("%q at %d is %q", test.text, test.limit, got)
		}
	}
}

// awkward are texts with all that must be escaped, and all that must not.
var awkward = []string{
	"", "plain", `"quoted" \ back`, "\x00\x01\b\f\n\r\t\x0b\x1f\x7f", "\u2028\u2029", "äöü 𝄞 <&>", "\xff", "a\xc3", strings.Repeat("\"", 1000),
}

func TestAppendTextWritesAsEncodeDoes(t *testing.T) {
	for _, text := range awkward {
		want := string(strict.Encode(text))
		if got := string(strict.AppendText([]byte("x"), text)); got != "x"+want {
			t.Errorf("%q: %s instead of %s", text, got, want)
		}
	}
}

func FuzzAppendText(f *testing.F) {
	for _, text := range awkward {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := strict.Encode(text)
		if got := strict.AppendText(nil, text); !bytes.Equal(got, want) {
			t.Errorf("%q: %s instead of %s", text, got, want)
		}
		raw := json.RawMessage(want)
		var usual string
		if err := json.Unmarshal(raw, &usual); err != nil {
			t.Fatal(err)
		}
		if got, ok := strict.Text(raw); !ok || got != usual {
			t.Errorf("%s is read as %q, %v", want, got, ok)
		}
	})
}

// wellFormed is what the rules demand beyond JSON: the depth, and escaped surrogates in pairs.
func wellFormed(text []byte) bool {
	escape := regexp.MustCompile(`^(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?:[0-9abcefABCEF]...|[dD][0-7]..)|\\[^u])`)
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			length := len(escape.Find(text[i:]))
			if length == 0 {
				return false
			}
			i += length - 1
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > strict.MaxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

// FuzzObject holds what is taken for an object, and what for its fields, to encoding/json.
func FuzzObject(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, "\n{\t\"a\" :\r[1, {\"b\":\"]}\\\"\"}] , \"c\":null}", `{"a":"\\","b":"\"}"}`, `{"a":1,"a":2,"\u0061":3}`,
		`{"":{"":""}}`, `null`, `[]`, `"a"`, `{"a":}`, `{"a"}`, `{"a":1,}`, `{"a":-1.5e3,"b":true}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1}x`,
		`{"a":[1,]}`, `{"a":[,1]}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":.1}`, `{"a":1e}`, `{"a":1e+}`, `{"a":1E-01}`, `{"a":tru}`, `{"a":nulll}`, `{,}`, `{"a":1 "b":2}`,
		`{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":"\uD83d\uDe00"}`, "{\"a\":\"\t\"}", `{"a":"`, `{"a`, `{`, `{"a":[`, `{"a":[[]`, `{a:1}`, `{1:1}`, `{"a":1}}`, `{"a":+1}`,
		`{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}`, `{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]json.RawMessage
		valid := utf8.Valid(text) && json.Unmarshal(text, &want) == nil && want != nil && wellFormed(text)
		fields, ok := strict.Object(bytes.Clone(text))
		if ok != valid {
			t.Fatalf("%q is an object: %v instead of %v", text, ok, valid)
		}
		if !ok {
			return
		}
		for name, value := range want {
			if got, there := fields.Get(name); !there || !bytes.Equal(got, value) {
				t.Errorf("%q has %q as %q instead of %q", text, name, got, value)
			}
			var list []json.RawMessage
			isList := value[0] == '[' && json.Unmarshal(value, &list) == nil
			if got, ok := strict.List(value); ok != isList || !slices.EqualFunc(got, list, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
				t.Errorf("%q is the list %q, %v", value, got, ok)
			}
		}
	})
}

// FuzzShortest holds what counts as the shortest form of a text to what that form is.
func FuzzShortest(f *testing.F) {
	for _, text := range []string{`""`, `"a"`, `"\n"`, `"\u000a"`, `"\u0001"`, `"\u001F"`, `"\u001f"`, `"\/"`, `"\u0041"`, `"\\u0041"`, `"\ud83d\ude00"`, `"ä"`, `"\"\\\b\f\r\t"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fields, _ := strict.Object(slices.Concat([]byte(`{"a":`), raw, []byte("}")))
		raw, _ = fields.Get("a")
		text, ok := strict.Text(raw)
		if !ok {
			return
		}
		want := bytes.Equal(strict.Encode(text), raw)
		if length, ok := strict.Shortest(raw); ok != want || ok && length != len(text) {
			t.Errorf("%s is the shortest form: %v instead of %v, of %d bytes instead of %d", raw, ok, want, length, len(text))
		}
	})
}
