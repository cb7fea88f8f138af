//go:build !race

package flights

const raced = false
