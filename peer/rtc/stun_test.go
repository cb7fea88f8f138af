package rtc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"p2pcdn/common/mediation"
)

// message is a STUN message with these attributes, each given as its type and its value.
func message(kind uint16, attributes ...[]byte) []byte {
	body := bytes.Join(attributes, nil)
	head := binary.BigEndian.AppendUint16(nil, kind)
	head = binary.BigEndian.AppendUint16(head, uint16(len(body)))
	return append(append(head, "\x21\x12\xa4\x42twelve bytes"...), body...)
}

func attribute(kind uint16, value []byte) []byte {
	head := binary.BigEndian.AppendUint16(nil, kind)
	head = binary.BigEndian.AppendUint16(head, uint16(len(value)))
	return append(append(head, value...), make([]byte, -len(value)&3)...)
}

var (
	mapped  = attribute(attrXORMappedAddress, []byte("\x00\x01\x12\x34\x56\x78\x9a\xbc"))
	unsound = [][]byte{
		message(0x0101, attribute(attrXORMappedAddress, nil)),
		message(0x0101, attribute(0x8022, []byte("software")), attribute(attrXORMappedAddress, []byte{0})),
		message(0x0103, mapped, attribute(attrXORRelayedAddress, []byte("\x00\x01\x12"))),
		message(0x0017, attribute(0x0013, []byte("data")), attribute(attrXORPeerAddress, nil)),
		[]byte("\x01\x01"),
	}
	fine = [][]byte{
		message(0x0101, mapped),
		message(0x0001),
		message(0x0101, attribute(attrXORMappedAddress, make([]byte, 20))),
		[]byte("\x17\xfe\xfd DTLS, and no STUN"),
	}
)

func TestUnsoundMessagesAreNotHeard(t *testing.T) {
	network, err := newSockets(nil)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := network.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	packets, err := network.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	sender, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for _, conn := range []net.PacketConn{udp, packets} {
		for i, packet := range fine {
			for _, bad := range unsound {
				if _, err := sender.WriteTo(bad, conn.LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := sender.WriteTo(packet, conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			buffer := make([]byte, 1500)
			n, _, err := conn.ReadFrom(buffer)
			if err != nil || !bytes.Equal(buffer[:n], packet) {
				t.Errorf("in the place of message %d came %q, %v", i, buffer[:n], err)
			}
		}
	}
}

func TestAnUnsoundMessageEndsATURNConnection(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	network, err := newSockets(nil)
	if err != nil {
		t.Fatal(err)
	}
	// heard is what comes of what a server sends, in reads of a few bytes.
	heard := func(sent ...[]byte) ([]byte, error) {
		t.Helper()
		conn, err := network.DialTCP("tcp4", nil, listener.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(bytes.Join(sent, nil)); err != nil {
			t.Fatal(err)
		}
		_ = server.Close()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		var all []byte
		for buffer := make([]byte, 7); ; {
			n, err := conn.Read(buffer)
			if all = append(all, buffer[:n]...); err != nil {
				return all, err
			}
		}
	}
	channelData := []byte("\x40\x00\x00\x05hello\x00\x00\x00")
	good := [][]byte{fine[0], channelData, fine[1], channelData}
	if got, err := heard(good...); !errors.Is(err, io.EOF) || !bytes.Equal(got, bytes.Join(good, nil)) {
		t.Errorf("of a good server came %q, %v", got, err)
	}
	for i, bad := range unsound[:4] {
		if got, err := heard(channelData, bad, fine[0]); !errors.Is(err, errUnsound) || !bytes.Equal(got, channelData) {
			t.Errorf("behind unsound message %d came %q, %v", i, got, err)
		}
	}
	if _, err := heard([]byte("\x00\x01\xff\xec"), make([]byte, 100)); !errors.Is(err, errUnsound) {
		t.Errorf("a message that is too long ended with %v", err)
	}
	if got, err := heard(fine[0][:10]); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 0 {
		t.Errorf("of half a message came %q, %v", got, err)
	}
	tls := []byte("\x16\x03\x01 whatever is in it, \x01\x01")
	if got, err := heard(tls); !errors.Is(err, io.EOF) || !bytes.Equal(got, tls) {
		t.Errorf("of TLS came %q, %v", got, err)
	}
}

// TestAHostileSTUNServer answers, also as a TURN server, with what would stop the program: it is named by a mediator,
// which is anybody.
func TestAHostileSTUNServer(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			refusal := message(0x0113, attribute(0x0009, []byte("\x00\x00\x04\x00"))) // at last, so that nobody waits
			for _, bad := range append(slices.Clone(unsound), refusal) {
				answer := bytes.Clone(bad)
				if len(answer) >= stunHeader && n >= stunHeader {
					copy(answer[4:stunHeader], buffer[4:stunHeader]) // of the request's transaction
				}
				_, _ = server.WriteTo(answer, from)
			}
			select {
			case answered <- struct{}{}:
			default:
			}
		}
	}()
	defer func() {
		_ = server.Close()
		<-done
	}()
	a, b := newSide(t), newSide(t)
	ready := make(chan struct{})
	a.send = func(s Signal) { <-ready; b.conn.Signal(s) }
	b.send = func(s Signal) { <-ready; a.conn.Signal(s) }
	transport := New(Config{})
	servers := []mediation.ICEServer{
		{URLs: []string{"stun:" + server.LocalAddr().String()}},
		{URLs: []string{"turn:" + server.LocalAddr().String() + "?transport=udp"}, Username: "a", Credential: "b"},
	}
	a.conn = transport.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: a, ICEServers: servers})
	b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b, ICEServers: servers})
	close(ready)
	a.waitOpen()
	b.waitOpen()
	wait(t, answered, "the server to be asked")
	a.end()
	b.waitClosed()
}

func FuzzSound(f *testing.F) {
	for _, packet := range append(unsound, fine...) {
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) { sound(packet) }) // whatever it is, it is looked at
}
