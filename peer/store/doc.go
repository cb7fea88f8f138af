// Package store keeps content on disk: what is seeded, and what is being fetched.
// Nothing here ever holds a whole piece in memory: blocks go straight to and from the disk.
//
// # Sources
//
// A [Source] is a file that is seeded, opened for reading only. It hands out no bytes
// that were not checked: it hashes the file when it is opened, and whether a block is still what was
// hashed is seen by the file's length and time of change, which are looked at after each read. If they are
// others, a piece is hashed again when it is next read: a file that was only
// touched goes on being served; one whose content changed fails with [CodeChanged],
// from then on and for every block.
//
// Hashing every piece once more at its first read, with the file unchanged since, would
// show nothing that the time of change does not, and take a core for half of the
// first leecher's download. A time of change tells only as finely as a file system
// counts it, though. A file that changed less than two seconds ago may change
// once more without showing it: then each piece is hashed at its first read, and again
// after those two seconds. Whoever sets a file's time back after changing
// it, or writes to it through a memory mapping, which shows late, deceives us, but not the receiver, who checks too.
//
// # Targets
//
// A [Target] is a file that is being fetched. Blocks are written at their place in the
// part file as they come, before they are verified: a temporary file beside the final one
// (".<name>.<16 digits of the full hash>.part", hidden, sparse, at full length from the beginning). Which
// pieces are right is kept by the caller. Commit makes sure that the data is on
// the disk and gives the file its final name, without ever replacing
// another file unless that was asked for. Under the final name there is the whole content or nothing.
//
// The part file of a target that is closed without Commit, or whose process is killed, stays, if
// anything was written to it. The next attempt at the same content and place opens it
// again, and Check hashes it and finds what is right. Nothing that it says
// of itself is trusted, and there is nothing else to trust: no list of pieces is kept, which
// could be wrong. That also makes it unnecessary to wait for the disk before
// Commit: what a loss of power takes is seen as missing. Discard throws the part file away.
//
// [CreateTemporary] makes a target for content that is handed on as it comes: nothing of it stays.
//
// While a part file is open it is locked, so that two processes never fetch into the
// same one: the second gets [CodeBusy]. The system drops the lock when a process ends, however it
// does. A symbolic link, or a file with a second name, is not written to in the part file's place.
//
// # Failures
//
// Every failure is an [*Error] with a code, but for the end of a context. None of them leaves anything half done
// under the final name.
package store
