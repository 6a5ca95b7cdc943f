package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// DeleteLog removes the log of tp: waiters get ErrClosed, the directory is renamed at once and removed later. It is
// durable when it returns. Errors: ErrUnknownLog, ErrOffline, ErrNoSpace.
func (s *Store) DeleteLog(tp TopicPartition) error { return s.DeleteLogs([]TopicPartition{tp})[0] }

// DeleteLogs is DeleteLog for several partitions, with one error, or nil, for each in order. It fsyncs each log directory once. Until it returns,
// no other operation that changes one of the logs goes on: the caller keeps the number small.
func (s *Store) DeleteLogs(tps []TopicPartition) []error {
	errs := make([]error, len(tps))
	byDir := map[*logDir][]*deletion{}
	seen := make(map[*Log]bool, len(tps))
	for i, tp := range tps {
		l := s.Log(tp)
		if l == nil || seen[l] {
			errs[i] = fmt.Errorf("%w: %s", ErrUnknownLog, tp)
			continue
		}
		seen[l] = true
		// Nobody else takes this lock of two logs.
		l.adminMu.Lock()
		defer l.adminMu.Unlock()
		l.fail(fmt.Errorf("%w: %s was deleted", ErrClosed, tp), false)
		if err := s.cleaner.cutBack(l.dir.path, tp, -1); err != nil {
			s.log.Warn("cleaner checkpoint not written", "partition", tp.String(), "error", err)
		}
		byDir[l.dir] = append(byDir[l.dir], &deletion{log: l, err: &errs[i]})
	}
	for d, deletions := range byDir {
		d.removePartitions(deletions)
		s.mu.Lock()
		for _, del := range deletions {
			if *del.err == nil && s.mu.logs[del.log.tp] == del.log {
				delete(s.mu.logs, del.log.tp)
				delete(d.logs, del.log.tp)
				delete(d.start, del.log.tp)
			}
		}
		s.mu.Unlock()
		d.moved.Store(true)
	}
	return errs
}

// deletion is one log that is being deleted.
type deletion struct {
	log     *Log
	renamed string // the path to which its directory was renamed; "" when there is none
	err     *error
}

// removePartitions takes the directories out of the way. The checkpoint lock keeps a checkpoint from writing into a directory of the
// same name that comes after.
func (d *logDir) removePartitions(deletions []*deletion) {
	d.ckptMu.Lock()
	defer d.ckptMu.Unlock()
	renamed := false
	for _, del := range deletions {
		*del.err = d.renameDeleted(del)
		renamed = renamed || del.renamed != ""
	}
	if !renamed {
		return
	}
	err := d.store.o.FS.SyncDir(d.path)
	for _, del := range deletions {
		switch {
		case del.renamed == "":
		case err != nil:
			*del.err = d.deletionFailed(del.log, err)
		default:
			d.removeDeleted(del)
		}
	}
}

// removeDeleted removes a renamed directory later, or at once and not gently where the topic's file.delete.delay.ms is 0.
func (d *logDir) removeDeleted(del *deletion) {
	delayMs := max(del.log.cfg.Load().FileDeleteDelayMs, 0)
	path, segs := del.renamed, del.log.segments()
	d.store.removeLater(d, del.log.tp, delayMs, func() {
		if delayMs == 0 {
			d.store.removeTree(path)
		} else {
			d.removeTreeGently(path, segs)
		}
	})
}

// renameDeleted renames the directory of one log, which the caller makes durable.
func (d *logDir) renameDeleted(del *deletion) error {
	l := del.log
	l.shut()
	l.mu.Lock()
	onDisk := l.mu.onDisk
	l.mu.Unlock()
	if !onDisk {
		return nil
	}
	if err := d.err(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrOffline, d.path, err)
	}
	to := filepath.Join(d.path, fmt.Sprintf("%s.%s%s", l.tp, d.store.newID().hex(), deleteSuffix))
	switch err := d.store.o.FS.Rename(l.part.path, to); {
	case err == nil:
		del.renamed = to
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return d.deletionFailed(l, err)
	}
}

// deletionFailed settles what an error of a rename or of its fsync means.
func (d *logDir) deletionFailed(l *Log, err error) error {
	if isNoSpace(err) {
		return fmt.Errorf("%w: delete %s: %w", ErrNoSpace, l.tp, err)
	}
	d.fail(err)
	return fmt.Errorf("%w: delete %s: %w", ErrOffline, l.tp, err)
}
