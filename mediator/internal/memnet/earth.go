package memnet

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

// city is where servers are. The weights are about those of public servers that volunteers
// run (Tor relays, Bitcoin and IPFS nodes): two fifths in Europe, a third in North America.
type city struct {
	latitude, longitude float64 // degrees
	weight              float64
}

var cities = []city{
	{50.1, 8.7, 14},   // Frankfurt
	{48.9, 2.3, 8},    // Paris
	{52.4, 4.9, 8},    // Amsterdam
	{51.5, -0.1, 5},   // London
	{60.2, 24.9, 5},   // Helsinki
	{52.2, 21.0, 3},   // Warsaw
	{40.7, -74.0, 10}, // New York
	{39.0, -77.5, 8},  // Ashburn
	{37.8, -122.4, 7}, // San Francisco
	{32.8, -96.8, 4},  // Dallas
	{43.7, -79.4, 3},  // Toronto
	{35.7, 139.7, 5},  // Tokyo
	{1.35, 103.8, 5},  // Singapore
	{37.6, 127.0, 2},  // Seoul
	{22.3, 114.2, 2},  // Hong Kong
	{19.1, 72.9, 3},   // Mumbai
	{-23.5, -46.6, 3}, // São Paulo
	{-33.9, 151.2, 3}, // Sydney
	{-26.2, 28.0, 1},  // Johannesburg
	{25.2, 55.3, 1},   // Dubai
}

const (
	earthRadius = 6371.0 // km
	lightSpeed  = 299.8  // km/ms

	// scatter is how far from the middle of its city a host may be, in degrees: some 300 km.
	scatter = 3.0

	// A packet takes longer than light would: fibre makes it 1.5 times, and no cable is straight. Bozkurt et al., "Why
	// Is the Internet so Slow?!" (PAM 2017), find 3.2 times as the median of pings that include access
	// networks; between well connected cities it is 1.9 (New York–London) to 3.1 (Frankfurt–São Paulo).
	leastDetour, mostDetour = 1.8, 3.0

	// atHome of the hosts have an access network of 3 to 12 ms in each direction (DSL, cable, fibre); the others
	// are in data centres, at 0.2 to 1 ms.
	atHome = 0.35
)

// site is where a host is.
type site struct {
	x, y, z float64 // on the unit sphere
	access  time.Duration
}

// Earth returns a latency for [Config]: hosts are spread over the cities of the
// world, from the seed and the numbers of the hosts alone, and the time between two
// follows from their distance, a detour of the pair's own, and the access network of
// each. Half of the round trips take more than about 125 ms, a tenth less than 20 and a tenth more than 230.
// It is the same in both directions.
func Earth(seed uint64) func(from, to *Host) time.Duration {
	return func(from, to *Host) time.Duration {
		a, b := siteOf(seed, from.number), siteOf(seed, to.number)
		angle := math.Acos(max(-1, min(1, a.x*b.x+a.y*b.y+a.z*b.z)))
		low, high := min(from.number, to.number), max(from.number, to.number)
		detour := leastDetour + (mostDetour-leastDetour)*chance(seed, low, high+1).Float64()
		way := angle * earthRadius / lightSpeed * detour // ms
		return a.access + b.access + time.Duration(way*float64(time.Millisecond))
	}
}

func siteOf(seed uint64, number int) site {
	random := chance(seed, number, 0)
	total := 0.0
	for _, c := range cities {
		total += c.weight
	}
	at := random.Float64() * total
	here := cities[len(cities)-1]
	for _, c := range cities {
		if at -= c.weight; at < 0 {
			here = c
			break
		}
	}
	latitude := (here.latitude + scatter*(2*random.Float64()-1)) * math.Pi / 180
	longitude := (here.longitude + scatter*(2*random.Float64()-1)) * math.Pi / 180
	access := 0.2 + 0.8*random.Float64()
	if random.Float64() < atHome {
		access = 3 + 9*random.Float64()
	}
	return site{
		x: math.Cos(latitude) * math.Cos(longitude), y: math.Cos(latitude) * math.Sin(longitude), z: math.Sin(latitude),
		access: time.Duration(access * float64(time.Millisecond)),
	}
}

// chance is a source of its own for each pair of numbers.
func chance(seed uint64, a, b int) *rand.Rand {
	sum := fnv.New64a()
	for _, word := range []uint64{seed, uint64(a), uint64(b)} {
		var bytes [8]byte
		binary.LittleEndian.PutUint64(bytes[:], word)
		_, _ = sum.Write(bytes[:]) // it has no errors
	}
	return rand.New(rand.NewPCG(seed, sum.Sum64()))
}
