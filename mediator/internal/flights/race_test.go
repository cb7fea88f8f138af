//go:build race

package flights

// raced says that the race detector is there. It is for small networks: in a bubble of synctest with a great many timers it ends
// the program now and then (golang/go#78156). scripts/test.sh runs the large ones without it.
const raced = true
