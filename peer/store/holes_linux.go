package store

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// seekData is SEEK_DATA of lseek(2).
const seekData = 3

// nextData returns where, from offset on, a sparse file next holds data; past any end
// if nowhere. Where the file system does not say, everything is data. It moves the file's own
// offset, which nothing else here uses.
func nextData(file *os.File, offset int64) int64 {
	next, err := file.Seek(offset, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return math.MaxInt64
	case err != nil:
		return offset
	}
	return next
}
