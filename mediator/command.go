package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"p2pcdn/common/mediation"
	"p2pcdn/common/options"
	"p2pcdn/mediator/internal/node"
)

const longHelp = `A mediator introduces peers (browsers, and headless ones) to each other, and
steps aside: content never passes through it, unless --turn lets it relay what
two peers encrypted for each other. Mediators find each other by a distributed
hash table, so there is no centre. Anyone may run one.

  port       serves HTTP and WebSocket to peers; 0 picks a free one
  dht-port   serves other mediators, over TCP and QUIC; 0 picks a free one
  bootstrap  any running mediator of the network to join: the host:port or URL
             of its HTTP side, or its multiaddr with /p2p/<id>. Without one, it
             starts a network of its own, which others can join. Mediators that
             do not answer are tried again until they do.

Flags may stand anywhere. The environment sets any of them: --data-dir is
P2PCDN_DATA_DIR, and so on (several values with spaces between them); a flag on
the command line wins.

Signals: SIGTERM and Ctrl-C end it within five seconds, its peers are told and
its records withdrawn; SIGHUP has its lists read again. Exit codes: 0 it was
ended, 1 it could not start or serve, 2 wrong usage.`

const examples = `  mediator 8080 4001                                  a network of its own
  mediator 8081 4002 localhost:8080 --data-dir /tmp/two   a second one, on the same machine
  mediator 8080 4001 https://mediator.example.org     join over the internet`

// usageError is a mistake in the arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func isUsage(err error) bool {
	var usage usageError
	return errors.As(err, &usage)
}

func newCommand(stdout, stderr io.Writer) *cobra.Command {
	s := &settings{config: node.Config{Version: options.Version(version)}}
	config := &s.config
	groups := groups(s)
	command := &cobra.Command{
		Use:               "mediator <port> <dht-port> [bootstrap ...]",
		Short:             "Introduce peers to each other",
		Long:              longHelp,
		Example:           examples,
		Version:           config.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			return parseArgs(config, args)
		},
		RunE: func(command *cobra.Command, _ []string) error {
			if err := options.FromEnvironment(command.Flags(), os.LookupEnv); err != nil {
				return usageError{err}
			}
			if err := s.finish(stderr); err != nil {
				return usageError{err}
			}
			return serve(command, *config, stdout)
		},
	}
	for _, g := range groups {
		command.Flags().AddFlagSet(g.flags)
	}
	showGroups(command, groups)
	command.SetOut(stdout)
	command.SetErr(stderr)
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	command.SetVersionTemplate("mediator {{.Version}}\n")
	return command
}

// finish reads what the flags hold as text, and checks the whole.
func (s *settings) finish(stderr io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.level)); err != nil {
		return fmt.Errorf("--log-level must be debug, info, warn or error, not %q", s.level)
	}
	if s.format != "auto" && s.format != "text" && s.format != "json" {
		return fmt.Errorf("--log-format must be auto, text or json, not %q", s.format)
	}
	for _, text := range s.iceServers {
		server, err := parseICEServer(text)
		if err != nil {
			return err
		}
		s.config.ICEServers = append(s.config.ICEServers, server)
	}
	for _, text := range s.proxies {
		proxy, err := node.ParseProxy(text)
		if err != nil {
			return fmt.Errorf("--trust-proxy: %w", err)
		}
		s.config.Proxies = append(s.config.Proxies, proxy)
	}
	s.config.TURN.NoSTUN = !s.stun
	if s.turnAddress != "" {
		address, err := netip.ParseAddr(s.turnAddress)
		if err != nil {
			return fmt.Errorf("--turn-address must be an IPv4 address, not %q", s.turnAddress)
		}
		s.config.TURN.PublicIP = address
	}
	s.config.Logger = newLogger(stderr, level, s.format)
	s.config.PublicURL = publicURL(s.config)
	return s.config.Validate()
}

// publicURL is what was given, or what follows from the first domain of the certificate,
// on a port that was chosen.
func publicURL(config node.Config) string {
	if config.PublicURL != "" || len(config.ACME.Domains) == 0 || config.Port == 0 {
		return config.PublicURL
	}
	host := config.ACME.Domains[0]
	if config.Port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(config.Port))
	}
	return "wss://" + host + mediation.Path
}

// parseArgs reads the positional arguments.
func parseArgs(config *node.Config, args []string) error {
	if len(args) < 2 {
		return usageError{errors.New("a port and a dht-port are needed")}
	}
	for i, port := range []*int{&config.Port, &config.DHTPort} {
		number, err := strconv.ParseUint(args[i], 10, 16)
		if err != nil {
			return usageError{fmt.Errorf("%s must be a number from 0 to 65535, not %q", []string{"port", "dht-port"}[i], args[i])}
		}
		*port = int(number)
	}
	config.Bootstrap = args[2:]
	return nil
}

// parseICEServer reads url[,username,credential].
func parseICEServer(text string) (mediation.ICEServer, error) {
	parts := strings.Split(text, ",")
	scheme, rest, _ := strings.Cut(parts[0], ":")
	known := scheme == "stun" || scheme == "stuns" || scheme == "turn" || scheme == "turns"
	if !known || rest == "" || (len(parts) != 1 && len(parts) != 3) {
		return mediation.ICEServer{}, fmt.Errorf("--ice-server must be stun:host:port or turn:host:port,username,credential, not %q", text)
	}
	server := mediation.ICEServer{URLs: parts[:1]}
	if len(parts) == 3 {
		server.Username, server.Credential = parts[1], parts[2]
	}
	return server, nil
}

// serve runs the mediator until the command's context ends.
func serve(command *cobra.Command, config node.Config, stdout io.Writer) error {
	n, err := node.New(context.WithoutCancel(command.Context()), config) // starting takes no time worth interrupting
	if err != nil {
		return err
	}
	describe(stdout, n)
	defer reloadOnHangup(n, config.Logger)()
	if err := n.Run(command.Context()); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "stopped: peers were told, records were withdrawn")
	return nil
}

// reloadOnHangup has the files read again whenever SIGHUP comes, until it is ended.
func reloadOnHangup(n *node.Node, logger *slog.Logger) (end func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range hangups {
			if err := n.Reload(); err != nil {
				logger.Error("what was read before stays in force", "error", err)
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-ended
	}
}

// describe says what a volunteer wants to know: where it is, and how others join.
func describe(w io.Writer, n *node.Node) {
	host := "localhost"
	if ip := n.Addr().IP; !ip.IsUnspecified() {
		host = ip.String()
	}
	at := net.JoinHostPort(host, strconv.Itoa(n.Addr().Port))
	secure := map[bool]string{true: "s"}[n.Secure()]
	fmt.Fprintf(w, "mediator %s\n", n.ID())
	fmt.Fprintf(w, "  page       http%s://%s/\n", secure, at)
	fmt.Fprintf(w, "  peers      ws%s://%s%s\n", secure, at, mediation.Path)
	for i, address := range n.DHTAddrs() {
		fmt.Fprintf(w, "  %-10s %s\n", [2]string{"mediators", ""}[min(i, 1)], address)
	}
	fmt.Fprintf(w, "  join it    mediator <port> <dht-port> http%s://<this host>:%d\n", secure, n.Addr().Port)
}
