package engine

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/ioqueue"
)

// What recovery has scanned above the recovery point may be in the page cache only: a killed process leaves bytes and names there, good to read, that a
// power cut would take. It must not count as durable before it was fsynced. When that happens depends on the policy:
//
//	commit          | before the log is open: what is served must survive
//	interval, never | in the background, from the moment when the log is open: an acknowledgement promised the page cache, and that is where it is.
//	                | The durable offset, and with it the recovery point, stays where it was until then
//	anything cut    | before the log is open, whatever the policy: what was cut off could come back behind new records of the same length
//
// A topic's own policy is known only when the metadata is: settleForCommit.

// foundUnsynced says that recovery found something that has to be fsynced.
func (l *Log) foundUnsynced(o *opened) bool {
	if !o.scanned && !o.dirty {
		return false
	}
	return o.dirty || o.logEnd > l.start.recoveryPoint || o.logEnd <= o.logStart
}

// settlesLater says that the fsync may follow the opening.
func (l *Log) settlesLater(o *opened, cfg *LogConfig) bool {
	return cfg.Fsync != ioqueue.PolicyCommit && o.fault == nil && !o.dirty && len(o.segs) > 0 && l.foundUnsynced(o)
}

// settleRecovered makes durable what recovery has cut and found, or has that done later.
func (l *Log) settleRecovered(o *opened, later bool) error {
	active := l.active()
	if active != nil {
		// The first sync makes the name durable, which may be all that was missing.
		active.file.unnamed.Store(true)
	}
	l.part.unnamed.Store(!l.start.clean)
	if !l.foundUnsynced(o) {
		if active != nil && o.scanned {
			// A killed process may have cut off a failed write and not fsynced that. The fsync of the next append will do.
			active.unsettled = true
		}
		return nil
	}
	if later {
		l.recoveredEnd.Store(o.logEnd)
	}
	for i, s := range o.segs {
		end := o.logEnd
		if i+1 < len(o.segs) {
			if end = o.segs[i+1].base; end <= l.start.recoveryPoint {
				continue
			}
		}
		s.file.unnamed.Store(true)
		switch {
		case later:
			l.stream.Recovered(s.file, s.size.Load()-l.scannedFrom(s), end)
		case s != active:
			if err := s.file.Sync(); err != nil {
				return syncError(err)
			}
		}
	}
	if active == nil || later {
		return nil
	}
	return l.stream.SyncNow()
}

// syncDir makes the names in the partition's directory durable, while the log is opened.
func (l *Log) syncDir() error { return syncError(l.part.fs.SyncDir(l.part.path)) }

// errSync marks an fsync that failed while a log was opened. The next call would open the log anew, and must not find one that succeeds.
var errSync = errors.New("fsync failed")

// syncError marks err, unless the fsync was not even tried for want of a descriptor.
func syncError(err error) error {
	if err == nil || lacksResources(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errSync, err)
}

// scannedFrom is the position in a recovered segment from which on its records lie above the recovery point.
func (l *Log) scannedFrom(s *segment) int64 {
	if s.base >= l.start.recoveryPoint {
		return 0
	}
	b, ok, err := s.locateScanned(l.start.recoveryPoint)
	if err != nil || !ok {
		return s.size.Load()
	}
	return b.pos
}

// settling says that what recovery found is not durable yet.
func (l *Log) settling() bool {
	return l.loaded.Load() && l.off.load().Durable < l.recoveredEnd.Load()
}

// settleForCommit waits until what recovery found is durable, if the log was opened before the metadata named its policy, and that is commit: nothing may
// be served that a power cut could take. A log where that fails cannot be read.
func (l *Log) settleForCommit(cfg *LogConfig) error {
	if cfg.Fsync != ioqueue.PolicyCommit || !l.settling() {
		return nil
	}
	err := l.Sync()
	if err != nil {
		l.fail(fmt.Errorf("%w: %s: sync of what recovery found: %w", ErrOffline, l.tp, err), false)
	}
	return err
}
