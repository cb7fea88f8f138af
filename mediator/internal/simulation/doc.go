// Package simulation is an experiment: networks of 10, 100 and 1,000 mediators live
// through an hour in which a tenth of them die without a word, and what happens is counted.
//
//	go test ./mediator/internal/simulation -run Simulate -simulate 10,100,1000 -simulate.out /tmp/simulation -timeout 300m -v
//
// Each mediator is the real router, relay and discovery, with go-libp2p and
// go-libp2p-kad-dht below, over package memnet; the time is that of a bubble of
// testing/synctest. README.md has the model, the results, and what they changed.
//
// Files: world.go the mediators and their death; peers.go seeders and leechers;
// trace.go how lookups go; run.go the order of events; result.go, report.go and
// draw.go what comes of it.
package simulation
