package vfs

import "strings"

// Op names the operations of FS and File, as a set: rules of ErrorFS may name
// several.
type Op uint32

// The operations. OpWrite stands for WriteAt and Writev, OpSync for Datasync
// and Sync.
const (
	OpOpen Op = 1 << iota
	OpCreate
	OpRead
	OpWrite
	OpSize
	OpTruncate
	OpSync
	OpWriteBack
	OpPreallocate
	OpClose
	OpRemove
	OpRename
	OpMkdir
	OpSyncDir
	OpList
	OpStat
	OpUsage
	OpLock
	OpSyncAll
	OpWriteOut

	// OpAny is all of them.
	OpAny Op = 1<<iota - 1
	// OpMutating are those that change what a crash may leave behind; Mem counts these.
	OpMutating = OpCreate | OpWrite | OpTruncate | OpSync | OpPreallocate |
		OpRemove | OpRename | OpMkdir | OpSyncDir | OpSyncAll
)

var opNames = [...]string{
	"open", "create", "read", "write", "size", "truncate", "sync", "writeback", "preallocate",
	"close", "remove", "rename", "mkdir", "syncdir", "list", "stat", "usage", "lock", "syncall", "writeout",
}

// String returns the names joined by "|".
func (o Op) String() string {
	var names []string
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}
