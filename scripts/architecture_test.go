// Package scripts holds what is about the whole repository and belongs to no
// room of it. Nothing imports it.
package scripts

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the top of the repository, seen from this folder.
const root = ".."

// edge is one import in one file. Paths within the module are without its name:
// "common/wire"; the commands are "mediator" and "peer".
type edge struct {
	file     string
	from, to string
	test     bool // the file is a test
}

// room is what a package may import of the project, and why no more. Patterns
// that end in /... stand for the whole tree. Tests may import other rooms of their own half.
type room struct {
	packages string
	may      []string
	why      string
}

// rooms is the plan of the house; the first match counts.
var rooms = []room{
	{"common/...", []string{"common/..."}, "common is what both programs and every language agree on: it knows neither program"},
	{"preview", nil, "the pages are data; whoever serves them imports them"},
	{"scripts/lab/router", nil, "the lab's router is told time and packets: it is tested without either"},
	{"scripts/lab/plan", []string{"common/..."}, "a lab file is read without a look at anything else, so that every system can check it"},
	{"scripts/lab/results", []string{"common/...", "scripts/lab/plan"}, "what a lab yields is figured from its rows, wherever they come from"},
	{"scripts/lab/network", []string{"scripts/lab/plan", "scripts/lab/router"}, "a lab's network knows nothing of what runs in it"},
	{"scripts/lab/run", []string{"common/...", "scripts/lab/plan", "scripts/lab/network"}, "runs hand out rows, and do not care what they are for"},
	{"scripts/lab", []string{"common/...", "scripts/lab/..."}, "the lab's command alone sees all of its rooms"},
	{"scripts/...", []string{"common/...", "preview"}, "scripts run the programs from outside, as a user does"},

	{"mediator", []string{"common/...", "mediator/internal/node"}, "main only turns arguments into a Config for node, so that tests can do all that main does"},
	{"mediator/internal/node", []string{"common/...", "mediator/internal/...", "preview"}, "node alone wires the rooms together"},
	{"mediator/internal/flights", nil, "it counts flights between whole mediators and whole peers, in tests alone: nothing of it goes into a program"},
	{"mediator/internal/memnet", nil, "a network in memory knows nothing of what runs on it: it is handed to rooms in place of sockets, and by tests alone"},
	{"mediator/internal/simulation", []string{"common/...", "mediator/internal/..."}, "the simulation wires rooms together as node does, to a network in memory; nothing but its tests runs it"},
	{"mediator/internal/limits", nil, "how limits are said: numbers, and no state"},
	{"mediator/internal/lists", []string{"common/..."}, "which contents are permitted: two files, and nothing of what is done with it"},
	{"mediator/internal/metrics", []string{"common/..."}, "the rooms do not know that they are counted: they are given functions"},
	{"mediator/internal/ice", []string{"common/...", "mediator/internal/limits"}, "STUN and TURN are given their sockets, and know nothing of who is introduced to whom"},
	{"mediator/internal/portmux", []string{"mediator/internal/limits"}, "a port is shared by its first byte alone: what becomes of a connection is others' concern"},
	{"mediator/internal/certs", nil, "certificates are got and kept here, and served wherever the configuration is handed to"},
	{"mediator/internal/neighbours", []string{"common/...", "mediator/internal/limits"}, "who the other mediators are is asked over a stream of its own: the DHT and the relay know nothing of it"},
	{"mediator/internal/admin", nil, "what is for the volunteer alone is handed in as handlers"},
	{"mediator/internal/registry", []string{"common/..."}, "the registry is pure state, for the router alone to change"},
	{"mediator/internal/router", []string{"common/...", "mediator/internal/limits", "mediator/internal/registry"}, "the router decides and does no I/O: it names what it needs as interfaces"},
	{"mediator/internal/session", []string{"common/...", "mediator/internal/limits", "mediator/internal/router"}, "session, discovery and relay satisfy the router's interfaces and never import each other, so that each is tested and replaced alone"},
	{"mediator/internal/discovery", []string{"common/...", "mediator/internal/limits", "mediator/internal/router"}, "session, discovery and relay satisfy the router's interfaces and never import each other, so that each is tested and replaced alone"},
	{"mediator/internal/relay", []string{"common/...", "mediator/internal/limits", "mediator/internal/router"}, "session, discovery and relay satisfy the router's interfaces and never import each other, so that each is tested and replaced alone"},
	{"mediator/internal/wsserver", []string{"common/...", "mediator/internal/limits", "mediator/internal/session"}, "the server turns requests into sessions and knows nothing of what is decided"},

	{"peer", []string{"common/...", "peer/client", "peer/latency/..."}, "main only turns arguments into calls of client and of the instrument, so that tests can do all that main does"},
	{"peer/latency/report", []string{"common/timeline"}, "statistics know the table alone, so that they are right for whoever wrote it"},
	{"peer/latency/draw", []string{"common/timeline", "peer/latency/report"}, "pictures are made of the table and its statistics, whoever measured"},
	{"peer/latency", []string{"common/...", "peer/client", "peer/rtc", "peer/signaling"}, "the instrument measures the client as others use it, and rebuilds another flow on the same rooms; what becomes of the rows is not its concern"},
	{"peer/client", []string{"common/...", "peer/rtc", "peer/signaling", "peer/store", "peer/swarm"}, "client alone wires the rooms together, and is what the instrument measures, without knowing it"},
	{"peer/swarm", []string{"common/..."}, "the swarm is pure: it decides and verifies, without network and disk"},
	{"peer/rtc", []string{"common/..."}, "rtc, signaling and store never import each other, so that each is tested and replaced alone"},
	{"peer/signaling", []string{"common/..."}, "rtc, signaling and store never import each other, so that each is tested and replaced alone"},
	{"peer/store", []string{"common/..."}, "rtc, signaling and store never import each other, so that each is tested and replaced alone"},
}

// ban forbids imports; except names packages that it does not hold for.
type ban struct {
	from, to, except []string
	tests            bool // it holds for tests too
	why              string
}

var bans = []ban{
	{
		from: []string{"mediator/..."}, to: []string{"peer/...", "github.com/pion/webrtc/..."}, except: []string{"mediator/internal/flights"}, tests: true,
		why: "a mediator introduces peers, and is none: it has no use for a peer or for WebRTC; flights has both, in its tests, and nothing else",
	},
	{
		from: []string{"peer/..."}, to: []string{"mediator/...", "github.com/libp2p/...", "github.com/multiformats/..."}, tests: true,
		why: "a peer knows mediators by the mediation protocol alone; libp2p is how they talk among themselves",
	},
	{
		from: []string{"common/..."}, to: []string{"mediator/...", "peer/...", "preview", "scripts/..."}, tests: true,
		why: "common is what both programs agree on, and so are its tests",
	},
	{
		from: []string{"common/...", "mediator/...", "peer/...", "preview"}, to: []string{"scripts/..."}, tests: true,
		why: "nothing imports scripts: they can be changed without a look at the programs",
	},
	{
		from: []string{"..."}, to: []string{"github.com/coder/websocket/..."}, except: []string{"mediator/internal/wsserver", "peer/signaling", "scripts/bench/introduce", "scripts/lab/run", "scripts/soak"},
		why: "one room per program, so that a successor is a change of one room",
	},
	{
		from: []string{"..."}, to: []string{"github.com/libp2p/go-libp2p-kad-dht/..."}, except: []string{"mediator/internal/discovery"},
		why: "one room, so that another DHT is a change of one room",
	},
	{
		from: []string{"..."}, to: []string{"github.com/libp2p/..."}, except: []string{"mediator/internal/discovery", "mediator/internal/relay", "mediator/internal/neighbours", "mediator/internal/memnet", "mediator/internal/flights", "mediator/internal/simulation"},
		why: "libp2p has three uses, the DHT and two streams between mediators: nothing else is written in its types",
	},
	{
		from: []string{"..."}, to: []string{"mediator/internal/memnet/..."}, except: []string{"mediator/internal/memnet", "mediator/internal/simulation", "mediator/internal/flights"},
		why: "networks in memory are for tests and simulations: what a mediator is made of has sockets",
	},
	{
		from: []string{"..."}, to: []string{"mediator/internal/simulation/..."}, tests: true,
		why: "the simulation is an experiment: nothing is built on it",
	},
	{
		from: []string{"..."}, to: []string{"github.com/prometheus/..."}, except: []string{"mediator/internal/metrics"},
		why: "one room counts, so that another way of counting is a change of one room",
	},
	{
		from: []string{"..."}, to: []string{"gonum.org/..."}, except: []string{"peer/latency/draw", "mediator/internal/simulation"},
		why: "one room of each half draws, so that other pictures are a change of one room",
	},
	{
		from: []string{"..."}, to: []string{"github.com/pion/..."}, except: []string{"peer/rtc", "mediator/internal/ice", "mediator/internal/flights"},
		why: "one room per program, WebRTC in the peer and TURN in the mediator, so that a successor is a change of one room",
	},
	{
		from: []string{"mediator/internal/router", "mediator/internal/registry", "peer/swarm", "common/...", "scripts/lab/router", "scripts/lab/plan", "scripts/lab/results"},
		to:   []string{"net", "net/http/...", "os/...", "syscall"},
		why:  "this room does no I/O: files, sockets and processes are handed in, so that it is tested without them",
	},
}

// matches reports whether a package is meant by one of the patterns.
func matches(packagePath string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		tree, isTree := strings.CutSuffix(pattern, "/...")
		return pattern == "..." || packagePath == tree || isTree && strings.HasPrefix(packagePath, tree+"/")
	})
}

// ours reports whether an import is one of this repository.
func ours(packagePath string) bool {
	return matches(packagePath, "common/...", "mediator/...", "peer/...", "preview/...", "scripts/...")
}

// violations says for each import that breaks a rule which one, and why the rule is there.
func violations(edges []edge) (found []string) {
	for _, e := range edges {
		say := func(why string) { found = append(found, e.file+": "+e.from+" imports "+e.to+": "+why) }
		if !e.test && ours(e.to) {
			i := slices.IndexFunc(rooms, func(r room) bool { return matches(e.from, r.packages) })
			if i < 0 {
				say("the plan does not have this room: name it, what it may import, and why")
			} else if !matches(e.to, rooms[i].may...) {
				say(rooms[i].why)
			}
		}
		for _, b := range bans {
			if (b.tests || !e.test) && matches(e.from, b.from...) && matches(e.to, b.to...) && !matches(e.from, b.except...) {
				say(b.why)
			}
		}
	}
	return found
}

// readEdges reads the imports of every Go file of the repository. It only
// parses, so it judges code that does not compile on this system too.
func readEdges(t *testing.T) (edges []edge) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (entry.Name() == "node_modules" || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			edges = append(edges, edge{relative, path.Dir(relative), local(to), strings.HasSuffix(relative, "_test.go")})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return edges
}

// local drops the module's name from an import path of ours.
func local(importPath string) string { return strings.TrimPrefix(importPath, "p2pcdn/") }

func TestImportDirections(t *testing.T) {
	edges := readEdges(t)
	for _, violation := range violations(edges) {
		t.Error(violation)
	}
	for _, must := range []edge{
		{from: "common/mediation", to: "common/content"},
		{from: "mediator/internal/router", to: "mediator/internal/registry"},
		{from: "mediator/internal/discovery", to: "github.com/libp2p/go-libp2p-kad-dht"},
	} {
		if !slices.ContainsFunc(edges, func(e edge) bool { return e.from == must.from && e.to == must.to }) {
			t.Errorf("the imports were not read: %s imports %s", must.from, must.to)
		}
	}
}

// TestTransitiveImports holds the linked programs to what their own imports
// promise. (go-libp2p itself brings pion's newer WebRTC; the peer's is v3.)
func TestTransitiveImports(t *testing.T) {
	for _, test := range []struct {
		program string
		must    string // shows that the list was made
		never   []string
	}{
		{"mediator", "github.com/libp2p/go-libp2p-kad-dht", []string{"peer/...", "github.com/pion/webrtc/v3/..."}},
		{"peer", "github.com/pion/webrtc/v3", []string{"mediator/...", "github.com/libp2p/..."}},
	} {
		command := exec.Command("go", "list", "-e", "-deps", "-f", "{{.ImportPath}}", "./"+test.program+"/...")
		command.Dir = root
		output, err := command.Output()
		if err != nil {
			t.Fatalf("listing what %s is made of: %v", test.program, err)
		}
		packages := strings.Fields(string(output))
		if !slices.Contains(packages, test.must) {
			t.Errorf("%s is not made of %s: the list is wrong", test.program, test.must)
		}
		for _, name := range packages {
			if matches(local(name), test.never...) {
				t.Errorf("%s is made of %s", test.program, name)
			}
		}
	}
}

// TestRulesCanFail breaks every rule once, so that none of them is there in vain.
func TestRulesCanFail(t *testing.T) {
	breaks := []edge{
		{from: "common/wire", to: "preview"},
		{from: "common/wire", to: "os"},
		{from: "preview", to: "common/content"},
		{from: "scripts/demo", to: "peer/client"},
		{from: "scripts/lab", to: "peer/client"},
		{from: "scripts/lab/router", to: "scripts/lab/plan"},
		{from: "scripts/lab/router", to: "os"},
		{from: "scripts/lab/plan", to: "scripts/lab/router"},
		{from: "scripts/lab/results", to: "scripts/lab/run"},
		{from: "scripts/lab/network", to: "common/timeline"},
		{from: "scripts/lab/run", to: "scripts/lab/results"},
		{from: "mediator", to: "mediator/internal/router"},
		{from: "mediator/internal/node", to: "peer/client"},
		{from: "mediator/internal/registry", to: "mediator/internal/router"},
		{from: "mediator/internal/router", to: "mediator/internal/session"},
		{from: "mediator/internal/router", to: "net/http"},
		{from: "mediator/internal/session", to: "mediator/internal/relay"},
		{from: "mediator/internal/discovery", to: "mediator/internal/session"},
		{from: "mediator/internal/relay", to: "mediator/internal/discovery"},
		{from: "mediator/internal/wsserver", to: "mediator/internal/router"},
		{from: "mediator/internal/flights", to: "peer/client"},
		{from: "mediator/internal/memnet", to: "mediator/internal/discovery"},
		{from: "mediator/internal/node", to: "mediator/internal/memnet"},
		{from: "mediator/internal/node", to: "mediator/internal/simulation"},
		{from: "mediator/internal/simulation", to: "preview"},
		{from: "mediator/internal/limits", to: "common/content"},
		{from: "mediator/internal/lists", to: "mediator/internal/router"},
		{from: "mediator/internal/metrics", to: "mediator/internal/node"},
		{from: "mediator/internal/admin", to: "mediator/internal/metrics"},
		{from: "mediator/internal/ice", to: "mediator/internal/router"},
		{from: "mediator/internal/portmux", to: "common/ident"},
		{from: "mediator/internal/certs", to: "mediator/internal/wsserver"},
		{from: "mediator/internal/neighbours", to: "mediator/internal/discovery"},
		{from: "mediator/internal/node", to: "github.com/prometheus/client_golang/prometheus"},
		{from: "mediator/internal/unheard", to: "common/content"},
		{from: "mediator/internal/node", to: "github.com/coder/websocket"},
		{from: "mediator/internal/relay", to: "github.com/libp2p/go-libp2p-kad-dht/records"},
		{from: "mediator/internal/router", to: "github.com/libp2p/go-libp2p/core/peer"},
		{from: "mediator/internal/relay", to: "github.com/pion/webrtc/v3"},
		{from: "mediator/internal/node", to: "peer/client", test: true},
		{from: "peer", to: "peer/swarm"},
		{from: "peer/client", to: "mediator/internal/node"},
		{from: "peer/client", to: "peer/latency"},
		{from: "peer/latency", to: "peer/latency/report"},
		{from: "peer/latency/report", to: "peer/latency"},
		{from: "peer/latency/draw", to: "peer/latency"},
		{from: "peer/latency/report", to: "gonum.org/v1/plot"},
		{from: "peer/swarm", to: "peer/store"},
		{from: "peer/rtc", to: "peer/signaling"},
		{from: "peer/signaling", to: "peer/rtc"},
		{from: "peer/store", to: "peer/swarm"},
		{from: "peer/client", to: "github.com/pion/webrtc/v3"},
		{from: "peer/client", to: "github.com/libp2p/go-libp2p", test: true},
		{from: "common/content", to: "peer/client", test: true},
		{from: "peer/client", to: "scripts/sample", test: true},
	}
	told := ""
	for _, e := range breaks {
		found := violations([]edge{e})
		if len(found) == 0 {
			t.Errorf("%s may import %s", e.from, e.to)
		}
		told += strings.Join(found, "\n")
	}
	for _, r := range rooms {
		if !strings.Contains(told, r.why) {
			t.Errorf("nothing breaks the rule for %s", r.packages)
		}
	}
	for _, b := range bans {
		if !strings.Contains(told, b.why) {
			t.Errorf("nothing breaks the rule: %s", b.why)
		}
	}
	if good := violations([]edge{
		{from: "mediator", to: "mediator/internal/node"},
		{from: "mediator/internal/router", to: "time"},
		{from: "mediator/internal/wsserver", to: "github.com/coder/websocket"},
		{from: "mediator/internal/node", to: "mediator/internal/relay"},
		{from: "peer/client", to: "peer/rtc"},
		{from: "peer/rtc", to: "github.com/pion/webrtc/v3"},
		{from: "peer/client", to: "peer/store", test: true},
		{from: "peerless", to: "mediatorial/x"},
	}); len(good) > 0 {
		t.Errorf("what is allowed is refused: %v", good)
	}
}
