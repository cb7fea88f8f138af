package plan

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// reader collects what is wrong with a lab file.
type reader struct {
	file  string
	lines lines
	wrong Errors
}

func (r *reader) fail(path string, code Code, format string, values ...any) {
	r.wrong = append(r.wrong, &Error{code, r.file, r.lines.of(path), fmt.Sprintf(format, values...)})
}

// table is one table of the file, of which keys are taken one after the other. What is wrong with a
// value is told, and its default taken in its place, so that reading goes on.
type table struct {
	*reader
	path  string // "host[2]"
	title string // for people: `host "m1"`
	keys  map[string]any
	taken map[string]bool
}

func (r *reader) table(path, title string, keys map[string]any) *table {
	return &table{r, path, title, keys, make(map[string]bool)}
}

// wrongKey tells what is wrong with the value of a key.
func (t *table) wrongKey(key string, code Code, format string, values ...any) {
	where := t.title
	if where != "" {
		where += ": "
	}
	t.fail(join(t.path, key), code, "%s%s", where, fmt.Sprintf(format, values...))
}

// has reports whether a key is there.
func (t *table) has(key string) bool { return t.keys[key] != nil }

// take returns the value of a key in its type; ok is false where there is none, or one of another type.
func take[T any](t *table, key, kind string) (value T, ok bool) {
	t.taken[key] = true
	raw, there := t.keys[key]
	if !there {
		return value, false
	}
	if value, ok = raw.(T); !ok {
		t.wrongKey(key, CodeWrongType, "%s must be %s", key, kind)
	}
	return value, ok
}

func (t *table) text(key, usual string) string {
	if value, ok := take[string](t, key, `a text, as "it"`); ok {
		return value
	}
	return usual
}

// need is a text that must be there.
func (t *table) need(key string) string {
	if _, there := t.keys[key]; !there {
		t.taken[key] = true
		t.wrongKey(key, CodeMissing, "%s is missing", key)
		return ""
	}
	return t.text(key, "")
}

func (t *table) flag(key string, usual bool) bool {
	if value, ok := take[bool](t, key, "true or false"); ok {
		return value
	}
	return usual
}

func (t *table) number(key string, usual, least, most int64) int64 {
	value, ok := take[int64](t, key, "a whole number")
	if !ok {
		return usual
	}
	if value < least || value > most {
		t.wrongKey(key, CodeRange, "%s must be %d to %d, and is %d", key, least, most, value)
		return usual
	}
	return value
}

// share is a number from 0 to 1.
func (t *table) share(key string, usual float64) float64 {
	if whole, is := t.keys[key].(int64); is {
		t.keys[key] = float64(whole) // 0 and 1 are written without a point
	}
	value, ok := take[float64](t, key, "a number from 0 to 1")
	if !ok {
		return usual
	}
	if math.IsNaN(value) || value < 0 || value > 1 {
		t.wrongKey(key, CodeRange, "%s must be 0 to 1, and is %v", key, value)
		return usual
	}
	return value
}

func (t *table) time(key string, usual, least, most time.Duration) time.Duration {
	text, ok := take[string](t, key, `a time, as "12.5ms"`)
	if !ok {
		return usual
	}
	value, err := time.ParseDuration(text)
	switch {
	case err != nil:
		t.wrongKey(key, CodeBadTime, "%s must be a time, as \"12.5ms\", and is %q", key, text)
	case value < least || value > most:
		t.wrongKey(key, CodeRange, "%s must be %v to %v, and is %v", key, least, most, value)
	default:
		return value
	}
	return usual
}

// rate is in bits per second.
func (t *table) rate(key string, usual int64) int64 {
	return t.unit(key, rates, CodeBadRate, `a rate, as "100mbit"`, usual, minRate, maxRate)
}

// size is in bytes.
func (t *table) size(key string, usual, least, most int64) int64 {
	return t.unit(key, sizes, CodeBadSize, `a size, as "200KB"`, usual, least, most)
}

func (t *table) unit(key string, units units, code Code, kind string, usual, least, most int64) int64 {
	text, ok := take[string](t, key, kind)
	if !ok {
		return usual
	}
	value, is := units.parse(text)
	switch {
	case !is:
		t.wrongKey(key, code, "%s must be %s, and is %q", key, kind, text)
	case value < float64(least) || value > float64(most):
		t.wrongKey(key, CodeRange, "%s must be %s to %s, and is %s", key, units.write(float64(least)), units.write(float64(most)), text)
	default:
		return int64(value)
	}
	return usual
}

// choice is one of some texts, the first of which is the usual one.
func choice[T ~string](t *table, key string, choices ...T) T {
	value := T(t.text(key, string(choices[0])))
	if !slices.Contains(choices, value) {
		var names []string
		for _, c := range choices {
			names = append(names, fmt.Sprintf("%q", c))
		}
		t.wrongKey(key, CodeBadChoice, "%s must be %s, and is %q", key, strings.Join(names, ", "), value)
		return choices[0]
	}
	return value
}

func (t *table) texts(key string) (values []string) {
	list, ok := take[[]any](t, key, `a list of texts, as ["m1", "m2"]`)
	if !ok {
		return nil
	}
	for _, item := range list {
		value, is := item.(string)
		if !is {
			t.wrongKey(key, CodeWrongType, "%s must be a list of texts", key)
			return nil
		}
		values = append(values, value)
	}
	return values
}

// end tells of the keys that nobody took.
func (t *table) end() {
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		if !t.taken[key] {
			t.wrongKey(key, CodeUnknownKey, "the key %q means nothing here%s", key, t.meant(key))
		}
	}
}

// meant suggests the key that somebody may have meant.
func (t *table) meant(wrong string) string {
	for _, key := range slices.Sorted(maps.Keys(t.taken)) {
		if !t.has(key) && near(strings.ToLower(wrong), key) {
			return fmt.Sprintf("; is it %q?", key)
		}
	}
	return ""
}

// near reports whether two words differ by one letter that is missing, too many or another, or by two that are exchanged.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	if i == len(a) || a[i+1:] == b[i+1:] {
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
