package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ICMP echo: RFC 792.
const (
	echoRequest = 8
	echoReply   = 0
	echoLength  = 64 // bytes of a message, header included, as the usual command has it
)

// deadAfter is after how many answers that did not come, and none that did, no more are waited for.
const deadAfter = 5

// Ping measures n round trips from the host to an address, one after the other, and waits for each for as long as patience says.
// Those that were lost are left out; where all are, fewer are tried.
func (h *Host) Ping(ctx context.Context, to netip.Addr, n int, patience time.Duration) ([]time.Duration, error) {
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening a socket for pings on %s: %w", h.Name, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	var trips []time.Duration
	// The mark tells this ping's answers from those of others: each socket of the host hears all of them.
	mark := uint16(time.Now().UnixNano())
	for number := range n {
		trip, err := echo(conn, to, mark, uint16(number), patience)
		if ctx.Err() != nil {
			return trips, ctx.Err()
		}
		if err == nil {
			trips = append(trips, trip)
		} else if len(trips) == 0 && number+1 == deadAfter {
			break
		}
	}
	return trips, nil
}

// echo makes one round trip.
func echo(conn net.PacketConn, to netip.Addr, mark, number uint16, patience time.Duration) (time.Duration, error) {
	message := make([]byte, echoLength)
	message[0] = echoRequest
	binary.BigEndian.PutUint16(message[4:], mark)
	binary.BigEndian.PutUint16(message[6:], number)
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(patience)); err != nil {
		return 0, err
	}
	if _, err := conn.WriteTo(message, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, err
	}
	answer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(answer)
		if err != nil {
			return 0, err
		}
		trip := time.Since(began)
		ip, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP.To4())
		if n >= 8 && ip == to && answer[0] == echoReply && binary.BigEndian.Uint16(answer[4:]) == mark && binary.BigEndian.Uint16(answer[6:]) == number {
			return trip, nil
		}
	}
}

// checksum is that of RFC 1071.
func checksum(message []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(message); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(message[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
