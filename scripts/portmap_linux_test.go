package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A home router forwards the mediator's port when it is asked to, by either of the two protocols for that, so that
// mediators elsewhere reach it. The router is miniupnpd, which is in many of them.

func TestAHomeRouterForwardsThePortByUPnP(t *testing.T)   { routerForwards(t, "upnp") }
func TestAHomeRouterForwardsThePortByNATPMP(t *testing.T) { routerForwards(t, "natpmp") }

// wan is the network outside, where the router has the first address. It must be a public one: miniupnpd
// forwards nothing for an address of which it knows that nobody reaches it.
const wan = "45.67.89"

// homeRules are those of a home router: what comes from outside is dropped, unless it was asked for. miniupnpd changes its three chains.
const homeRules = `
table inet filter {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		iifname "link1" accept
		jump miniupnpd
	}
	chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
	chain postrouting {
		type nat hook postrouting priority 100
		jump postrouting_miniupnpd
		oifname "link2" masquerade
	}
	chain miniupnpd {}
	chain prerouting_miniupnpd {}
	chain postrouting_miniupnpd {}
}`

func routerForwards(t *testing.T, protocol string) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range []string{"miniupnpd", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (miniupnpd-nftables, nftables)", program)
		}
	}
	if !runInOwnNetwork(t) {
		return
	}
	home, elsewhere := newMachine(t, 1), newMachineIn(t, 2, wan)
	startHomeRouter(t, protocol)

	inside := "http://" + home.address + ":8080/"
	home.start(t, "mediator", "8080", "4001", "--data-dir", t.TempDir())
	awaitHealth(t, inside+"healthz")
	var mapped string
	await(t, "the mediator is given a port", func() bool {
		var id struct{ Addresses []string }
		readJSON(t, inside+"id", &id)
		for _, address := range id.Addresses {
			if strings.HasPrefix(address, "/ip4/"+wan+".1/tcp/") {
				mapped = address
			}
		}
		return mapped != ""
	})

	// A mediator elsewhere knows that address only, and joins there.
	elsewhere.start(t, "mediator", "8080", "4001", mapped, "--data-dir", t.TempDir())
	outside := "http://" + elsewhere.address + ":8080/"
	awaitHealth(t, outside+"healthz")
	await(t, "a mediator elsewhere has joined", func() bool {
		var status struct{ DHT struct{ Mediators int } }
		readJSON(t, outside+"status.json", &status)
		return status.DHT.Mediators == 1
	})
}

// startHomeRouter has this process's network be a home router's, with link1 inside and link2 outside.
func startHomeRouter(t *testing.T, protocol string) {
	t.Helper()
	rules := exec.Command("nft", "-f", "-")
	rules.Stdin = strings.NewReader(homeRules)
	if said, err := rules.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, said)
	}
	answer := map[bool]string{true: "yes", false: "no"}
	settings := fmt.Sprintf("ext_ifname=link2\next_ip=%s.1\nlistening_ip=link1\nenable_upnp=%s\nenable_natpmp=%s\nuuid=00000000-0000-0000-0000-000000000001\n"+
		"allow 1024-65535 10.9.1.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n", wan, answer[protocol == "upnp"], answer[protocol == "natpmp"])
	folder := t.TempDir()
	file := filepath.Join(folder, "miniupnpd.conf")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	// Discovery is made once, when the mediator starts.
	router := startCommand(t, "miniupnpd", []string{"miniupnpd", "-d", "-f", file, "-P", filepath.Join(folder, "pid")})
	router.says(`HTTP listening on port|Listening for NAT-PMP`)
}
