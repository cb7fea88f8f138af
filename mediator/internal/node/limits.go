package node

import (
	"net/netip"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/ice"
	"p2pcdn/mediator/internal/limits"
	"p2pcdn/mediator/internal/neighbours"
	"p2pcdn/mediator/internal/relay"
	"p2pcdn/mediator/internal/router"
	"p2pcdn/mediator/internal/session"
	"p2pcdn/mediator/internal/wsserver"
)

// Off switches a limit off.
const Off = limits.Off

// Limits are how much of everything there may be, as the rooms take them: zero is
// the default of the room, Off is no limit. Of Session, Router and Relay the limits and
// times alone are looked at.
type Limits struct {
	Connections   int // WebSockets
	PerAddress    int // WebSockets of one address, or one /64
	MessageLength int // bytes
	Session       session.Config
	Router        router.Config
	Relay         relay.Config
	Records       discovery.RecordLimits
	Discovery     discovery.Timing
	Neighbours    neighbours.Timing
	ICE           ice.Limits
}

// DefaultLimits returns the limits of a mediator in the world, each with its number.
func DefaultLimits() Limits {
	return Limits{
		Connections: wsserver.DefaultMaxSessions, PerAddress: wsserver.DefaultMaxPerAddress, MessageLength: mediation.MaxMessageSize,
		Session: session.Config{}.WithDefaults(),
		Router:  router.Config{}.WithDefaults(),
		Relay:   relay.Config{}.WithDefaults(),
		Records: discovery.DefaultRecordLimits,
		ICE:     ice.Limits{}.WithDefaults(),
	}
}

// ParseProxy reads an address or a network (CIDR) of proxies.
func ParseProxy(text string) (netip.Prefix, error) { return wsserver.ParseProxy(text) }
