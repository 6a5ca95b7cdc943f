package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
)

// refusal is a reason to refuse the data at start, and what the operator can do about it.
type refusal struct {
	err  error
	next string
}

// refusals are told apart by the first row that errors.Is finds. Nothing on disk was changed for any of them, but for recovery of what lies
// above the recovery points, so that every one of these can be tried.
func refusals() []refusal {
	const restore = "without a copy, records can still be printed: weir dump DIRECTORY/TOPIC-N --records. FORMATS.md describes the files"
	return []refusal{
		{engine.ErrLocked, ""}, // says it itself
		{engine.ErrForeignDirectory, "name this broker's own directories (--data-dir), or set node.id as in their meta.properties; " +
			"where that file is missing or damaged, restore it from a copy or write it again: version=1, node.id, cluster.id"},
		{cluster.ErrForeign, "name this broker's own directories (--data-dir); if it is meta.properties that is damaged, correct its cluster.id"},
		{cluster.ErrMissing, "name all of this broker's directories, in the same order (--data-dir); if files were lost, restore __cluster_metadata " +
			"and __cluster_metadata-0 together from the latest copy; " + restore},
		{cluster.ErrCorrupt, "look for errors of the disk in the kernel's log and start again, for what was read may differ from what is on disk; " +
			"if the same is found, restore __cluster_metadata and __cluster_metadata-0 together from the latest copy; " + restore},
		{engine.ErrCorrupt, "restore the file from a copy, or correct it if it is text; FORMATS.md describes the files"},
		{fs.ErrPermission, "give the user that runs weir the right to read and write the directory and all in it"},
		{syscall.EROFS, "mount the file system writable, or name another directory (--data-dir)"},
		{engine.ErrNoSpace, "make space on the disk"},
		{cluster.ErrNoSpace, "make space on the disk"},
		{syscall.ENOSPC, "make space on the disk"},
		{engine.ErrOffline, "look for errors of the disk in the kernel's log; weir doctor --data-dir DIRECTORY checks what it can"},
	}
}

// withNext adds what can be done next to the error of a start that refused its data.
func withNext(err error) error {
	for _, r := range refusals() {
		if errors.Is(err, r.err) {
			if r.next == "" {
				break
			}
			return fmt.Errorf("%w\nwhat to do: %s", err, r.next)
		}
	}
	return err
}
