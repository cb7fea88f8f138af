package plan

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// units are what may stand behind a number, and what it is multiplied by; without regard to case.
type units []struct {
	name   string
	factor float64
}

var (
	rates = units{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}
	sizes = units{
		{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
	}
)

// parse reads a number with its unit. The longer units come first, since the others are their ends.
func (u units) parse(text string) (value float64, is bool) {
	for _, unit := range u {
		if cut := len(text) - len(unit.name); cut > 0 && strings.EqualFold(text[cut:], unit.name) {
			value, is := decimal(strings.TrimSpace(text[:cut]))
			return value * unit.factor, is
		}
	}
	return 0, false
}

// write is the number with the largest unit of which it is a whole multiple, or else that leaves it at least 1.
func (u units) write(value float64) string {
	for _, unit := range u {
		if value >= unit.factor && math.Mod(value, unit.factor) == 0 {
			return strconv.FormatFloat(value/unit.factor, 'f', -1, 64) + unit.name
		}
	}
	for _, unit := range u {
		if value >= unit.factor {
			return strconv.FormatFloat(value/unit.factor, 'f', -1, 64) + unit.name
		}
	}
	return "0" + u[len(u)-1].name
}

// decimal reads digits with at most one point in them: no sign, no exponent, no infinity.
func decimal(text string) (value float64, is bool) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	value, err := strconv.ParseFloat(text, 64)
	return value, err == nil
}

// parseBound reads a limit: 11rtt, 0.5x, or a time.
func parseBound(text string) (Bound, bool) {
	for _, unit := range []Unit{RoundTrips, Ratio} {
		if number, found := strings.CutSuffix(text, string(unit)); found {
			value, is := decimal(strings.TrimSpace(number))
			return Bound{value, unit}, is && value > 0
		}
	}
	d, err := time.ParseDuration(text)
	return Bound{float64(d) / float64(time.Millisecond), Milliseconds}, err == nil && d > 0
}

// String returns the bound as people write it.
func (b Bound) String() string {
	number := strconv.FormatFloat(b.Value, 'f', -1, 64)
	switch b.Unit {
	case Milliseconds:
		return time.Duration(b.Value * float64(time.Millisecond)).String()
	case RoundTrips:
		return number + " round trips"
	}
	return fmt.Sprintf("%s ×", number)
}
