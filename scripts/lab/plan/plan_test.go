package plan

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"p2pcdn/common/timeline"
)

const whole = `
name = "two"
seed = 7

[link.default]
delay = "12.5ms"
rate = "100mbit"

[link.dsl]
jitter = "2ms"
loss = 0.01
up = "10mbit"
queue = "64KiB"
reorder = true

[[host]]
name = "m1"
mediator = true
args = ["--turn"]

[[host]]
name = "m2"
mediator = true
bootstrap = ["m1"]

[[host]]
name = "seeder"

[[host]]
name = "leecher"
link = "dsl"
nat = "symmetric"

[[run]]
name = "round-trips"
what = "ping"
n = 3

[[run]]
name = "cold"
what = "go"
seeder = "seeder"
leecher = "leecher"
mediators = ["m1", "m2"]
n = 30
contents = 2
size = "200KB"
piece_length = "32KiB"
timeout = "10s"
kill = "m2"
kill_after = "2s"

[[run]]
name = "other"
what = "webtorrent"
seeder = "seeder"
leecher = "leecher"
mediators = ["m1"]
browser = "firefox"
mdns = true
stun = false
fresh = true
expect = "any"

[[must]]
what = "cold, first byte"
run = "cold"
at_most = "1s"
moonshot = "600ms"

[[must]]
what = "second content"
run = "cold"
content = 2
to = "complete"
at_most = "0.5x"
against = "other"
`

// dsl is the link of that name in it.
var dsl = Link{"dsl", 12500 * time.Microsecond, 2 * time.Millisecond, 0.01, 10_000_000, 100_000_000, 64 << 10, true}

func TestAWholeFile(t *testing.T) {
	p, err := Parse("folder/two.toml", whole)
	if err != nil {
		t.Fatal(err)
	}
	usual := Link{Name: "default", Delay: 12500 * time.Microsecond, Up: 100_000_000, Down: 100_000_000}
	want := &Plan{
		Name: "two", Seed: 7,
		Hosts: []Host{
			{"m1", usual, NoNAT, &Mediator{nil, []string{"--turn"}}},
			{"m2", usual, NoNAT, &Mediator{[]string{"m1"}, nil}},
			{"seeder", usual, NoNAT, nil},
			{"leecher", dsl, Symmetric, nil},
		},
		Runs: []Run{
			{Name: "round-trips", What: Ping, N: 3},
			{
				Name: "cold", What: Go, Seeder: "seeder", Leecher: "leecher", Mediators: []string{"m1", "m2"}, N: 30, Contents: 2, Size: 200_000, Piece: 32 << 10,
				Flow: timeline.Fast, STUN: true, Timeout: 10 * time.Second, Kill: "m2", KillAfter: 2 * time.Second, Expect: ExpectComplete,
			},
			{
				Name: "other", What: WebTorrent, Seeder: "seeder", Leecher: "leecher", Mediators: []string{"m1"}, N: 1, Contents: 1, Size: 200_000,
				Flow: timeline.WebTorrent, Browser: timeline.Firefox, MDNS: true, Fresh: true, Timeout: 30 * time.Second, Expect: ExpectAny,
			},
		},
		Musts: []Must{
			{"cold, first byte", "cold", 1, timeline.MediatorOpen, timeline.FirstPiece, "", Bound{1000, Milliseconds}, &Bound{600, Milliseconds}},
			{"second content", "cold", 2, timeline.Started, timeline.Complete, "other", Bound{0.5, Ratio}, nil},
		},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("read:\n%+v\nand not\n%+v", p, want)
	}
	if got := p.RoundTrip("seeder", "leecher"); got != 50*time.Millisecond {
		t.Errorf("the round trip is %v", got)
	}
	var text bytes.Buffer
	if err := p.Describe(&text); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"two, seed 7", "a mediator that joins m1", "10mbit", "symmetric", "50ms", "the mediator of m2 is killed after 2s", "0.5 × of other"} {
		if !strings.Contains(text.String(), what) {
			t.Errorf("the description does not say %q:\n%s", what, &text)
		}
	}
}

// The names of the cuts are those that the peer has.
func TestCuts(t *testing.T) {
	source, err := os.ReadFile("../../../peer/client/cuts.go")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, match := range regexp.MustCompile(`(?m)^\tCut\w+ +Cut = "(.+)"`).FindAllSubmatch(source, -1) {
		named = append(named, string(match[1]))
	}
	if !slices.Equal(cuts, named) {
		t.Errorf("a lab file takes %q, and a peer %q", cuts, named)
	}
}

func TestWithoutLinksAndNames(t *testing.T) {
	p, err := Parse("folder/some.toml", "[[host]]\nname = \"a\"\n[[run]]\nname = \"r\"\nwhat = \"ping\"")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "some" || p.Seed != 1 || p.Hosts[0].Link.Up != 1_000_000_000 || p.Hosts[0].Link.Delay != 0 {
		t.Errorf("read: %+v", p)
	}
}

func TestTheLabFilesOfThisFolderAreRight(t *testing.T) {
	files, err := filepath.Glob("../*.toml")
	if err != nil || len(files) < 3 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(file, string(text)); err != nil {
			t.Error(err)
		}
	}
}

// Each change makes one thing of the whole file wrong.
func TestWhatIsWrongIsToldWithItsLine(t *testing.T) {
	for _, test := range []struct {
		name     string
		old, new string
		at       string // a text of the line that is told
		code     Code
		says     string
	}{
		{"syntax", "seed = 7", "seed = = 7", "seed = =", CodeSyntax, ""},
		{"the same key twice", "seed = 7", "seed = 7\nseed = 8", "seed = 8", CodeSyntax, "seed"},
		{"unknown key", "seed = 7", "sed = 7", "sed = 7", CodeUnknownKey, `is it "seed"?`},
		{"unknown key of a link", "reorder", "reoder", "reoder", CodeUnknownKey, `link "dsl": the key "reoder"`},
		{"unknown key of a host", "nat =", "Nat =", "Nat =", CodeUnknownKey, `host "leecher": the key "Nat" means nothing here; is it "nat"?`},
		{"unknown key of a run", "expect =", "expected =", "expected =", CodeUnknownKey, `run "other"`},
		{"a key of another kind of run", "n = 3", "n = 3\nsize = \"3B\"", "size = \"3B\"", CodeUnknownKey, "size"},
		{"unknown key of a must", "moonshot", "moonshine", "moonshine", CodeUnknownKey, `must "cold, first byte"`},
		{"unknown table", "[[must]]\nwhat = \"cold, first byte\"", "[[most]]\nwhat = \"cold, first byte\"", "[[most]]", CodeUnknownKey, ""},
		{"seed of another type", "seed = 7", `seed = "7"`, "seed =", CodeWrongType, "a whole number"},
		{"negative seed", "seed = 7", "seed = -7", "seed =", CodeRange, "-7"},
		{"delay without a unit", `delay = "12.5ms"`, `delay = "12.5"`, "delay =", CodeBadTime, `"12.5"`},
		{"delay as a number", `delay = "12.5ms"`, "delay = 12.5", "delay =", CodeWrongType, `as "12.5ms"`},
		{"negative delay", `delay = "12.5ms"`, `delay = "-1ms"`, "delay =", CodeRange, "-1ms"},
		{"long delay", `delay = "12.5ms"`, `delay = "1h"`, "delay =", CodeRange, "10s"},
		{"loss in percent", "loss = 0.01", "loss = 1.5", "loss =", CodeRange, "0 to 1"},
		{"rate without a unit", `rate = "100mbit"`, `rate = "100"`, "rate =", CodeBadRate, "100mbit"},
		{"rate of nothing", `up = "10mbit"`, `up = "0mbit"`, "up =", CodeRange, "8kbit"},
		{"queue", `queue = "64KiB"`, `queue = "64 apples"`, "queue =", CodeBadSize, "apples"},
		{"a link that is no table", "[link.dsl]", "[link]\nother = 3\n[link.dsl]", "other = 3", CodeWrongType, "[link.other]"},
		{"name of a link", "[link.dsl]", "[link.DSL]", "[link.DSL]", CodeBadName, "DSL"},
		{"unknown link", `link = "dsl"`, `link = "fibre"`, `link = "fibre"`, CodeReference, "[link.fibre]"},
		{"name of a host", `name = "seeder"`, `name = "Seeder!"`, `name = "Seeder!"`, CodeBadName, ""},
		{"no name", `name = "seeder"`, "", "[[host]]\n", CodeMissing, "a host: name is missing"},
		{"duplicate host", `name = "leecher"`, `name = "seeder"`, "name = \"seeder\"\nlink", CodeDuplicate, `host "seeder"`},
		{"the name of a NAT before it", `name = "seeder"`, `name = "leecher-nat"`, "name = \"leecher\"\nlink", CodeDuplicate, "NAT"},
		{"the name of a NAT behind it", "[[run]]", "[[host]]\nname = \"leecher-nat\"\n[[run]]", `name = "leecher-nat"`, CodeDuplicate, "NAT"},
		{"unknown NAT", `"symmetric"`, `"conic"`, "nat =", CodeBadChoice, `"udp-blocked"`},
		{"mediator behind a NAT", `args = ["--turn"]`, `nat = "cone"`, "nat = \"cone\"", CodeConflict, "behind a NAT"},
		{"bootstrap of nobody", `bootstrap = ["m1"]`, `bootstrap = ["m9"]`, "bootstrap =", CodeReference, `"m9"`},
		{"bootstrap that is none", `bootstrap = ["m1"]`, `bootstrap = ["seeder"]`, "bootstrap =", CodeReference, "no mediator"},
		{"bootstrap of itself", `bootstrap = ["m1"]`, `bootstrap = ["m2"]`, "bootstrap =", CodeConflict, "itself"},
		{"bootstrap without a mediator", "nat = \"sym", "bootstrap = [\"m1\"]\nnat = \"sym", "bootstrap = [\"m1\"]\nnat", CodeConflict, "mediator = true"},
		{"a list of numbers", `args = ["--turn"]`, "args = [1]", "args =", CodeWrongType, "texts"},
		{"a flag of the lab's own", `args = ["--turn"]`, `args = ["--data-dir=/tmp"]`, "args =", CodeConflict, "--data-dir"},
		{"name of a run", `name = "cold"`, `name = "COLD"`, `name = "COLD"`, CodeBadName, ""},
		{"duplicate run", `name = "other"`, `name = "round-trips"`, "name = \"round-trips\"\nwhat = \"web", CodeDuplicate, ""},
		{"unknown kind", `what = "go"`, `what = "rust"`, "what = \"rust\"", CodeBadChoice, "rust"},
		{"no kind", "what = \"go\"\n", "", "[[run]]\nname = \"cold\"", CodeMissing, `run "cold": what is missing`},
		{"n", "n = 30", "n = 0", "n = 0", CodeRange, ""},
		{"unknown host", `seeder = "seeder"`, `seeder = "sender"`, `seeder = "sender"`, CodeReference, `"sender"`},
		{"peers where a mediator is", `seeder = "seeder"`, `seeder = "m1"`, `seeder = "m1"`, CodeConflict, ""},
		{"both on one host", `leecher = "leecher"`, `leecher = "seeder"`, `leecher = "seeder"`, CodeConflict, ""},
		{"unknown mediator", `["m1", "m2"]`, `["m1", "m9"]`, "mediators =", CodeReference, "m9"},
		{"no mediator", `["m1", "m2"]`, `["m1", "seeder"]`, "mediators =", CodeReference, "no mediator"},
		{"no mediators", `["m1", "m2"]`, `[]`, "mediators =", CodeMissing, ""},
		{"twice the same", `["m1", "m2"]`, `["m1", "m1"]`, "mediators =", CodeDuplicate, ""},
		{"what is no cut", "size = ", "without = [\"offers\"]\nsize = ", "without =", CodeBadChoice, "pipelining, offer, "},
		{"cuts of the prototype", "size = ", "flow = \"prototype\"\nwithout = [\"offer\"]\nsize = ", "without =", CodeConflict, "flow"},
		{"unknown flow", "size = ", "flow = \"slow\"\nsize = ", "flow =", CodeBadChoice, "slow"},
		{"size", `size = "200KB"`, `size = "big"`, "size =", CodeBadSize, "big"},
		{"a piece length of any number", `piece_length = "32KiB"`, `piece_length = "20KB"`, "piece_length =", CodeRange, "power of two"},
		{"pieces that are too short", `piece_length = "32KiB"`, `piece_length = "8KiB"`, "piece_length =", CodeRange, "16384"},
		{"all contents are too large", `size = "200KB"`, `size = "64MB"`, "size =", CodeRange, "together"},
		{"timeout", `timeout = "10s"`, `timeout = "1ms"`, "timeout =", CodeRange, ""},
		{"kill nobody", `kill = "m2"`, `kill = "seeder"`, "kill =", CodeReference, ""},
		{"kill without whom", `kill = "m2"`, "", "kill_after", CodeConflict, ""},
		{"kill one that is back at once", `kill = "m2"`, "fresh = true\nkill = \"m2\"", "kill =", CodeConflict, "fresh"},
		{"a second content by WebTorrent", "stun = false", "contents = 2", "contents = 2\nf", CodeConflict, "WebTorrent"},
		{"flags of Firefox", `browser = "firefox"`, "browser = \"firefox\"\nbrowser_flags = [\"--a\"]", "browser_flags", CodeConflict, "Chromium"},
		{"two trackers", `mediators = ["m1"]`, `mediators = ["m1", "m2"]`, "mediators = [\"m1\", \"m2\"]\nbrowser", CodeConflict, "trackers"},
		{"expectation", `"any"`, `"none"`, "expect =", CodeBadChoice, ""},
		{"must of nothing", "run = \"cold\"\nat", "run = \"hot\"\nat", "run = \"hot\"", CodeReference, "hot"},
		{"must of a ping", "run = \"cold\"\nat", "run = \"round-trips\"\nat", "run = \"round", CodeConflict, ""},
		{"content that there is not", "content = 2", "content = 3", "content =", CodeConflict, ""},
		{"phase", `to = "complete"`, `to = "done"`, "to =", CodeBadChoice, "done"},
		{"no time between", `to = "complete"`, `to = "started"`, "to =", CodeConflict, ""},
		{"bound", `at_most = "1s"`, `at_most = "fast"`, `at_most = "fast"`, CodeBadBound, "fast"},
		{"bound of nothing", `at_most = "1s"`, `at_most = "0rtt"`, `at_most = "0rtt"`, CodeBadBound, ""},
		{"bounds of two units", `moonshot = "600ms"`, `moonshot = "11rtt"`, "moonshot =", CodeConflict, "unit"},
		{"ratio to nothing", `at_most = "1s"`, `at_most = "0.5x"`, "at_most =", CodeConflict, "against"},
		{"against, and no ratio", `at_most = "0.5x"`, `at_most = "1s"`, "at_most = \"1s\"\nag", CodeConflict, "ratio"},
		{"against nothing", `against = "other"`, `against = "none"`, "against =", CodeReference, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(whole, test.old, test.new, 1)
			if text == whole {
				t.Fatal("nothing changed")
			}
			p, err := Parse("lab.toml", text)
			var wrong Errors
			if !errors.As(err, &wrong) || p != nil {
				t.Fatalf("read: %+v, %v", p, err)
			}
			i := slices.IndexFunc(wrong, func(e *Error) bool { return e.Code == test.code && strings.Contains(e.Message, test.says) })
			if i < 0 {
				t.Fatalf("told: %v", err)
			}
			from := 0
			if test.name == "no name" { // the third host
				from = strings.Index(text, "m2")
			}
			want := 1 + strings.Count(text[:from+strings.Index(text[from:], test.at)], "\n")
			if wrong[i].Line != want || !strings.HasPrefix(wrong[i].Error(), "lab.toml:") {
				t.Errorf("told: %v, and it is line %d", wrong[i], want)
			}
		})
	}
}

func TestEverythingThatIsWrongIsToldInTheOrderOfTheLines(t *testing.T) {
	_, err := Parse("lab.toml", strings.NewReplacer(`delay = "12.5ms"`, `delay = "soon"`, "loss = 0.01", "loss = 2", "n = 30", "n = 3000", `"m1", "m2"`, `"m8"`).Replace(whole))
	var wrong Errors
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	var codes []Code
	for i, e := range wrong {
		codes = append(codes, e.Code)
		if i > 0 && e.Line < wrong[i-1].Line {
			t.Errorf("not in order: %v", err)
		}
	}
	if !slices.Equal(codes, []Code{CodeBadTime, CodeRange, CodeReference, CodeRange}) {
		t.Errorf("told: %v", err)
	}
}

func TestWhatIsMissingAltogether(t *testing.T) {
	_, err := Parse("lab.toml", "")
	var wrong Errors
	if !errors.As(err, &wrong) || len(wrong) != 2 || wrong[0].Code != CodeMissing || wrong[1].Code != CodeMissing {
		t.Errorf("told: %v", err)
	}
	if _, err := Parse("lab.toml", strings.Repeat("#", MaxFile+1)); !errors.As(err, &wrong) || wrong[0].Code != CodeTooLarge {
		t.Errorf("told: %v", err)
	}
	many := whole + strings.Repeat("[[host]]\nname = \"a\"\n", MaxHosts)
	if _, err := Parse("lab.toml", many); !errors.As(err, &wrong) || !slices.ContainsFunc(wrong, func(e *Error) bool { return e.Code == CodeTooMany }) {
		t.Errorf("told: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("[link]\ndefault = 3")
	f.Add("host = [1]")
	f.Add("[[host]]\n[host.link]\n[[run]]\nwhat=[]")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("lab.toml", text)
		if err == nil {
			if err := p.Describe(&bytes.Buffer{}); err != nil {
				t.Fatal(err)
			}
			return
		}
		var wrong Errors
		if !errors.As(err, &wrong) || len(wrong) == 0 {
			t.Fatalf("an error that says nothing: %v", err)
		}
	})
}
