//go:build unix

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startTime bounds the mediator's start, and endTime its end: it promises five seconds.
	startTime = 20 * time.Second
	endTime   = 10 * time.Second

	// askTime bounds one answer of the mediator to a question about itself.
	askTime = 20 * time.Second

	// maxAnswer bounds that answer, in bytes: some hundred figures.
	maxAnswer = 1 << 20
)

// mediator is a mediator in a process of its own, with its default limits.
type mediator struct {
	process *exec.Cmd
	folder  string
	url     string // where peers connect
	admin   string // where it is asked how it is: who asks is no peer, and counts for no limit
	client  *http.Client
	ended   chan struct{} // closed when the process has
}

// build compiles the mediator of this repository into the folder.
func build(ctx context.Context, folder string) (program string, err error) {
	program = filepath.Join(folder, "mediator")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "p2pcdn/mediator").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the mediator: %w: %s", err, out)
	}
	return program, nil
}

// startMediator starts the program, or the one of this repository; stop must be called. It asks no
// router to map a port: all of this stays on loopback.
func startMediator(ctx context.Context, program string, flags ...string) (_ *mediator, err error) {
	folder, err := os.MkdirTemp("", "p2pcdn-soak-")
	if err != nil {
		return nil, err
	}
	m := &mediator{folder: folder, ended: make(chan struct{}), client: &http.Client{Timeout: askTime, Transport: &http.Transport{MaxConnsPerHost: 1}}}
	defer func() {
		if err != nil {
			m.stop()
		}
	}()
	if program == "" {
		if program, err = build(ctx, folder); err != nil {
			return nil, err
		}
	}
	if m.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	args := append([]string{"0", "0", "--listen", "127.0.0.1", "--data-dir", filepath.Join(folder, "data"), "--admin", m.admin, "--log-level", "error", "--port-map=false"}, flags...)
	process := exec.Command(program, args...)
	process.Stderr = os.Stderr
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends it by us, after it was looked at
	out, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	m.process = process
	url := make(chan string, 1)
	go func() {
		defer close(m.ended)
		readURL(out, url)
		_ = process.Wait() // how it ends is of no interest here: it is waited for, or it is missed
	}()
	select {
	case m.url = <-url:
		return m, nil
	case <-m.ended:
		return nil, fmt.Errorf("%s ended at once", program)
	case <-time.After(startTime):
		return nil, fmt.Errorf("%s does not say where peers connect", program)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var peersLine = regexp.MustCompile(`peers +(ws://\S+)`)

// readURL reads all that the mediator says, and passes on where peers connect.
func readURL(out io.Reader, url chan<- string) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if match := peersLine.FindStringSubmatch(lines.Text()); match != nil {
			select {
			case url <- match[1]:
			default: // it was said before
			}
		}
	}
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// stop ends the mediator, and removes what it wrote.
func (m *mediator) stop() {
	if m.process != nil {
		_ = m.process.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-m.ended:
		case <-time.After(endTime):
			_ = m.process.Process.Kill()
			<-m.ended
		}
	}
	m.client.CloseIdleConnections()
	_ = os.RemoveAll(m.folder) // in the folder for what is temporary
}

// looks is how often the mediator is looked at to know how it is at rest: a goroutine or two come and
// go all the time.
const looks = 9

// rested returns how the mediator is while it has nothing to do: the median of some looks.
func (m *mediator) rested(ctx context.Context) (State, error) {
	states := make([]State, 0, looks)
	for range looks {
		state, err := m.collected()
		if err != nil {
			return State{}, err
		}
		states = append(states, state)
		rest(ctx, settleTick)
	}
	slices.SortFunc(states, func(a, b State) int { return cmp.Compare(a.Goroutines, b.Goroutines) })
	return states[looks/2], ctx.Err()
}

// get returns what the mediator's admin address answers.
func (m *mediator) get(path string) (string, error) {
	answer, err := m.client.Get("http://" + m.admin + path)
	if err != nil {
		return "", fmt.Errorf("asking the mediator how it is: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return "", fmt.Errorf("asking the mediator how it is: %w", err)
	}
	return string(text), nil
}

// State is a moment of the mediator. Its figures are those of /metrics and /status.json.
type State struct {
	Memory      float64            `json:"memory"`     // resident, in bytes
	Heap        float64            `json:"heap"`       // bytes of what is allocated, garbage included unless it was collected just before
	Goroutines  float64            `json:"goroutines"` // that of this question included
	Files       float64            `json:"files"`
	Connections float64            `json:"connections"`
	Peers       float64            `json:"peers"`
	Contents    float64            `json:"contents"`
	Announced   float64            `json:"announced"`
	Searches    float64            `json:"searches"`
	Operations  float64            `json:"operations"` // of the DHT, that run or wait
	Records     float64            `json:"records"`    // own ones that are not stored, or not withdrawn, yet
	Refusals    map[string]float64 `json:"refusals"`   // by code, since it started
}

// state asks the mediator how it is.
func (m *mediator) state() (State, error) {
	text, err := m.get("/metrics")
	if err != nil {
		return State{}, err
	}
	value := figures(text)
	const ours = "p2pcdn_mediator_"
	s := State{
		Memory: value["process_resident_memory_bytes"], Heap: value["go_memstats_heap_alloc_bytes"],
		Goroutines: value["go_goroutines"], Files: value["process_open_fds"],
		Connections: value[ours+"connections"], Peers: value[ours+"peers"], Contents: value[ours+"contents"],
		Announced: value[ours+"announced"], Searches: value[ours+"searches"],
		Operations: value[ours+"operations_pending"] + value[ours+"operations_running"],
		Records:    value[ours+"dht_unstored"], Refusals: make(map[string]float64),
	}
	for name, n := range value {
		if code, is := strings.CutPrefix(name, ours+`refusals_total{code="`); is {
			s.Refusals[strings.TrimSuffix(code, `"}`)] = n
		}
	}
	if dropped := value[ours+"stun_refused_requests_total"]; dropped > 0 { // it has no code: nobody is told
		s.Refusals["STUN requests"] = dropped
	}
	if s.Memory == 0 || s.Goroutines == 0 || s.Files == 0 {
		return State{}, errors.New("this system does not say what a process takes (/proc)")
	}
	return s, nil
}

// figures reads the text format of Prometheus, as far as the mediator uses it.
func figures(text string) map[string]float64 {
	value := make(map[string]float64)
	for line := range strings.Lines(text) {
		if name, number, found := strings.Cut(strings.TrimSpace(line), "} "); found {
			value[name+"}"], _ = strconv.ParseFloat(number, 64)
		} else if name, number, found := strings.Cut(strings.TrimSpace(line), " "); found && name != "#" {
			value[name], _ = strconv.ParseFloat(number, 64)
		}
	}
	return value
}

// collected has the mediator collect its garbage first. Twice: what has a finalizer is
// garbage only after it.
func (m *mediator) collected() (State, error) {
	for range 2 {
		if _, err := m.get("/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return State{}, err
		}
	}
	return m.state()
}
