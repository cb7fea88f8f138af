package timeline

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Schema is the version of the table that this package writes, and the newest that it reads.
const Schema = 1

// Limits of the table.
const (
	MaxText    = 1024     // bytes of scenario and of error: a line or two on a screen
	MaxCode    = 64       // bytes of error_code
	MaxRow     = 64 << 10 // bytes of a row; the texts with every byte of them doubled, and columns of later versions, fit ten times
	MaxColumns = 256      // fields of a row
	MaxRows    = 100_000  // of a table: a measurement each second, for a day

	// MaxNumber bounds every number: the integers up to it are exact in every language.
	MaxNumber = 1<<53 - 1

	// MaxStamp bounds a stamp: seven digits and three decimals, some hours.
	MaxStamp = 9_999_999_999 * time.Microsecond

	maxPeer = 40 // hex digits of a whole id
)

// Flow is by which protocol flow the peers came together.
type Flow string

// The flows.
const (
	Fast       Flow = "fast"       // that of this project
	Prototype  Flow = "prototype"  // that of the prototype before it
	WebTorrent Flow = "webtorrent" // WebTorrent's, by a tracker
)

// Endpoint is what a peer runs in.
type Endpoint string

// The endpoints.
const (
	Go       Endpoint = "go"
	Chromium Endpoint = "chromium"
	Firefox  Endpoint = "firefox"
)

// Role is which side of an introduction a row is about.
type Role string

// The roles.
const (
	Leecher Role = "leecher"
	Seeder  Role = "seeder"
)

// Outcome is how it ended.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "complete"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // it was not tried: an earlier one failed, or whoever measures ended the run
)

// Row is one row of the table; the package comment says what each field holds.
type Row struct {
	Scenario     string   `json:"scenario"`
	Seed         uint64   `json:"seed"`
	Index        int      `json:"index"`
	Flow         Flow     `json:"flow"`
	Endpoint     Endpoint `json:"endpoint"`
	Role         Role     `json:"role"`
	Mediators    int      `json:"mediators"`
	ContentBytes int64    `json:"content_bytes"`
	Content      int      `json:"content"`
	Peer         string   `json:"peer"`
	Outcome      Outcome  `json:"outcome"`
	ErrorCode    string   `json:"error_code"`
	Error        string   `json:"error"`
	Stamps       Stamps   `json:"phases"`
}

// Stamps are the phases that were reached, each as the time since started, to a microsecond. As
// JSON they are an object of milliseconds.
type Stamps map[Phase]time.Duration

// Since returns the stamps of what was reached when, as times of a monotonic clock, of the phases of the role. It leaves out
// what was reached before started, and everything where that itself is missing.
func Since(role Role, reached map[Phase]time.Time) Stamps {
	started, known := reached[Started]
	if !known {
		return nil
	}
	stamps := make(Stamps, len(reached))
	for _, phase := range Of(role) {
		at, was := reached[phase]
		if since := at.Sub(started).Round(time.Microsecond); was && since >= 0 && since <= MaxStamp {
			stamps[phase] = since
		}
	}
	return stamps
}

// MarshalJSON implements [json.Marshaler]; the phases are in their usual order.
func (s Stamps) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for _, phase := range Phases {
		if at, reached := s[phase]; reached {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = fmt.Appendf(out, "%q:%s", phase, milliseconds(at))
		}
	}
	return append(out, '}'), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Stamps) UnmarshalJSON(text []byte) error {
	var fields map[Phase]float64
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	*s = make(Stamps, len(fields))
	for phase, at := range fields {
		(*s)[phase] = time.Duration(at*1000+0.5) * time.Microsecond
	}
	return nil
}

// milliseconds writes a stamp as the table does.
func milliseconds(at time.Duration) string {
	return fmt.Sprintf("%d.%03d", at.Milliseconds(), at.Microseconds()%1000)
}

// Check says what is wrong with the row, if anything: an [*Error] about the first column that is.
func (r *Row) Check() error {
	switch {
	case !isText(r.Scenario):
		return bad("scenario", r.Scenario)
	case r.Seed > MaxNumber:
		return bad("seed", r.Seed)
	case r.Index < 1 || r.Index > MaxNumber:
		return bad("index", r.Index)
	case !slices.Contains([]Flow{Fast, Prototype, WebTorrent}, r.Flow):
		return bad("flow", r.Flow)
	case !slices.Contains([]Endpoint{Go, Chromium, Firefox}, r.Endpoint):
		return bad("endpoint", r.Endpoint)
	case r.Role != Leecher && r.Role != Seeder:
		return bad("role", r.Role)
	case r.Mediators < 1 || r.Mediators > MaxNumber:
		return bad("mediators", r.Mediators)
	case r.ContentBytes < 0 || r.ContentBytes > MaxNumber:
		return bad("content_bytes", r.ContentBytes)
	case r.Content < 1 || r.Content > MaxNumber:
		return bad("content", r.Content)
	case len(r.Peer) > maxPeer || strings.Trim(r.Peer, "0123456789abcdef") != "":
		return bad("peer", r.Peer)
	case !slices.Contains([]Outcome{Done, Failed, Skipped}, r.Outcome):
		return bad("outcome", r.Outcome)
	case (r.Outcome == Done) != (r.ErrorCode == "") || !isCode(r.ErrorCode):
		return bad("error_code", r.ErrorCode)
	case !isText(r.Error):
		return bad("error", r.Error)
	}
	for _, phase := range Phases {
		if at, reached := r.Stamps[phase]; reached && (at < 0 || at > MaxStamp || phase == Started && at != 0) {
			return bad(string(phase), at)
		}
	}
	return nil
}

func isText(text string) bool { return len(text) <= MaxText && utf8.ValidString(text) }

func isCode(code string) bool {
	return len(code) <= MaxCode && strings.Trim(code, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
