// Package run does what a lab file says on the hosts of a network: it starts mediators, peers, browsers and trackers as
// processes of their own, has them introduce peers to each other, and hands out a row for each introduction.
//
// Whatever goes wrong with one introduction is its row, with a code; what goes wrong with a run, as a program
// that ends by itself, is that of all rows which it leaves out, and the next run is tried all the same. Each run has mediators
// of its own, which know nothing of those before.
package run
