package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"p2pcdn/common/mediation"
	"p2pcdn/common/options"
	"p2pcdn/mediator/internal/node"
)

const longHelp = `A mediator introduces peers (browsers, and headless ones) to each other, and
steps aside: content never passes through it. Mediators find each other by a
distributed hash table, so there is no centre. Anyone may run one.

  port       serves HTTP and WebSocket to peers; 0 picks a free one
  dht-port   serves other mediators, over TCP and QUIC; 0 picks a free one
  bootstrap  any running mediator of the network to join: the host:port or URL
             of its HTTP side, or its multiaddr with /p2p/<id>. Without one, it
             starts a network of its own, which others can join. Mediators that
             do not answer are tried again until they do.

Flags may stand anywhere. The environment sets any of them: --data-dir is
P2PCDN_DATA_DIR, and so on; a flag on the command line wins.`

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
	var (
		config     = node.Config{Version: options.Version(version)}
		iceServers []string
		level      string
	)
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
			return parseArgs(&config, args)
		},
		RunE: func(command *cobra.Command, _ []string) error {
			if err := options.FromEnvironment(command.Flags(), os.LookupEnv); err != nil {
				return usageError{err}
			}
			var logLevel slog.Level
			if err := logLevel.UnmarshalText([]byte(level)); err != nil {
				return usageError{fmt.Errorf("--log-level must be debug, info, warn or error, not %q", level)}
			}
			for _, text := range iceServers {
				server, err := parseICEServer(text)
				if err != nil {
					return usageError{err}
				}
				config.ICEServers = append(config.ICEServers, server)
			}
			if err := config.Validate(); err != nil {
				return usageError{err}
			}
			config.Logger = newLogger(stderr, logLevel)
			return serve(command, config, stdout)
		},
	}
	flags := command.Flags()
	flags.StringVar(&config.DataDir, "data-dir", node.DefaultDataDir(), "`directory` that keeps the mediator's key; one mediator each")
	flags.StringVar(&config.Listen, "listen", "", "IP `address` to listen on (default all)")
	flags.StringArrayVar(&iceServers, "ice-server", nil, "STUN or TURN `URL` that peers are told to use, as stun:host:port or\nturn:host:port,username,credential; may be repeated")
	flags.StringVar(&level, "log-level", "info", "what is logged: debug, info, warn or error, as `level`")
	flags.SortFlags = false
	command.SetOut(stdout)
	command.SetErr(stderr)
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	command.SetVersionTemplate("mediator {{.Version}}\n")
	return command
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
	if err := n.Run(command.Context()); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "stopped: peers were told, records were withdrawn")
	return nil
}

// describe says what a volunteer wants to know: where it is, and how others join.
func describe(w io.Writer, n *node.Node) {
	host := "localhost"
	if ip := n.Addr().IP; !ip.IsUnspecified() {
		host = ip.String()
	}
	at := net.JoinHostPort(host, strconv.Itoa(n.Addr().Port))
	fmt.Fprintf(w, "mediator %s\n", n.ID())
	fmt.Fprintf(w, "  page       http://%s/\n", at)
	fmt.Fprintf(w, "  peers      ws://%s%s\n", at, mediation.Path)
	for i, address := range n.DHTAddrs() {
		fmt.Fprintf(w, "  %-10s %s\n", [2]string{"mediators", ""}[min(i, 1)], address)
	}
	fmt.Fprintf(w, "  join it    mediator <port> <dht-port> http://<this host>:%d\n", n.Addr().Port)
}
