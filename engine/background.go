package engine

import (
	"errors"
	"io/fs"
	"time"
)

// background is the store's goroutine: checkpoints, retention, expiry. It ends with Close.
func (s *Store) background() {
	defer s.done.Done()
	checkpoints := s.ticker(s.o.CheckpointInterval)
	defer checkpoints.stop()
	retention := s.ticker(s.o.RetentionInterval)
	defer retention.stop()
	disks := s.ticker(s.o.DiskCheckInterval)
	if s.o.DiskLimits == nil {
		disks = s.ticker(-1)
	}
	defer disks.stop()
	for n := 0; ; {
		select {
		case <-s.stop:
			return
		case <-checkpoints.c:
			n++
			// The high watermarks matter to replication only, and are advisory there: every fifth time will do.
			if err := s.checkpointMoved(n%5 == 0); err != nil && !errors.Is(err, ErrOffline) {
				s.log.Warn("checkpoint not written, will be tried again", "error", err)
			}
			checkpoints.again()
		case <-retention.c:
			s.RunRetention()
			retention.again()
		case <-disks.c:
			s.checkDisks()
			disks.again()
		}
	}
}

// ticker is a timer that is armed again after the work, so that slow work does not pile up.
type ticker struct {
	c        <-chan time.Time
	interval time.Duration
	stop     func()
	again    func()
}

func (s *Store) ticker(interval time.Duration) ticker {
	if interval < 0 {
		return ticker{stop: func() {}, again: func() {}}
	}
	t := s.o.Clock.NewTimer(interval)
	return ticker{c: t.C(), interval: interval, stop: func() { t.Stop() }, again: func() { t.Reset(interval) }}
}

// checkpointMoved passes over the directories where nothing has moved, so that an idle broker does nothing.
func (s *Store) checkpointMoved(highWatermarks bool) error {
	var errs []error
	for _, d := range s.dirs {
		if d.err() != nil || !d.moved.Swap(false) {
			continue
		}
		if err := d.checkpoint(highWatermarks); err != nil {
			d.moved.Store(true)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Checkpoint writes the recovery points, log starts and high watermarks that have moved. The store does so by itself
// every CheckpointInterval. Directories that are offline are passed over. Errors: ErrNoSpace, ErrOffline.
func (s *Store) Checkpoint() error { return s.checkpoint(true) }

func (s *Store) checkpoint(highWatermarks bool) error {
	var errs []error
	for _, d := range s.dirs {
		if d.err() != nil {
			continue
		}
		if err := d.checkpoint(highWatermarks); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeLater has a renamed directory removed after delayMs, and after a checkpoint without it: as long as an old checkpoint could name the
// partition, the renamed directory is what tells a deletion from a loss. Then remove is called.
func (s *Store) removeLater(d *logDir, tp TopicPartition, delayMs int64, remove func()) {
	s.after(d, delayMs, func() {
		if d.inCheckpoint(tp) {
			if err := d.checkpoint(false); err != nil {
				return // the next start tries again
			}
		}
		remove()
	})
}

// forgetDeleted takes a deleted log of this name out of the checkpoints before a new one may write: they would be taken for the new one's.
func (s *Store) forgetDeleted(tp TopicPartition) error {
	for _, d := range s.dirs {
		s.mu.RLock()
		_, known := d.start[tp]
		exists := s.mu.logs[tp] != nil
		s.mu.RUnlock()
		if exists {
			return nil
		}
		if known || d.err() != nil || !d.inCheckpoint(tp) {
			continue
		}
		if err := d.checkpoint(false); err != nil {
			return err
		}
	}
	return nil
}

// inCheckpoint says whether a checkpoint file still names the partition.
func (d *logDir) inCheckpoint(tp TopicPartition) bool {
	d.ckptMu.Lock()
	defer d.ckptMu.Unlock()
	_, point := d.ckptPoints[tp]
	_, start := d.ckptStarts[tp]
	return point || start
}

// after runs a job on a worker of the directory, delayMs from now, unless the store is closed by then.
func (s *Store) after(d *logDir, delayMs int64, job func()) {
	guarded := func() {
		select {
		case <-s.stop:
		default:
			job()
		}
	}
	if delayMs <= 0 {
		d.sched.Go(guarded)
		return
	}
	s.o.Clock.AfterFunc(time.Duration(delayMs)*time.Millisecond, func() { d.sched.Go(guarded) })
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
