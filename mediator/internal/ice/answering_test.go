package ice

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestAnswersComeFromWhereItWasAsked has clients ask a socket of all addresses at several of
// loopback's. A client that is connected hears nothing that comes from elsewhere.
func TestAnswersComeFromWhereItWasAsked(t *testing.T) {
	for _, network := range []string{"udp", "udp4"} {
		socket, err := net.ListenPacket(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		server := answerWhereAsked(socket)
		if server == socket {
			t.Skipf("%s: the system does not say where packets come to", network)
		}
		port := address(socket.LocalAddr()).Port()
		asked := []string{"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.0.0.1"}
		if network == "udp" && hasIPv6() {
			asked = append(asked, "::1")
		}
		for _, host := range asked {
			at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), port))
			client, err := net.DialUDP("udp", nil, at)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write([]byte("ask")); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, 100)
			_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, from, err := server.ReadFrom(buffer)
			if err != nil || string(buffer[:n]) != "ask" || address(from) != address(client.LocalAddr()) {
				t.Fatalf("%s %s: it heard %q of %v, %v", network, host, buffer[:n], from, err)
			}
			if _, err := server.WriteTo([]byte("answer"), from); err != nil {
				t.Fatalf("%s %s: %v", network, host, err)
			}
			_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err = client.Read(buffer); err != nil || string(buffer[:n]) != "answer" {
				t.Errorf("%s %s: the client heard %q, %v", network, host, buffer[:n], err)
			}
			_ = client.Close()
		}
		// Whoever asked nothing is answered as the system likes.
		stranger, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		if _, err := server.WriteTo([]byte("hello"), stranger.LocalAddr()); err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func TestASocketOfOneAddressStaysAsItIs(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if answerWhereAsked(socket) != socket {
		t.Error("it does not")
	}
}

func hasIPv6() bool {
	socket, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = socket.Close()
	return true
}
