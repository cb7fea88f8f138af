package main

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"
)

// tcpPort is the value of --ice-tcp; 0: off.
type tcpPort uint16

func iceTCPFlag(command *cobra.Command, port *tcpPort) {
	command.Flags().Var(port, "ice-tcp", `take WebRTC over TCP too, at this `+"`PORT`"+`, for peers whose network drops UDP;
browsers connect to 443, 80 and those above 1023`)
}

func (p *tcpPort) String() string { return strconv.FormatUint(uint64(*p), 10) }
func (p *tcpPort) Type() string   { return "port" }
func (p *tcpPort) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is no port: that is a number up to 65535 (0: off)", text)
	}
	*p = tcpPort(n)
	return nil
}

// listen opens the port at all addresses; nil where it is off.
func (p tcpPort) listen(ctx context.Context) (net.Listener, error) {
	if p == 0 {
		return nil, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("", p.String()))
	if err != nil {
		return nil, fmt.Errorf("taking WebRTC over TCP: %w", err)
	}
	return listener, nil
}
