package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/node"
)

// command runs the command to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a mediator that starts ends at once
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongArguments(t *testing.T) {
	t.Setenv("P2PCDN_DATA_DIR", t.TempDir())
	for _, test := range []struct{ args, message string }{
		{"", "a port and a dht-port are needed"},
		{"8080", "a port and a dht-port are needed"},
		{"http 4001", `port must be a number from 0 to 65535, not "http"`},
		{"8080 65536", `dht-port must be a number from 0 to 65535, not "65536"`},
		{"-- -1 4001", `port must be a number from 0 to 65535, not "-1"`},
		{"4001 4001", "must differ"},
		{"0 0 --no-such-flag", "unknown flag: --no-such-flag"},
		{"0 0 nonsense", "nonsense"},
		{"0 0 ftp://host", "ftp://host"},
		{"0 0 /ip4/127.0.0.1/tcp/4001", "/p2p/"},
		{"0 0 --listen localhost", "must be an IP address"},
		{"0 0 --log-level loud", "--log-level must be"},
		{"0 0 --log-format xml", "--log-format must be"},
		{"0 0 --max-connections -1", "it is a number from 0"},
		{"0 0 --max-connections many", "it is a number from 0"},
		{"0 0 --handshake-timeout soon", "it is a time as 10s"},
		{"0 0 --allow-origin site.example", "an origin is as https://site.example"},
		{"0 0 --trust-proxy somebody", "--trust-proxy: a proxy is an IP address or a network"},
		{"0 0 --turn --stun=false", "it cannot be without"},
		{"0 0 --turn-address somewhere", "--turn-address must be"},
		{"0 0 --turn-address ::1", "relayed addresses are IPv4"},
		{"0 0 --tls-cert x", "a certificate and its key are given together"},
		{"0 0 --tls-cert x --tls-key y --acme-domain a.example", "from files or from a CA"},
		{"0 0 --acme-domain *.a.example", "name each host"},
		{"0 0 --acme-domain a.example --acme-directory http://ca.example", "must be an https URL"},
		{"0 0 --public-url https://mediator.example", "the public URL"},
		{"0 0 --ice-server http://x", "--ice-server must be"},
		{"0 0 --ice-server turn:x,user", "--ice-server must be"},
		{"0 0" + strings.Repeat(" --ice-server stun:x:1", 17), "ICE servers"},
		{"0 0 --ice-server stun:" + strings.Repeat("x", 2000), "ICE servers"},
	} {
		code, stdout, stderr := command(t, strings.Fields(test.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.message) || !strings.Contains(stderr, "--help") {
			t.Errorf("%q gave %d, %q, %q", test.args, code, stdout, stderr)
		}
		if strings.Count(stderr, "\n") != 2 {
			t.Errorf("%q is told in more than two lines: %q", test.args, stderr)
		}
	}
}

func TestEnvironmentSetsFlags(t *testing.T) {
	t.Setenv("P2PCDN_DATA_DIR", t.TempDir())
	t.Setenv("P2PCDN_LOG_LEVEL", "loud")
	if code, _, stderr := command(t, "0", "0"); code != exitUsage || !strings.Contains(stderr, "--log-level") {
		t.Errorf("gave %d, %q", code, stderr)
	}
	if code, _, stderr := command(t, "0", "0", "--log-level", "error"); code != exitOK || stderr != "" {
		t.Errorf("the command line did not win: %d, %q", code, stderr)
	}
}

func TestHelpIsComplete(t *testing.T) {
	for _, flag := range []string{"--help", "-h"} {
		code, stdout, stderr := command(t, flag)
		if code != exitOK || stderr != "" {
			t.Errorf("%s gave %d, %q", flag, code, stderr)
		}
		for _, part := range []string{
			"mediator <port> <dht-port> [bootstrap ...]", "multiaddr", "P2PCDN_DATA_DIR", "Examples:",
			"--data-dir", "--listen", "--public-url", "--ice-server", "--log-level", "--log-format", "--version", "--admin",
			"--allow-origin", "--trust-proxy", "--allow-list", "--deny-list", "SIGHUP", "Exit codes",
			"--port-map", "--stun", "--turn", "--turn-address", "--turn-allow-private", "--turn-lifetime", "--max-relay-rate",
			"--tls-cert", "--tls-key", "--acme-domain", "--acme-email", "--acme-directory", "--acme-root", "--acme-http",
			"--max-connections number", "(default 20000)", "--handshake-timeout time", "(default 10s)",
		} {
			if !strings.Contains(stdout, part) {
				t.Errorf("%s does not say %q", flag, part)
			}
		}
	}
	if code, stdout, _ := command(t, "--version"); code != exitOK || !strings.HasPrefix(stdout, "mediator ") || len(stdout) < len("mediator v\n") {
		t.Errorf("--version gave %d, %q", code, stdout)
	}
}

func TestEveryFlagIsInOneGroup(t *testing.T) {
	command, seen := newCommand(io.Discard, io.Discard), map[string]bool{}
	for _, g := range groups(new(settings)) {
		g.flags.VisitAll(func(flag *pflag.Flag) {
			if seen[flag.Name] || command.Flags().Lookup(flag.Name) == nil {
				t.Errorf("--%s is in two groups, or no flag of the command", flag.Name)
			}
			seen[flag.Name] = true
			if flag.Usage == "" {
				t.Errorf("--%s says nothing", flag.Name)
			}
		})
	}
}

func TestZeroSwitchesALimitOff(t *testing.T) {
	s := new(settings)
	for _, g := range groups(s) {
		g.flags.VisitAll(func(flag *pflag.Flag) {
			if !strings.HasPrefix(flag.Name, "max-") && flag.Name != "handshake-timeout" {
				return
			}
			before := flag.Value.String()
			if strings.HasPrefix(before, "0") || strings.HasPrefix(before, "-") {
				t.Errorf("--%s has no default: %s", flag.Name, before)
			}
			if err := flag.Value.Set("0"); err != nil || !strings.HasPrefix(flag.Value.String(), "0") {
				t.Errorf("--%s 0 gave %s, %v", flag.Name, flag.Value, err)
			}
		})
	}
	if l := s.config.Limits; l.Connections != node.Off || l.Session.HandshakeTimeout != node.Off || l.Records.Total != node.Off {
		t.Errorf("got %+v", l)
	}
}

func TestLogFormat(t *testing.T) {
	for format, begins := range map[string]string{"auto": "{", "json": "{", "text": "time="} {
		var out bytes.Buffer
		newLogger(&out, slog.LevelInfo, format).Info("hello")
		if !strings.HasPrefix(out.String(), begins) {
			t.Errorf("%s: %q", format, out.String())
		}
	}
}

func TestStartSaysWhereItIs(t *testing.T) {
	code, stdout, stderr := command(t, "--listen", "127.0.0.1", "0", "--data-dir", t.TempDir(), "0")
	if code != exitOK || stderr != "" {
		t.Fatalf("gave %d, %q", code, stderr)
	}
	for _, part := range []string{"mediator 12D3KooW", "http://127.0.0.1:", "ws://127.0.0.1:", "/ip4/127.0.0.1/tcp/", "/quic-v1/p2p/12D3KooW", "stopped"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("it does not say %q: %s", part, stdout)
		}
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	for _, args := range [][]string{{port, "0"}, {"0", port}} {
		code, _, stderr := command(t, append(args, "--listen", "127.0.0.1", "--data-dir", t.TempDir())...)
		if code != exitFailed || !strings.Contains(stderr, port) || !strings.Contains(stderr, "in use") {
			t.Errorf("%v gave %d, %q", args, code, stderr)
		}
	}
}

func TestParseICEServer(t *testing.T) {
	server, err := parseICEServer("turn:relay.example:3478?transport=tcp,user,secret")
	if err != nil || server.URLs[0] != "turn:relay.example:3478?transport=tcp" || server.Username != "user" || server.Credential != "secret" {
		t.Errorf("got %+v, %v", server, err)
	}
	if server, err = parseICEServer("stun:x:1"); err != nil || server.Username != "" || len(server.URLs) != 1 {
		t.Errorf("got %+v, %v", server, err)
	}
}

// TestSIGTERM ends a real process, which has peers, within five seconds.
func TestSIGTERM(t *testing.T) {
	if os.Getenv("P2PCDN_TEST_MEDIATOR") != "" { // this is the process
		os.Exit(run(mainContext(), []string{"0", "0", "--listen", "127.0.0.1", "--data-dir", t.TempDir()}, os.Stdout, os.Stderr))
	}
	process := exec.Command(os.Args[0], "-test.run=^TestSIGTERM$")
	process.Env = append(os.Environ(), "P2PCDN_TEST_MEDIATOR=1", "TMPDIR="+t.TempDir())
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	process.Stderr = &errs
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	url := ""
	buffer := make([]byte, 4096)
	for url == "" || !strings.Contains(said.String(), "join it") {
		n, err := out.Read(buffer)
		if err != nil {
			t.Fatalf("it ended: %s%s", said.String(), errs.String())
		}
		said.Write(buffer[:n])
		if _, after, found := strings.Cut(said.String(), "page       "); found {
			url, _, _ = strings.Cut(after, "\n")
		}
	}
	response, err := http.Get(url + "healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()

	half, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/")) // a peer that never answers
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	fmt.Fprintf(half, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", mediation.Path)
	if _, err := half.Read(buffer); err != nil {
		t.Fatal(err)
	}

	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cutOff := time.AfterFunc(5*time.Second, func() { _ = process.Process.Kill() }) // the promise
	defer cutOff.Stop()
	rest, _ := io.ReadAll(out)
	if err := process.Wait(); err != nil {
		t.Fatalf("it ended with %v: %s", err, errs.String())
	}
	if !strings.Contains(string(rest), "stopped") {
		t.Errorf("at its end it said %q", rest)
	}
}
