package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"p2pcdn/scripts/lab/network"
)

const (
	// maxLog bounds what is kept of what one program says, in bytes.
	maxLog = 1 << 20

	// maxLine bounds one line of standard output, in bytes: the links of ten contents.
	maxLine = 64 << 10

	// maxLines bounds the lines that wait to be read; a program that says more waits.
	maxLines = 64

	// grace is how long a program may take to end when it is told to: a mediator promises five seconds.
	grace = 7 * time.Second

	// maxWords is how much of its last words is told, in bytes: a line or two on a screen.
	maxWords = 300
)

// command is what is started.
type command struct {
	program string
	args    []string
	talks   bool // its standard output is read by lines
	listens bool // its standard input is written, and it ends with that; else by a signal
}

// process is a program on a host. Its methods may be called together, but for those that read and write.
type process struct {
	name    string
	host    *network.Host
	cmd     *exec.Cmd
	log     *logFile
	in      io.WriteCloser // or nil
	lines   chan string    // of its standard output, closed at its end; nil: nobody reads it
	closing chan struct{}  // closed by end: nobody reads lines any more
	once    sync.Once      // for closing
	ended   chan struct{}  // closed when it has ended
}

// start starts a program on a host; it ends with the introductions, if not before.
func (l *Lab) start(host, what string, c command) (*process, error) {
	l.started++
	log, err := newLog(filepath.Join(l.Logs, fmt.Sprintf("%03d-%s-%s.log", l.started, host, what)))
	if err != nil {
		return nil, err
	}
	log.note(c.program + " " + strings.Join(c.args, " "))
	p := &process{
		name: fmt.Sprintf("the %s on %s", what, host), host: l.Network.Host(host), log: log,
		closing: make(chan struct{}), ended: make(chan struct{}),
	}
	p.cmd = exec.Command(c.program, c.args...)
	p.cmd.Dir = l.Root
	// Whatever it writes goes with the lab.
	p.cmd.Env = append(os.Environ(), "TMPDIR="+l.Temp, "HOME="+l.Temp, "XDG_RUNTIME_DIR="+l.Temp)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends it by us, in order
	p.cmd.WaitDelay = grace                                 // what it started may hold its output open
	p.cmd.Stderr = log
	var out io.Reader
	if c.talks {
		out, err = p.cmd.StdoutPipe()
		p.lines = make(chan string, maxLines)
	} else {
		p.cmd.Stdout = log
	}
	if c.listens && err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.host.Start(p.cmd)
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	l.processes = append(l.processes, p)
	go p.attend(out)
	return p, nil
}

// attend reads what it says, and waits for its end.
func (p *process) attend(out io.Reader) {
	defer close(p.ended)
	defer p.log.Close()
	if out != nil {
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			fmt.Fprintln(p.log, scanner.Text())
			select {
			case p.lines <- scanner.Text():
			case <-p.closing:
			}
		}
		_, _ = io.Copy(io.Discard, out) // what is behind a line that is too long
		close(p.lines)
	}
	if err := p.cmd.Wait(); err != nil {
		p.log.note("ended: " + err.Error())
	}
	p.kill() // what it started and left behind
}

// kill ends it without a word.
func (p *process) kill() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// end tells it to end, and returns when it has.
func (p *process) end() {
	p.once.Do(func() { close(p.closing) })
	if p.in != nil {
		p.in.Close()
	} else {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
		<-p.ended
	}
}

// died is why it ended by itself, with its last words.
func (p *process) died() error {
	<-p.ended
	return withCode(codeProgram, fmt.Errorf("%s ended: %s: %s", p.name, p.cmd.ProcessState, p.log.lastWords()))
}

// line is the next one of its standard output.
func (p *process) line(ctx context.Context) (string, error) {
	select {
	case line, more := <-p.lines:
		if !more {
			return "", p.died()
		}
		return line, nil
	case <-ctx.Done():
		return "", withCode(codeTimeout, fmt.Errorf("%s says nothing: %w", p.name, ctx.Err()))
	}
}

// logFile keeps what a program says, up to maxLog. Its methods may be called together.
type logFile struct {
	mu   sync.Mutex
	file *os.File
	left int    // bytes
	tail []byte // the last bytes, maxWords at most
}

func newLog(name string) (*logFile, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("keeping what a program says: %w", err)
	}
	return &logFile{file: file, left: maxLog}, nil
}

// Write implements [io.Writer]. It takes everything: a program must not fail since its log is full.
func (l *logFile) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(text)
	l.tail = append(l.tail, text...)
	l.tail = append(l.tail[:0], l.tail[max(0, len(l.tail)-maxWords):]...)
	return len(text), nil
}

func (l *logFile) keep(text []byte) {
	kept := text[:min(len(text), l.left)]
	l.left -= len(kept)
	_, _ = l.file.Write(kept) // a disk that is full must not end a measurement
}

// note writes a line that is not the program's.
func (l *logFile) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep([]byte(text + "\n"))
}

// lastWords are its last line that says something.
func (l *logFile) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(l.tail), "")), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func (l *logFile) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.file.Close() // as in Write
}

// clientAt is an HTTP client on a host.
func clientAt(host *network.Host) *http.Client {
	return &http.Client{Timeout: pageTime, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return host.Dial(ctx, network, address)
		},
	}}
}

// ask asks for a page, and reports whether the answer is 200.
func ask(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxLine))
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}
