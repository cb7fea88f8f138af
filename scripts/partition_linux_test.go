package scripts

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

const (
	// places is how many mediators there are, each on a machine of its own. Each has a machine with
	// peers that begin at it.
	places = 5

	// pairs is how many seeders, and leechers, begin at each mediator.
	pairs = 5

	// connectedAgain is how long peers may take to find another mediator, whatever happened to theirs. It takes
	// 23 s at most: one that is cut off shows by a ping that is not answered, 20 s after the last that
	// was, and the three others that do not answer are tried first, each after a second at most.
	connectedAgain = 30 * time.Second

	// fileLength is that of each file, in bytes. At this rate it takes 20 s, so that downloads run
	// until the peers have found each other again.
	fileLength = 800_000
	steadily   = "40K"
)

// file is a content of the test.
type file struct {
	path string
	data []byte
	hash content.FullHash
	link string
}

// newFile makes a file that differs from those with another number.
func newFile(t *testing.T, folder string, number int) *file {
	t.Helper()
	f := &file{path: filepath.Join(folder, fmt.Sprintf("%d.bin", number)), data: make([]byte, fileLength)}
	mathrand.NewChaCha8([32]byte{0: byte(number)}).Read(f.data)
	if err := os.WriteFile(f.path, f.data, 0o600); err != nil {
		t.Fatal(err)
	}
	geometry := content.Geometry{TotalLength: fileLength, PieceLength: content.DefaultPieceLength(fileLength)}
	sum, err := geometry.Sum(t.Context(), bytes.NewReader(f.data), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.hash = sum.FullHash
	f.link = content.Info{
		FullHash: f.hash, FileName: filepath.Base(f.path), TotalLength: fileLength, PieceLength: geometry.PieceLength,
	}.Link().String()
	return f
}

// download is a file that somebody fetches, and serves then.
type download struct {
	*process
	file *file
	path string
}

// isRight waits until it is complete, and compares.
func (d *download) isRight() {
	d.t.Helper()
	d.says(`complete: `)
	holds(d.t, d.path, d.file.data)
}

// town is mediators and peers, each at its place.
type town struct {
	t         *testing.T
	folder    string // of the files
	files     int
	halls     []machine  // of the mediators
	mediators []*process // there
	homes     []machine  // of the peers
}

// newTown starts the mediators, and returns when each names all others to its peers.
func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, folder: t.TempDir()}
	for i := range places {
		hall := newMachine(t, 2*i+1)
		w.halls, w.homes = append(w.halls, hall), append(w.homes, newMachine(t, 2*i+2))
		args := []string{"8080", "4001", "--data-dir", t.TempDir(), "--public-url", w.url(i)}
		if i > 0 {
			args = append(args, w.page(0, ""))
		}
		w.mediators = append(w.mediators, hall.start(t, "mediator", args...))
		awaitHealth(t, w.page(i, "healthz"))
	}
	for i := range places {
		await(w.t, fmt.Sprintf("mediator %d names all others", i), func() bool {
			a := w.connect(i)
			defer a.leaves()
			return len(a.named) == places-1
		})
	}
	return w
}

func (w *town) url(mediator int) string {
	return "ws://" + w.halls[mediator].address + ":8080" + mediation.Path
}

func (w *town) page(mediator int, name string) string {
	return "http://" + w.halls[mediator].address + ":8080/" + name
}

// knows are the options of a peer that is given these mediators.
func (w *town) knows(mediators ...int) (options []string) {
	for _, i := range mediators {
		options = append(options, "--mediator", w.url(i))
	}
	return options
}

func (w *town) newFile() *file {
	w.t.Helper()
	w.files++
	return newFile(w.t, w.folder, w.files)
}

// seed has a file served from a place. It can be found once it is announced.
func (w *town) seed(f *file, place int, options ...string) *process {
	w.t.Helper()
	return w.homes[place].start(w.t, "peer", append([]string{"seed", f.path}, options...)...)
}

// leech has a file fetched to a place, and served then.
func (w *town) leech(f *file, place int, options ...string) *download {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "out.bin")
	args := append([]string{"get", f.link, "-o", path, "--seed-after"}, options...)
	return &download{w.homes[place].start(w.t, "peer", args...), f, path}
}

// fetch has files fetched by a newcomer at each of these places, who is given the mediator there, and compares.
func (w *town) fetch(files []*file, places ...int) {
	w.t.Helper()
	folders := make(map[string]*process)
	for _, place := range places {
		folder := w.t.TempDir()
		args := append([]string{"get", "-o", folder}, w.knows(place)...)
		for _, f := range files {
			args = append(args, f.link)
		}
		folders[folder] = w.homes[place].start(w.t, "peer", args...)
	}
	for folder, newcomer := range folders {
		newcomer.succeeds()
		for _, f := range files {
			holds(w.t, filepath.Join(folder, filepath.Base(f.path)), f.data)
		}
	}
}

// peers is how many are connected to these mediators.
func (w *town) peers(mediators ...int) (sum int) {
	w.t.Helper()
	for _, i := range mediators {
		var status struct{ Peers int }
		readJSON(w.t, w.page(i, "status.json"), &status)
		sum += status.Peers
	}
	return sum
}

// asker is a peer that asks, and has nothing.
type asker struct {
	t     *testing.T
	conn  *websocket.Conn
	named []string // the other mediators
}

func (w *town) connect(mediator int) *asker {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, w.url(mediator), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetReadLimit(mediation.MaxMessageSize)
	a := &asker{t: w.t, conn: conn}
	id, err := ident.NewPeerID(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	a.say(mediation.Handshake{PeerID: id})
	established, is := a.hear().(mediation.Established)
	if !is {
		w.t.Fatal("the handshake was not accepted")
	}
	a.named = established.Mediators
	return a
}

func (a *asker) leaves() { _ = a.conn.CloseNow() }

func (a *asker) say(message mediation.Message) {
	a.t.Helper()
	if err := a.conn.Write(a.t.Context(), websocket.MessageText, mediation.Encode(message)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *asker) hear() mediation.Message {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	_, text, err := a.conn.Read(ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	message, err := mediation.Decode(text)
	if err != nil {
		a.t.Fatal(err)
	}
	return message
}

// finds asks each of these mediators for files until it has named as many peers as there are for each, and
// never more, of whom one would be dead. Of what nobody has it must say so.
func (w *town) finds(holders map[*file]int, mediators ...int) {
	w.t.Helper()
	askers := make(map[int]*asker)
	for _, mediator := range mediators {
		a := w.connect(mediator)
		defer a.leaves()
		for f := range holders {
			a.say(mediation.GetPeers{FullHash: f.hash})
		}
		askers[mediator] = a
	}
	for mediator, a := range askers {
		if err := a.isToldOf(holders); err != nil {
			w.t.Errorf("mediator %d: %v", mediator, err)
		}
	}
}

// isToldOf hears the answers of one mediator.
func (a *asker) isToldOf(holders map[*file]int) error {
	a.t.Helper()
	missing := make(map[content.FullHash]int) // peers that were not named yet
	for f, count := range holders {
		missing[f.hash] = count
	}
	named := make(map[ident.PeerID]bool)
	for open := maps.Clone(missing); len(open) > 0; {
		message := a.hear()
		found, is := message.(mediation.Peers)
		if !is {
			return fmt.Errorf("it answers %s", mediation.Encode(message))
		}
		for _, id := range found.Peers {
			if !named[id] {
				named[id] = true
				missing[found.FullHash]--
			}
		}
		switch left := missing[found.FullHash]; {
		case left < 0:
			return fmt.Errorf("it names more peers for %s than there are", found.FullHash.Short())
		case left == 0: // where there was nobody from the beginning, it said so now
			delete(open, found.FullHash)
		}
	}
	return nil
}

// Of five mediators two are killed and one is cut off in the same moment, while 50 peers seed and leech. They
// meet again at the two that are left, and at the one that is back.
func TestMediatorsAreKilledAndCutOff(t *testing.T) {
	if !runInOwnNetwork(t) {
		return
	}
	w := newTown(t)
	killed, cutOff, alive := []int{1, 2}, 3, []int{0, 4}
	holders := make(map[*file]int) // how many peers have each file

	// Some peers are given one mediator and some two, among these such that lose both.
	given := func(place, peer int) []string {
		if peer%2 == 0 {
			return w.knows(place)
		}
		return w.knows(place, (place+1)%places)
	}
	var files []*file
	var seeders []*process
	for place := range places {
		for peer := range pairs {
			f := w.newFile()
			files, holders[f] = append(files, f), 1
			seeders = append(seeders, w.seed(f, place, given(place, peer)...))
		}
	}
	// The only seeders of some files will end: with their mediator, while it is cut off, and alone.
	doomed := make(map[*file]*process)
	for _, place := range []int{killed[0], cutOff, alive[0]} {
		f := w.newFile()
		doomed[f], holders[f] = w.seed(f, place, w.knows(place)...), 1
		seeders = append(seeders, doomed[f])
	}
	for _, seeder := range seeders {
		seeder.says(`announced`)
	}
	w.finds(holders, alive...)
	// At each place one leecher waits for what nobody has yet, and each other one fetches something else of the next place.
	late := w.newFile()
	var downloads []*download
	for place := range places {
		for peer := range pairs - 1 {
			f := files[(place+1)%places*pairs+peer]
			holders[f]++
			downloads = append(downloads, w.leech(f, place, append(given(place, peer), "--download-limit", steadily)...))
		}
		downloads = append(downloads, w.leech(late, place, given(place, pairs-1)...))
	}
	for _, d := range downloads {
		d.says(`connected to`)
		if d.file != late {
			d.says(`downloading from .*: [1-9]`)
		}
	}

	began := time.Now()
	tell := func(what string) { t.Logf("%4.1f s: %s", time.Since(began).Seconds(), what) }
	for _, i := range killed {
		w.mediators[i].kill()
	}
	w.halls[cutOff].cutOff(t)
	for f, seeder := range doomed {
		seeder.kill()
		holders[f] = 0
	}
	const everybody = 2 * places * pairs
	for _, count := range []int{everybody * 8 / 10, everybody} { // those that were cut off are the last
		what := fmt.Sprintf("%d of %d peers are connected", count, everybody)
		await(w.t, what, func() bool { return w.peers(alive...) >= count })
		tell(what)
	}
	if took := time.Since(began); took > connectedAgain {
		t.Errorf("all peers are connected only after %v", took)
	}

	w.seed(late, alive[1], w.knows(alive[1])...).says(`announced`)
	files, holders[late] = append(files, late), 1+places
	for _, d := range downloads {
		d.isRight()
	}
	tell("all that was begun is complete")
	w.finds(holders, alive...)
	tell("each file is found, where it is and nowhere else")
	w.fetch(files, alive...)
	tell("newcomers have every file")

	w.halls[cutOff].heal(t)
	await(w.t, "the mediator that was cut off knows that its peers have left", func() bool { return w.peers(cutOff) == 0 })
	tell("the one that was cut off knows that its peers have left")
	for _, place := range []int{cutOff, alive[1]} {
		f := w.newFile()
		holders[f] = 1
		w.seed(f, place, w.knows(place)...).says(`announced`)
	}
	w.finds(holders, append(alive, cutOff)...)
	tell("it finds the others, and is found")
}
