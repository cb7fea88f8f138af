package plan

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"p2pcdn/common/content"
	"p2pcdn/common/timeline"
)

// The limits of a lab.
const (
	MaxFile  = 1 << 20 // bytes of a lab file
	MaxHosts = 64      // each is a namespace, and mostly a program
	MaxLinks = 64
	MaxRuns  = 64
	MaxMusts = 64
	MaxN     = 1000 // introductions of a run
	MaxSize  = 64 << 20

	// maxTotal bounds the bytes of all contents of a run: its seeders hold them.
	maxTotal = 1 << 30

	maxContents = 10
	maxDelay    = 10 * time.Second // to the moon and back takes 2.6 s
	minRate     = 8_000            // a packet of 1500 bytes takes 1.5 s
	maxRate     = 10_000_000_000
	minQueue    = 2 << 10
	maxQueue    = 64 << 20
	maxTimeout  = 10 * time.Minute
)

var (
	nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	// hostForm leaves room for what a namespace is named by.
	hostForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,14}$`)
)

// reserved are flags of a mediator that the lab sets itself.
var reserved = []string{"--data-dir", "--public-url", "--port-map", "--listen", "--log-format"}

// cuts are what peer latency --without takes, of [p2pcdn/peer/client.Cuts], which scripts do not import.
var cuts = []string{"pipelining", "offer", "pair", "cookie", "early", "join"}

// Parse reads a lab file. The name is only told. An error is [Errors], with everything that is wrong.
func Parse(name, text string) (*Plan, error) {
	r := &reader{file: name}
	if len(text) > MaxFile {
		r.fail("", CodeTooLarge, "a lab file has at most %d bytes", MaxFile)
		return nil, r.wrong
	}
	var keys map[string]any
	if _, err := toml.Decode(text, &keys); err != nil {
		r.wrong = Errors{{CodeSyntax, name, 0, err.Error()}}
		var where toml.ParseError
		if errors.As(err, &where) {
			r.wrong[0].Line, r.wrong[0].Message = where.Position.Line, where.Message
		}
		return nil, r.wrong
	}
	r.lines = findLines(text)
	p := r.plan(keys)
	if len(r.wrong) > 0 {
		slices.SortStableFunc(r.wrong, func(a, b *Error) int { return a.Line - b.Line })
		return nil, r.wrong
	}
	return p, nil
}

func (r *reader) plan(keys map[string]any) *Plan {
	top := r.table("", "", keys)
	p := &Plan{
		Name: top.text("name", strings.TrimSuffix(filepath.Base(r.file), filepath.Ext(r.file))),
		Seed: uint64(top.number("seed", 1, 0, timeline.MaxNumber)),
	}
	links := r.links(top)
	for i, keys := range r.array(top, "host", MaxHosts) {
		p.Hosts = append(p.Hosts, r.host(fmt.Sprintf("host[%d]", i), keys, links, p))
	}
	r.bootstraps(p)
	for i, keys := range r.array(top, "run", MaxRuns) {
		p.Runs = append(p.Runs, r.run(fmt.Sprintf("run[%d]", i), keys, p))
	}
	for i, keys := range r.array(top, "must", MaxMusts) {
		p.Musts = append(p.Musts, r.must(fmt.Sprintf("must[%d]", i), keys, p))
	}
	top.end()
	if len(p.Hosts) == 0 && !top.has("host") {
		top.wrongKey("host", CodeMissing, "there is no host: each begins with [[host]]")
	}
	if len(p.Runs) == 0 && !top.has("run") {
		top.wrongKey("run", CodeMissing, "there is nothing to run: each run begins with [[run]]")
	}
	return p
}

// array returns the tables of a name.
func (r *reader) array(top *table, key string, most int) []map[string]any {
	tables, _ := take[[]map[string]any](top, key, "tables that begin with [["+key+"]]")
	if len(tables) > most {
		top.wrongKey(key, CodeTooMany, "there are %d of [[%s]], and may be %d", len(tables), key, most)
		tables = tables[:most]
	}
	return tables
}

// links reads all links. What one does not say is as in the default one, if there is one.
func (r *reader) links(top *table) map[string]Link {
	tables, _ := take[map[string]any](top, "link", "tables that begin with [link.default], and such")
	if len(tables) > MaxLinks {
		top.wrongKey("link", CodeTooMany, "there are %d links, and may be %d", len(tables), MaxLinks)
		return nil
	}
	usual := Link{Up: 1_000_000_000, Down: 1_000_000_000}
	links := make(map[string]Link, len(tables))
	read := func(name string) {
		path := "link." + name
		keys, is := tables[name].(map[string]any)
		if !is {
			r.fail(path, CodeWrongType, "%s must be a table that begins with [%s]", path, path)
			return
		}
		links[name] = r.link(path, name, keys, usual)
	}
	if _, there := tables["default"]; there {
		read("default")
		if link, is := links["default"]; is {
			usual = link
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		if name != "default" {
			read(name)
		}
	}
	return links
}

func (r *reader) link(path, name string, keys map[string]any, usual Link) Link {
	t := r.table(path, fmt.Sprintf("link %q", name), keys)
	if !nameForm.MatchString(name) {
		t.fail(path, CodeBadName, "the name of a link is lower-case letters, digits and -, and not %q", name)
	}
	link := usual
	link.Name = name
	link.Delay = t.time("delay", usual.Delay, 0, maxDelay)
	link.Jitter = t.time("jitter", usual.Jitter, 0, maxDelay)
	link.Loss = t.share("loss", usual.Loss)
	if t.has("rate") {
		link.Up = t.rate("rate", usual.Up)
		link.Down = link.Up
	}
	t.taken["rate"] = true
	link.Up, link.Down = t.rate("up", link.Up), t.rate("down", link.Down)
	link.Queue = int(t.size("queue", int64(usual.Queue), minQueue, maxQueue))
	link.Reorder = t.flag("reorder", usual.Reorder)
	t.end()
	return link
}

func (r *reader) host(path string, keys map[string]any, links map[string]Link, p *Plan) Host {
	t := r.table(path, "a host", keys)
	host := Host{Name: t.need("name")}
	if host.Name != "" {
		t.title = fmt.Sprintf("host %q", host.Name)
		if !hostForm.MatchString(host.Name) {
			t.wrongKey("name", CodeBadName, "a name is at most 15 lower-case letters, digits and -, and begins with a letter")
		}
	}
	name := t.text("link", "default")
	link, known := links[name]
	if !known && name == "default" {
		link = Link{Name: name, Up: 1_000_000_000, Down: 1_000_000_000}
	} else if !known {
		t.wrongKey("link", CodeReference, "there is no link %q: it would begin with [link.%s]", name, name)
	}
	host.Link = link
	host.NAT = choice(t, "nat", NoNAT, Cone, Symmetric, UDPBlocked)
	r.namespaces(t, host, p)
	mediator := Mediator{t.texts("bootstrap"), t.texts("args")}
	if t.flag("mediator", false) {
		host.Mediator = &mediator
		if host.NAT != NoNAT {
			t.wrongKey("nat", CodeConflict, "a mediator cannot be reached behind a NAT")
		}
	} else {
		for _, key := range []string{"bootstrap", "args"} {
			if t.has(key) {
				t.wrongKey(key, CodeConflict, "%s is for a mediator, and there is none: mediator = true", key)
			}
		}
	}
	for _, arg := range mediator.Args {
		if flag, _, _ := strings.Cut(arg, "="); slices.Contains(reserved, flag) {
			t.wrongKey("args", CodeConflict, "the lab sets %s itself", flag)
		}
	}
	t.end()
	return host
}

// namespaces checks that a host has names of its own, with that of its NAT.
func (r *reader) namespaces(t *table, host Host, p *Plan) {
	if host.Name == "" {
		return
	}
	for _, other := range p.Hosts {
		switch {
		case other.Name == host.Name:
			t.wrongKey("name", CodeDuplicate, "there is another host of this name")
		case slices.Contains(other.Namespaces(), host.Name), slices.Contains(host.Namespaces(), other.Name):
			t.wrongKey("name", CodeDuplicate, "the NAT of one of %q and %q has the name of the other", host.Name, other.Name)
		default:
			continue
		}
		return
	}
}

// bootstraps checks what mediators are told of each other, when all hosts are known.
func (r *reader) bootstraps(p *Plan) {
	for i, host := range p.Hosts {
		if host.Mediator == nil {
			continue
		}
		t := r.table(fmt.Sprintf("host[%d]", i), fmt.Sprintf("host %q", host.Name), nil)
		for _, name := range host.Mediator.Bootstrap {
			switch other := p.Host(name); {
			case name == host.Name:
				t.wrongKey("bootstrap", CodeConflict, "a mediator does not join itself")
			case other == nil:
				t.wrongKey("bootstrap", CodeReference, "there is no host %q", name)
			case other.Mediator == nil:
				t.wrongKey("bootstrap", CodeReference, "host %q has no mediator", name)
			}
		}
	}
}

func (r *reader) run(path string, keys map[string]any, p *Plan) Run {
	t := r.table(path, "a run", keys)
	run := Run{Name: t.need("name")}
	if run.Name != "" {
		t.title = fmt.Sprintf("run %q", run.Name)
		if !nameForm.MatchString(run.Name) {
			t.wrongKey("name", CodeBadName, "a name is at most 31 lower-case letters, digits and -, and begins with a letter")
		}
		if p.Run(run.Name) != nil {
			t.wrongKey("name", CodeDuplicate, "there is another run of this name")
		}
	}
	if t.need("what"); t.has("what") {
		run.What = choice(t, "what", Go, Browser, WebTorrent, Announce, Ping)
	}
	run.N = int(t.number("n", 1, 1, MaxN))
	if run.What == Ping {
		t.end()
		return run
	}
	run.Timeout = t.time("timeout", 30*time.Second, time.Second, maxTimeout)
	run.Fresh = t.flag("fresh", false)
	run.Expect = choice(t, "expect", ExpectComplete, ExpectFailed, ExpectAny)
	r.places(t, &run, p)
	if run.What != Announce {
		r.contents(t, &run)
	}
	run.Flow = timeline.Fast
	switch run.What {
	case Go:
		run.Flow = choice(t, "flow", timeline.Fast, timeline.Prototype)
		run.Without = t.texts("without")
		for _, cut := range run.Without {
			if !slices.Contains(cuts, cut) {
				t.wrongKey("without", CodeBadChoice, "%q is none of what peer latency --without takes: %s", cut, strings.Join(cuts, ", "))
			}
		}
		if len(run.Without) > 0 && run.Flow == timeline.Prototype {
			t.wrongKey("without", CodeConflict, "the flow of the prototype saves nothing that could be left out: flow must be fast")
		}
		run.STUN = true
	case Browser, WebTorrent:
		run.Browser = choice(t, "browser", timeline.Chromium, timeline.Firefox)
		run.Flags = t.texts("browser_flags")
		if len(run.Flags) > 0 && run.Browser != timeline.Chromium {
			t.wrongKey("browser_flags", CodeConflict, "flags are for Chromium alone")
		}
		run.MDNS = t.flag("mdns", false)
		run.STUN = t.flag("stun", true)
		if run.What == WebTorrent {
			run.Flow = timeline.WebTorrent
			if len(run.Mediators) > 1 {
				t.wrongKey("mediators", CodeConflict, "trackers know nothing of each other: WebTorrent's peers are at one, on the host of one mediator")
			}
			if run.Contents > 1 {
				t.wrongKey("contents", CodeConflict, "WebTorrent has no connection for a second content: contents must be 1")
			}
		}
	}
	t.end()
	return run
}

// places reads where a run takes place.
func (r *reader) places(t *table, run *Run, p *Plan) {
	place := func(key string) string {
		name := t.need(key)
		if name == "" {
			return ""
		}
		switch host := p.Host(name); {
		case host == nil:
			t.wrongKey(key, CodeReference, "there is no host %q", name)
		case host.Mediator != nil:
			t.wrongKey(key, CodeConflict, "host %q has a mediator: peers are on hosts of their own, so that all goes over links", name)
		}
		return name
	}
	run.Seeder, run.Leecher = place("seeder"), place("leecher")
	if run.Seeder != "" && run.Seeder == run.Leecher {
		t.wrongKey("leecher", CodeConflict, "seeders and leechers are on different hosts, so that all goes over links")
	}
	run.Mediators = t.texts("mediators")
	if len(run.Mediators) == 0 {
		t.wrongKey("mediators", CodeMissing, "mediators is missing: the hosts of those at which seeders (the first) and leechers (the last) are")
	}
	for i, name := range run.Mediators {
		switch host := p.Host(name); {
		case host == nil:
			t.wrongKey("mediators", CodeReference, "there is no host %q", name)
		case host.Mediator == nil:
			t.wrongKey("mediators", CodeReference, "host %q has no mediator", name)
		case slices.Contains(run.Mediators[:i], name):
			t.wrongKey("mediators", CodeDuplicate, "the mediator of %q is named twice", name)
		}
	}
	run.Kill = t.text("kill", "")
	run.KillAfter = t.time("kill_after", 0, 0, maxTimeout)
	if host := p.Host(run.Kill); run.Kill != "" && (host == nil || host.Mediator == nil) {
		t.wrongKey("kill", CodeReference, "there is no mediator on a host %q", run.Kill)
	}
	if t.has("kill_after") && run.Kill == "" {
		t.wrongKey("kill_after", CodeConflict, "kill_after is for kill, which is missing")
	}
	if run.Kill != "" && run.Fresh {
		t.wrongKey("kill", CodeConflict, "a mediator that is killed would be back for the next introduction: fresh must be false")
	}
}

// contents reads what is fetched.
func (r *reader) contents(t *table, run *Run) {
	run.Contents = int(t.number("contents", 1, 1, maxContents))
	run.Size = t.size("size", 200_000, 1, MaxSize)
	if t.has("piece_length") {
		run.Piece = t.size("piece_length", 0, 1, MaxSize)
		var wrong *content.Error
		if err := (content.Geometry{TotalLength: run.Size, PieceLength: run.Piece}).Check(); errors.As(err, &wrong) && run.Piece > 0 && run.Size > 0 {
			t.wrongKey("piece_length", CodeRange, "%s", wrong.Message)
		}
	}
	if total := run.Size * int64(run.N) * int64(run.Contents); total > maxTotal {
		t.wrongKey("size", CodeRange, "all contents of a run together are %s at most, and not %s", sizes.write(maxTotal), sizes.write(float64(total)))
	}
}

func (r *reader) must(path string, keys map[string]any, p *Plan) Must {
	t := r.table(path, "a must", keys)
	must := Must{What: t.need("what"), Run: t.need("run")}
	if must.What != "" {
		t.title = fmt.Sprintf("must %q", must.What)
	}
	must.Content = int(t.number("content", 1, 1, maxContents))
	if run := p.Run(must.Run); must.Run != "" && run == nil {
		t.wrongKey("run", CodeReference, "there is no run %q", must.Run)
	} else if run != nil && run.What == Ping {
		t.wrongKey("run", CodeConflict, "run %q has no phases", must.Run)
	} else if run != nil && must.Content > max(1, run.Contents) {
		t.wrongKey("content", CodeConflict, "run %q has no content %d", must.Run, must.Content)
	}
	from, to := timeline.MediatorOpen, timeline.FirstPiece
	if must.Content > 1 {
		from = timeline.Started // it is asked for over a connection that is open
	}
	if run := p.Run(must.Run); run != nil && run.What == Announce {
		from, to = timeline.Started, timeline.PeersNamed
	}
	must.From, must.To = t.phase("from", from), t.phase("to", to)
	if must.From == must.To {
		t.wrongKey("to", CodeConflict, "from and to are the same phase")
	}
	must.Against = t.text("against", "")
	if other := p.Run(must.Against); must.Against != "" && other == nil {
		t.wrongKey("against", CodeReference, "there is no run %q", must.Against)
	} else if other != nil && other.What == Ping {
		t.wrongKey("against", CodeConflict, "run %q has no phases", must.Against)
	}
	if text := t.need("at_most"); text != "" {
		must.AtMost = t.bound("at_most", text, must.Against)
	}
	if text := t.text("moonshot", ""); text != "" {
		bound := t.bound("moonshot", text, must.Against)
		must.Moonshot = &bound
		if at, moon := must.AtMost.Unit, bound.Unit; at != moon && at != "" && moon != "" {
			t.wrongKey("moonshot", CodeConflict, "moonshot must be in the unit of at_most, which is %s, and not in %s", at, moon)
		}
	}
	t.end()
	return must
}

func (t *table) phase(key string, usual timeline.Phase) timeline.Phase {
	phase := timeline.Phase(t.text(key, string(usual)))
	if !slices.Contains(timeline.Phases, phase) {
		t.wrongKey(key, CodeBadChoice, "%s must be a phase, as \"channel_open\", and is %q", key, phase)
	}
	return phase
}

func (t *table) bound(key, text, against string) Bound {
	bound, is := parseBound(text)
	switch {
	case !is:
		t.wrongKey(key, CodeBadBound, "%s must be a limit, as \"11rtt\", \"600ms\" or \"0.5x\", and is %q", key, text)
	case bound.Unit == Ratio && against == "":
		t.wrongKey(key, CodeConflict, "%s is a ratio, and the run that it is to is missing: against", key)
	case bound.Unit != Ratio && against != "":
		t.wrongKey(key, CodeConflict, "%s must be a ratio, as \"0.5x\", since it is against %q", key, against)
	}
	return bound
}
