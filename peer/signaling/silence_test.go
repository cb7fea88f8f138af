package signaling

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// fragile is a connection that can be cut: what is sent over it then is lost, and nobody is told.
type fragile struct {
	net.Conn
	cut *atomic.Bool
}

func (f fragile) Write(data []byte) (int, error) {
	if f.cut.Load() {
		return len(data), nil
	}
	return f.Conn.Write(data)
}

// A mediator that is cut off says nothing, and refuses nothing. Within half a minute its peers
// are at another one, also where most of those that it named are dead.
func TestAMediatorThatIsCutOffIsLeft(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		known := w.add("known.example", naming("ws://dead.example/mediation", learntURL, "ws://dead-too.example/mediation"))
		w.add("learnt.example", naming())
		var cut atomic.Bool
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := w.dial(ctx, network, address)
			if err == nil && address == "known.example:80" {
				conn = fragile{conn, &cut}
			}
			return conn, err
		}
		c := Start(Config{URLs: []string{known.url}, Dial: dial, Chance: seeded(1)})
		event[Connected](t, c)
		time.Sleep(pingEach + time.Second) // of the bubble: a ping was just answered, which is the worst moment
		cut.Store(true)
		began := time.Now()
		for e := range c.Events() {
			if connected, is := e.(Connected); is {
				if took := time.Since(began); connected.URL != learntURL || took > 30*time.Second {
					t.Errorf("it is connected to %s after %v", connected.URL, took)
				}
				break
			}
		}
		w.end(c)
	})
}
