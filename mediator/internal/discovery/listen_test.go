package discovery

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
)

// portsOf returns the ports in the addresses of a node.
func portsOf(t *testing.T, d *Discovery) map[string]bool {
	t.Helper()
	ports := make(map[string]bool)
	for _, address := range d.Addrs() {
		parts := strings.Split(address, "/") // "", ip4, 127.0.0.1, tcp, 4001, …
		ports[parts[4]] = true
	}
	return ports
}

func TestListensOnOnePortEverywhere(t *testing.T) {
	d := start(t, func(c *Config) { c.ListenHosts = nil })
	if ports := portsOf(t, d); len(ports) != 1 {
		t.Errorf("ports %v, want one", ports)
	}
	text := strings.Join(d.Addrs(), "\n")
	for _, want := range []string{"/tcp/", "/quic-v1/", "/ip4/127.0.0.1/"} {
		if !strings.Contains(text, want) {
			t.Errorf("no address with %s:\n%s", want, text)
		}
	}
	for _, address := range d.Addrs() {
		if strings.Contains(address, "/0.0.0.0/") || strings.Contains(address, "/::/") || !strings.HasSuffix(address, "/p2p/"+d.ID().String()) {
			t.Errorf("%s cannot be dialled", address)
		}
		if _, err := ParseBootstrap(address); err != nil {
			t.Error(err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	mediator := start(t, nil)
	for name, port := range map[string]int{
		"TCP":              tcp.Addr().(*net.TCPAddr).Port,
		"UDP":              udp.LocalAddr().(*net.UDPAddr).Port,
		"another mediator": tcpPort(t, mediator),
	} {
		t.Run(name, func(t *testing.T) {
			d, err := New(context.Background(), Config{Key: newKey(t), ListenPort: port, ListenHosts: []string{"127.0.0.1"}})
			if err == nil {
				_ = d.Close()
				t.Fatal("it listens all the same")
			}
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "in use") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func tcpPort(t *testing.T, d *Discovery) int {
	t.Helper()
	for _, address := range d.raw.Network().ListenAddresses() {
		if number, err := address.ValueForProtocol(6); err == nil {
			port, err := net.LookupPort("tcp", number)
			if err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("it does not listen")
	return 0
}

func TestBadConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no key":               func(c *Config) { c.Key = nil },
		"port too low":         func(c *Config) { c.ListenPort = -1 },
		"port too high":        func(c *Config) { c.ListenPort = 65536 },
		"host is a name":       func(c *Config) { c.ListenHosts = []string{"localhost"} },
		"host is not ours":     func(c *Config) { c.ListenHosts = []string{"192.0.2.1"} },
		"bad bootstrap":        func(c *Config) { c.Bootstrap = []string{"nobody"} },
		"negative time":        func(c *Config) { c.Timing.Watch = -1 },
		"renewed after it end": func(c *Config) { c.Timing.Renew = c.Timing.RecordValidity + 1<<60 },
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Key: newKey(t), ListenHosts: []string{"127.0.0.1"}}
			change(&config)
			d, err := New(context.Background(), config)
			if err == nil {
				_ = d.Close()
				t.Error("it starts")
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(ctx, Config{Key: newKey(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}
