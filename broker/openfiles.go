package broker

import "golang.org/x/sys/unix"

// openFilesMost is the most log files that are held open when nobody says how many. An append to a partition whose file is not open takes 12 us
// longer, a tenth of its time, so those in use should all fit; each keeps its inode in the kernel's memory.
const openFilesMost = 50_000

// openFilesMax is the number of log files held open at a time: what log.open.files.max says, or half of limit, which is how many files the
// process may open. The other half is for connections and for the broker's own files.
func openFilesMax(configured int64, limit uint64) int {
	if configured > 0 {
		return int(configured)
	}
	return int(min(max(limit/2, 1), openFilesMost))
}

// openFilesLimit is RLIMIT_NOFILE, which the Go runtime has raised to its hard limit.
func openFilesLimit() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 2 * openFilesMost
	}
	return limit.Cur
}
