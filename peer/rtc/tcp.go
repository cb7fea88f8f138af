package rtc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/stun"
	"github.com/pion/transport/v2/packetio"
)

const (
	// maxPacket is the longest packet over TCP, in bytes: what pion reads at once.
	// ICE, DTLS and SCTP send no more than a UDP packet of an Ethernet holds.
	maxPacket = 8 << 10

	// tcpBuffer is read and written at once, in bytes: some fifty packets for one
	// call of the system.
	tcpBuffer = 64 << 10

	// tcpQueue is how many bytes may wait for a TCP connection to take them: two
	// windows of SCTP. What comes above is lost, as it is on a network that is full,
	// and sent again more slowly.
	tcpQueue = 2 << 20

	// tcpUnread is how many packets that came may wait for pion: as many as one
	// reading may bring.
	tcpUnread = 64

	// maxStrangers bounds the TCP connections of which nobody knows yet whose they
	// are: more peers than that do not begin within the same round trip. One gives way
	// to a newcomer; see crowding.
	maxStrangers = 64

	// householdBits is how much of an IPv6 address tells households apart: any host may
	// take as many of its subnet's addresses as it likes, and they share this prefix (RFC 4291, 2.5.4).
	householdBits = 64

	// strangerPatience is how long one may take to say what it wants: a round trip,
	// and some lost packets.
	strangerPatience = 5 * time.Second

	// maxStreams bounds the TCP connections for one address of one connection: a peer
	// opens one from each of its addresses.
	maxStreams = 16

	// acceptAgain is how long a system that has no more descriptors is left alone.
	acceptAgain = 100 * time.Millisecond
)

// tcpMux accepts ICE over TCP (RFC 6544: passive candidates) at one port for all
// connections of a Transport; it is an [github.com/pion/ice/v2.TCPMux]. Whoever connects must send an ICE check
// for a connection that there is, and soon: that names a secret, the user name
// fragment, which only the peer was told.
//
// pion has one of its own, which keeps any number of strangers for half a
// minute, stops reading all TCP connections of a candidate when one of them ends, and calls the system for every packet.
type tcpMux struct {
	listener net.Listener // static after construction, as are the next four
	port     int
	log      *slog.Logger
	done     chan struct{} // closed by Close
	packets  sync.Pool     // of *packet

	work sync.WaitGroup // acceptance, and whatever was accepted

	mu        sync.Mutex
	closed    bool                 // guarded by mu
	strangers []net.Conn           // guarded by mu; the oldest first; bounded by maxStrangers
	gates     map[gateKey]*tcpGate // guarded by mu; those that are open, bounded by the connections
}

// gateKey says what a TCP connection is for.
type gateKey struct {
	fragment string     // the local ICE user name fragment
	local    netip.Addr // the address that was connected to
}

// packet is one that came.
type packet struct {
	from   net.Addr
	length int
	data   [maxPacket]byte
}

// newTCPMux begins to accept. The mux owns the listener.
func newTCPMux(listener net.Listener, log *slog.Logger) *tcpMux {
	m := &tcpMux{
		listener: listener,
		log:      log,
		done:     make(chan struct{}),
		packets:  sync.Pool{New: func() any { return new(packet) }},
		gates:    make(map[gateKey]*tcpGate),
	}
	if address, isTCP := listener.Addr().(*net.TCPAddr); isTCP {
		m.port = address.Port
	}
	m.work.Go(m.accept)
	return m
}

// Close ends everything that was accepted, and waits for it.
func (m *tcpMux) Close() error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.done)
	}
	err := m.listener.Close()
	for _, conn := range m.strangers {
		_ = conn.Close() // it never became anything
	}
	gates := make([]*tcpGate, 0, len(m.gates))
	for _, gate := range m.gates {
		gates = append(gates, gate)
	}
	m.mu.Unlock()
	for _, gate := range gates {
		_ = gate.Close()
	}
	m.work.Wait()
	return err
}

// GetConnByUfrag is called by pion for each local address, to make a candidate of it.
func (m *tcpMux) GetConnByUfrag(fragment string, _ bool, local net.IP) (net.PacketConn, error) {
	address, ok := netip.AddrFromSlice(local)
	if !ok {
		return nil, fmt.Errorf("%v is no IP address", local)
	}
	key := gateKey{fragment, address.Unmap()}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	if gate := m.gates[key]; gate != nil {
		return gate, nil
	}
	gate := &tcpGate{
		mux: m, key: key,
		local:   &net.TCPAddr{IP: local, Port: m.port},
		arrived: make(chan *packet, tcpUnread),
		closed:  make(chan struct{}),
		streams: make(map[netip.AddrPort]*tcpStream),
	}
	m.gates[key] = gate
	return gate, nil
}

// RemoveConnByUfrag is called by pion when a connection ends.
func (m *tcpMux) RemoveConnByUfrag(fragment string) {
	var gates []*tcpGate
	m.mu.Lock()
	for key, gate := range m.gates {
		if key.fragment == fragment {
			gates = append(gates, gate)
		}
	}
	m.mu.Unlock()
	for _, gate := range gates {
		_ = gate.Close()
	}
}

func (m *tcpMux) remove(key gateKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.gates, key)
}

func (m *tcpMux) accept() {
	for {
		conn, err := m.listener.Accept()
		switch {
		case err == nil:
			m.arrived(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default: // such as too many open files
			m.log.Debug("ICE over TCP cannot be accepted", "err", err)
			select {
			case <-time.After(acceptAgain):
			case <-m.done:
				return
			}
		}
	}
}

// arrived takes in a stranger; another one gives way where there are too many.
func (m *tcpMux) arrived(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = conn.Close()
		return
	}
	if len(m.strangers) == maxStrangers {
		i := crowding(m.strangers, conn)
		_ = m.strangers[i].Close() // it had its time
		m.strangers = slices.Delete(m.strangers, i, i+1)
	}
	m.strangers = append(m.strangers, conn)
	m.work.Go(func() {
		if err := m.receive(conn); err != nil {
			m.log.Debug("a TCP connection for ICE ended", "from", conn.RemoteAddr(), "err", err)
		}
	})
}

// crowding returns which stranger gives way to a newcomer: of the household that has
// most, the newcomer counted in, the oldest, since a peer says at once what it wants. So
// who fills all places only sends its own connections away, and not a peer that has fewer.
func crowding(strangers []net.Conn, newcomer net.Conn) int {
	members := map[netip.Prefix]int{household(newcomer): 1}
	for _, conn := range strangers {
		members[household(conn)]++
	}
	crowd := 0
	for i, conn := range strangers {
		if members[household(conn)] > members[household(strangers[crowd])] {
			crowd = i
		}
	}
	return crowd
}

// household returns the addresses from which one and the same host may connect: the
// IPv4 address, or the IPv6 subnet. Where no address is known it is the zero prefix.
func household(conn net.Conn) netip.Prefix {
	address := addrPort(conn.RemoteAddr()).Addr()
	prefix, _ := address.Prefix(min(householdBits, address.BitLen())) // no address is too short for that
	return prefix
}

// receive serves a TCP connection until it ends.
func (m *tcpMux) receive(conn net.Conn) error {
	reader := bufio.NewReaderSize(conn, tcpBuffer)
	first := m.packets.Get().(*packet)
	fragment, err := m.hear(conn, reader, first)
	gate := m.recognise(conn, fragment)
	if err == nil && gate == nil {
		err = errNobody
	}
	var stream *tcpStream
	if err == nil {
		stream, err = gate.add(conn)
	}
	if err != nil {
		_ = conn.Close() // err says more
		return err
	}
	return gate.serve(stream, reader, first)
}

// Why a stranger is sent away, where it did not say what it should.
var (
	errNobody         = errors.New("it is for none of our connections")
	errTooManyStreams = errors.New("the peer opens too many TCP connections")
)

// hear waits for a stranger's first packet, and returns what it names.
func (m *tcpMux) hear(conn net.Conn, reader *bufio.Reader, first *packet) (fragment string, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(strangerPatience)); err != nil {
		return "", fmt.Errorf("setting a deadline: %w", err)
	}
	if err := first.read(reader); err != nil {
		return "", fmt.Errorf("waiting for the first packet: %w", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return "", fmt.Errorf("lifting the deadline: %w", err)
	}
	return checkFor(first.data[:first.length])
}

// recognise returns what a stranger is for, if anything. It is none any more.
func (m *tcpMux) recognise(conn net.Conn, fragment string) *tcpGate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.strangers, conn); i >= 0 {
		m.strangers = slices.Delete(m.strangers, i, i+1)
	}
	return m.gates[gateKey{fragment, addrPort(conn.LocalAddr()).Addr()}]
}

// checkFor returns whose user name fragment an ICE check carries (RFC 8445, 7.2.2:
// the receiver's comes first).
func checkFor(data []byte) (fragment string, err error) {
	message := stun.Message{Raw: data}
	if err := message.Decode(); err != nil {
		return "", fmt.Errorf("the first packet is no ICE check: %w", err)
	}
	if message.Type != stun.BindingRequest {
		return "", fmt.Errorf("the first packet is no ICE check but a %v", message.Type)
	}
	name, err := message.Get(stun.AttrUsername)
	if err != nil {
		return "", fmt.Errorf("the first ICE check names nobody: %w", err)
	}
	fragment, _, _ = strings.Cut(string(name), ":")
	return fragment, nil
}

// read takes the next packet off a stream (RFC 4571: two bytes of length before each).
func (p *packet) read(reader *bufio.Reader) error {
	header, err := reader.Peek(2)
	if err != nil {
		return err
	}
	p.length = int(binary.BigEndian.Uint16(header))
	if p.length > maxPacket {
		return fmt.Errorf("a packet of %d bytes", p.length)
	}
	_, _ = reader.Discard(2) // they are there
	if _, err := io.ReadFull(reader, p.data[:p.length]); err != nil {
		return fmt.Errorf("in the middle of a packet: %w", err)
	}
	return nil
}

// addrPort is comparable, which an address of package net is not. What is none of TCP's is zero.
func addrPort(address net.Addr) netip.AddrPort {
	if tcp, isTCP := address.(*net.TCPAddr); isTCP {
		whole := tcp.AddrPort()
		return netip.AddrPortFrom(whole.Addr().Unmap().WithZone(""), whole.Port()) // as ICE names addresses
	}
	return netip.AddrPort{}
}

// tcpGate is where one connection's TCP comes in, at one local address: the
// [net.PacketConn] of a candidate. Its peer may open several, and leave those that it does not use.
type tcpGate struct {
	mux     *tcpMux       // static after construction, as are the next four
	key     gateKey       //
	local   *net.TCPAddr  //
	arrived chan *packet  // of all streams; capacity tcpUnread
	closed  chan struct{} // closed by Close

	work sync.WaitGroup // the streams

	mu      sync.Mutex
	ended   bool                          // guarded by mu: Close was called
	streams map[netip.AddrPort]*tcpStream // guarded by mu; by the remote address, bounded by maxStreams
}

// tcpStream is one TCP connection; its reader and its writer share it.
type tcpStream struct {
	conn net.Conn
	out  *packetio.Buffer // what waits to be sent; closed to end the writer
}

// serve hands pion what comes until the stream ends, beginning with what was read already.
func (g *tcpGate) serve(stream *tcpStream, reader *bufio.Reader, next *packet) error {
	defer g.work.Done()
	defer g.leave(stream)
	g.work.Go(stream.write)
	for {
		next.from = stream.conn.RemoteAddr()
		select {
		case g.arrived <- next:
		case <-g.closed:
			return nil
		}
		next = g.mux.packets.Get().(*packet)
		if err := next.read(reader); err != nil {
			return err
		}
	}
}

// add counts a TCP connection in, until leave and work.Done.
func (g *tcpGate) add(conn net.Conn) (*tcpStream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.ended:
		return nil, net.ErrClosed
	case len(g.streams) >= maxStreams:
		return nil, errTooManyStreams
	}
	stream := &tcpStream{conn: conn, out: packetio.NewBuffer()}
	stream.out.SetLimitSize(tcpQueue)
	g.streams[addrPort(conn.RemoteAddr())] = stream
	g.work.Add(1)
	return stream, nil
}

// leave ends a stream that can be read no longer; what waits to be sent is sent nevertheless.
func (g *tcpGate) leave(stream *tcpStream) {
	g.mu.Lock()
	delete(g.streams, addrPort(stream.conn.RemoteAddr()))
	g.mu.Unlock()
	stream.end()
}

// end lets the writer finish, for a short while.
func (s *tcpStream) end() {
	_ = s.conn.SetWriteDeadline(time.Now().Add(flushTimeout)) // it fails only where the connection has ended
	_ = s.out.Close()                                         // it never fails
}

// write sends what waits, as much as there is at once, until the end.
func (s *tcpStream) write() {
	defer s.conn.Close() // which ends the reader
	writer := bufio.NewWriterSize(s.conn, tcpBuffer)
	packet := make([]byte, 2+maxPacket)
	for {
		n, err := s.out.Read(packet[2:])
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(packet, uint16(n))
		if _, err := writer.Write(packet[:2+n]); err != nil {
			return
		}
		if s.out.Count() == 0 && writer.Flush() != nil {
			return
		}
	}
}

// ReadFrom implements [net.PacketConn].
func (g *tcpGate) ReadFrom(buffer []byte) (int, net.Addr, error) {
	select {
	case p := <-g.arrived:
		n, from := copy(buffer, p.data[:p.length]), p.from
		g.mux.packets.Put(p)
		return n, from, nil
	case <-g.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements [net.PacketConn]; it never blocks.
func (g *tcpGate) WriteTo(data []byte, to net.Addr) (int, error) {
	g.mu.Lock()
	stream := g.streams[addrPort(to)]
	g.mu.Unlock()
	if stream == nil || len(data) > maxPacket {
		return 0, io.ErrClosedPipe // pion's sign that nothing can be sent there any more
	}
	n, err := stream.out.Write(data)
	if errors.Is(err, packetio.ErrFull) {
		return len(data), nil // lost on the way
	}
	return n, err
}

// Close ends all streams, and waits for them.
func (g *tcpGate) Close() error {
	g.mux.remove(g.key)
	g.mu.Lock()
	if !g.ended {
		g.ended = true
		close(g.closed)
	}
	for _, stream := range g.streams {
		stream.end()
	}
	g.mu.Unlock()
	g.work.Wait()
	return nil
}

// LocalAddr implements [net.PacketConn].
func (g *tcpGate) LocalAddr() net.Addr { return g.local }

// SetDeadline implements [net.PacketConn]. pion sets one only right before Close, which ends reading by itself.
func (g *tcpGate) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.PacketConn]; see SetDeadline.
func (g *tcpGate) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.PacketConn]; writing never blocks.
func (g *tcpGate) SetWriteDeadline(time.Time) error { return nil }
