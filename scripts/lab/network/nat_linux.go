package network

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"p2pcdn/scripts/lab/plan"
)

// The network behind a NAT.
const (
	natInside  = "192.168.7.1"
	natOutside = "192.168.7.2" // the host
)

// rules are those of a home router: what comes from outside is dropped, unless it was asked for.
const rules = `
table ip nat {
	chain leave { type nat hook postrouting priority 100; oifname "` + linkName + `" masquerade %s; }
	chain through {
		type filter hook forward priority 0
		%s
		iifname "` + linkName + `" ct state != { established, related } drop
	}
	chain knock { type filter hook input priority 0; iifname "` + linkName + `" meta l4proto != icmp ct state != { established, related } drop; }
}`

// translate puts a router with a NAT of this kind, which is linked, before a host.
func translate(router, host *Host, kind plan.NAT) error {
	ports, filter := "", ""
	switch kind {
	case plan.Symmetric:
		ports = "random,fully-random"
	case plan.UDPBlocked:
		filter = "meta l4proto udp drop"
	}
	commands := []struct {
		host    *Host
		command string
	}{
		{router, "link add lan type veth peer name eth0 netns " + host.Name},
		{router, "address add " + natInside + "/24 dev lan"},
		{router, "link set lan up"},
		{host, "address add " + natOutside + "/24 dev eth0"},
		{host, "link set eth0 up"},
		{host, "route add default via " + natInside},
	}
	for _, c := range commands {
		if err := c.host.ip(strings.Fields(c.command)...); err != nil {
			return err
		}
	}
	return router.Do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return fmt.Errorf("having it forward: %w", err)
		}
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(fmt.Sprintf(rules, ports, filter))
		if out, err := nft.CombinedOutput(); err != nil {
			return fmt.Errorf("making its NAT: nft: %w: %s", err, out)
		}
		return nil
	})
}
